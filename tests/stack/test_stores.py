"""Sources that are watched: what changes is published until somebody ends it, and nothing is lost or there twice."""

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import orjson
import pytest
from aiobotocore.session import get_session
from aiokafka import AIOKafkaProducer

from agents.kafka.connection import connection
from agents.kafka.reader import log_reader
from tests.kit.forks import Forked
from tests.kit.harness import World, until
from tests.kit.moto import LOGIN, moto
from tests.kit.stores import ACCOUNT, serving
from tests.stack.test_sources import DIES, PLACES, folder_of, ingest, records

MODEL_SPEED = "fast"
_numbers = itertools.count()


class Watching:
    """`penstock ingest … --watch`, and the passes that it has told."""

    def __init__(self, process: Forked, output: Path, errors: Path) -> None:
        self.process = process
        self._output = output
        self._errors = errors
        self._read = 0

    def passes(self) -> list[dict[str, Any]]:
        """All of them so far."""
        return [json.loads(line) for line in self._output.read_text().splitlines(keepends=True) if line[-1] == "\n"]

    async def told(self, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first pass, of those that were not looked at so far, of which that is true; waits for it."""

        async def look() -> bool:
            running, found = self.process.poll() is None, self.passes()
            while self._read < len(found):
                self._read += 1
                if check(found[self._read - 1]):
                    return True
            assert running, self._errors.read_text()
            return False

        await until(look)
        return self.passes()[self._read - 1]

    async def ended(self) -> tuple[int, str]:
        """Exit code, and what it said besides."""
        code = await asyncio.to_thread(self.process.wait, 300)
        return code, self._errors.read_text()


@asynccontextmanager
async def watching(
    world: World, *arguments: object, extra: dict[str, str] | None = None, change: str = ""
) -> AsyncIterator[Watching]:
    """It runs meanwhile."""
    name = world.tmp / f"watch-{next(_numbers)}"
    output, errors = name.with_suffix(".out"), name.with_suffix(".err")
    words = ("ingest", *map(str, arguments), "--json")
    process = await asyncio.to_thread(world.start, *words, output=output, errors=errors, extra=extra, change=change)
    try:
        yield Watching(process, output, errors)
    finally:
        process.kill()
        process.wait()


def published(count: int) -> Callable[[dict[str, Any]], bool]:
    """A pass that published so many."""
    return lambda row: bool(row.get("published") == count)


def failed(count: int) -> Callable[[dict[str, Any]], bool]:
    """A pass in which so many objects failed."""
    return lambda row: bool("objects" in row and row["objects"]["failed"] == count)


def test_a_folder_is_watched_until_sigterm(world: World, tmp_path: Path) -> None:
    """What fails or is refused is told, and the rest goes on; another run of the source between two passes, too."""
    folder = folder_of(tmp_path, 8)
    (folder / "sub").mkdir()
    for number in range(3):
        (folder / f"{number}.md").rename(folder / "sub" / f"{number}.md")

    async def scenario() -> None:
        arguments = ("files", folder, "--watch", "1", "--sync", "--max-deletes", "2", "--exclude", "*.tmp.md")
        async with watching(world, *arguments) as watch:
            await watch.told(published(8))
            (folder / "bad.txt").write_bytes(b"a\0b")
            await watch.told(failed(1))
            await watch.told(failed(0))  # it is looked at again, but not each time
            (folder / "half.tmp.md").write_text("half")
            (folder / "new.md").write_text("# New")
            assert (await watch.told(published(1)))["source"] == f"{folder.as_uri()}/"
            (folder / "sub").rename(tmp_path / "elsewhere")
            (folder / "3.md").write_text("# Other")
            found = await watch.told(published(1))
            assert (found["deleted"], found["gone"]) == (0, 3)
            assert "3 of 9 documents" in found["refused"][0]
            watch.process.send_signal(signal.SIGSTOP)  # perhaps in a pass, whose transaction is refused then
            once = (folder, "--sync", "--max-deletes", "3", "--exclude", "*.tmp.md")
            assert (await asyncio.to_thread(ingest, world, *once, code=1))["deleted"] == 3
            watch.process.send_signal(signal.SIGCONT)
            (folder / "4.md").unlink()
            assert (await watch.told(lambda row: row.get("deleted", 0) > 0))["deleted"] == 1
            watch.process.terminate()
            assert await watch.ended() == (0, "")
        left = {record.key: record.value for record in await records(world)}
        names = sorted(key.decode().rpartition("/")[2] for key, value in left.items() if key and value)
        assert names == ["3.md", "5.md", "6.md", "7.md", "new.md"]

    asyncio.run(scenario())


HOLDS = """
import asyncio
from pathlib import Path
from agents.sources.publish import Publisher
records = Publisher._records

async def held(self, *arguments):
    rows = await records(self, *arguments)
    Path({at!r}).touch()
    while not any(task.cancelling() for task in asyncio.all_tasks()):
        await asyncio.sleep(0.02)
    return rows

Publisher._records = held
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_after_the_transaction_that_is_open(world: World, tmp_path: Path, number: int) -> None:
    folder = folder_of(tmp_path, 3)
    at = tmp_path / "at"

    async def scenario() -> None:
        arguments = ("files", folder, "--watch", "1", "--max-lag", "20")  # one record at a time
        async with watching(world, *arguments, change=HOLDS.format(at=str(at))) as watch:

            async def held() -> bool:
                return at.exists()

            await until(held)
            watch.process.send_signal(number)
            assert await watch.ended() == (0, "")
        assert len(await records(world)) == 1

    asyncio.run(scenario())
    assert ingest(world, folder)["published"] == 2


def notification(name: str, key: str) -> dict[str, Any]:
    """As S3 sends it: the key is encoded, and much else is told that may be wrong by now."""
    told = {"key": quote_plus(key, safe="/"), "size": 1, "eTag": "0" * 32, "sequencer": "0A"}
    return {"eventVersion": "2.1", "eventName": name, "s3": {"bucket": {"name": "handbook"}, "object": told}}


@dataclass
class Bucket:
    """A bucket, with a topic of its notifications that are sent by hand."""

    world: World
    url: str

    @property
    def topic(self) -> str:
        return f"{self.world.name}-events"

    async def put(self, **bodies: str | None) -> None:
        """Objects, by what their keys in `docs/` are without `.md`; None deletes."""
        async with get_session().create_client("s3", endpoint_url=self.url) as client:
            await client.create_bucket(Bucket="handbook")
            for key, body in bodies.items():
                where = {"Bucket": "handbook", "Key": f"docs/{key}.md"}
                if body is None:
                    await client.delete_object(**where)
                else:
                    await client.put_object(**where, Body=body.encode())

    async def notify(self, *told: object) -> None:
        """A record each: a notification, or what is none."""
        async with AIOKafkaProducer(**connection(self.world.settings)) as producer:
            for one in told:
                value = one if isinstance(one, bytes) else orjson.dumps({"Records": [one]})
                await producer.send_and_wait(self.topic, value)

    def watching(self, *arguments: str, change: str = "") -> "AbstractAsyncContextManager[Watching]":
        """Of `docs/`."""
        words = ("s3", "s3://handbook/docs/", "--endpoint", self.url, "--sync", "--max-deletes", "5", *arguments)
        return watching(self.world, *words, "--events", self.topic, extra=LOGIN, change=change)


@pytest.fixture
def bucket(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Empty, with two partitions of notifications."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)

    async def prepare() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(f"{world.name}-events", 2, {})

    asyncio.run(prepare())
    with moto() as url:
        yield Bucket(world, url)


async def total(watch: Watching, **wanted: int) -> None:
    """Wait until all passes together came to that."""

    async def look() -> bool:
        assert watch.process.poll() is None
        found = {name: sum(row.get(name, 0) for row in watch.passes()) for name in wanted}
        return found == wanted

    await until(look)


def test_notifications_lead_to_what_is_there_now(bucket: Bucket) -> None:
    """They come twice, late, for nothing, or not at all; the ingestor is killed in between, and nothing is lost."""

    async def scenario() -> None:
        await bucket.put(a="# A", b="# B")
        async with bucket.watching() as watch:
            await watch.told(published(2))
            await bucket.put(**{"odd +ü%": "# Odd", "b": None})
            odd = notification("ObjectCreated:Put", "docs/odd +ü%.md")
            await bucket.notify(
                odd,
                notification("ObjectRemoved:Delete", "docs/a.md"),  # it is there again, or still
                notification("s3:ObjectCreated:Put", "docs/b.md"),  # it is gone since
                notification("ObjectCreated:Put", "docs/never.md"),
                notification("ObjectCreated:Put", "elsewhere/c.md"),
                b"no notification",
                odd,
            )
            await total(watch, published=3, deleted=1, strange=1)
            watch.process.kill()
        await bucket.put(c="# C", a="# Another")
        told = (notification("ObjectCreated:Put", f"docs/{key}.md") for key in ("c", "a"))
        await bucket.notify(*told)
        async with bucket.watching(change=DIES.format(left=1) + PLACES["with records acknowledged"]) as watch:
            assert (await watch.ended())[0] == 9
        async with bucket.watching() as watch:  # it listens where the other one did, and lists nothing
            await total(watch, published=2)
            assert all(row["objects"]["unchanged"] == 0 for row in watch.passes())
            watch.process.terminate()
            assert await watch.ended() == (0, "")
        await bucket.put(d="# D")  # nobody tells of it
        async with bucket.watching("--watch", "3600") as watch:
            found = await watch.told(published(1))
            assert found["objects"]["unchanged"] == 3
        await bucket.put(e="# E")
        await bucket.notify(notification("ObjectCreated:Put", "docs/e.md"), b"", b"", b"")
        async with log_reader(bucket.world.settings) as reader:  # and retention takes what was told
            ends = await reader.bounds(bucket.topic, range(2))
            await reader.delete_before(bucket.topic, {partition: bound.end for partition, bound in ends.items()})
        async with bucket.watching() as watch:
            found = await watch.told(bool)
            assert (found["published"], found["objects"]["unchanged"]) == (1, 4)

    asyncio.run(scenario())
    made = asyncio.run(records(bucket.world))
    values = [(record.key, record.value) for record in made]
    assert len(values) == len(set(values)), "repeated"
    last = {
        key.decode().rpartition("/")[2]: value for key, value in sorted(values, key=lambda row: row[1] is None) if key
    }
    assert sorted(name for name, value in last.items() if value) == ["a.md", "c.md", "d.md", "e.md", "odd +ü%.md"]


def test_mistakes_are_named(world: World) -> None:
    arguments = ("ingest", "s3", "s3://handbook", "--endpoint", "http://127.0.0.1:1", "--events")
    for words, part in (
        ((f"{world.name}-no",), f"--events {world.name}-no: there is no such topic"),
        ((world.name,), "that is where documents go"),
        (("events", "--dry-run"), "--events and --dry-run exclude each other"),
        (("events", "--strict"), "--events and --strict exclude each other"),
    ):
        done = world.command(*arguments, *words, extra=LOGIN)
        assert (done.returncode, part in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("kind", ["gcs", "azure"])
def test_a_bucket_of_another_store_is_read_again_where_it_changed(world: World, tmp_path: Path, kind: str) -> None:
    with serving(kind, tmp_path) as server:
        server.make("handbook")
        for name in ("a", "b", "drafts/c"):
            server.put("handbook", f"docs/{name}.md", f"# {name}".encode())

        def ingested(*words: str) -> tuple[int, int, int]:
            account = ("--account", ACCOUNT) if kind == "azure" else ()
            arguments = (f"{server.scheme}handbook/docs/", "--endpoint", server.endpoint, *account, "--json", *words)
            done = world.command("ingest", kind, *arguments, extra=server.login)
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
            return found["published"], found["objects"]["unchanged"], found["deleted"]

        assert ingested() == (3, 0, 0)
        server.put("handbook", "docs/a.md", b"# Another")
        assert ingested("--exclude", "drafts/", "--sync") == (1, 1, 0)
        assert ingested("--exclude", "drafts/", "--sync", "--max-deletes", "1", "--delete-excluded") == (0, 2, 1)
    assert {record.key for record in asyncio.run(records(world)) if record.value is None} == {
        f"{server.scheme}handbook/docs/drafts/c.md".encode()
    }
