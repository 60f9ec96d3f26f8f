"""A gateway that speaks S3, and tells Kafka itself what changes in it: what the quick tests send by hand."""

import asyncio
import contextlib
import os
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from aiobotocore.session import get_session
from aiohttp import web

from agents.kafka.reader import log_reader
from agents.local.servers import free_port
from agents.sources.collecting import Options
from agents.sources.run import Ingestion
from agents.sources.state import State
from tests.agents.sources.test_run import run_of
from tests.agents.sources.test_s3 import of
from tests.kit.forks import Forked
from tests.kit.harness import PATIENCE_S, World, until
from tests.kit.stores import GATEWAY, go_binary, running
from tests.stack.test_sources import records
from tests.stack.test_stores import total, watching
from tests.stack.test_web import newest

MODEL_SPEED = "fast"
LOGIN = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_DEFAULT_REGION": "us-east-1"}
NAMES = ["a", "with space", "ümläut", "plus+and%25", "b/c", "d&e=f"]
MANY = 10_000
KILLS = 100
TELL_DELETIONS = """
from pathlib import Path
from agents.sources import collecting
make = collecting.deletion

def deletion(doc):
    Path("{mark}").touch()
    return make(doc)

collecting.deletion = deletion
"""
"""So that a run can be killed when it comes to its deletions, however long it took to come there."""
PAGE = """<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Name>many</Name><Prefix></Prefix><KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>
<IsTruncated>{more}</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>{rows}</ListBucketResult>"""
ROW = """<Contents><Key>{key}.txt</Key><ETag>"{key}"</ETag><Size>9</Size>
<LastModified>2026-11-30T00:00:00.000Z</LastModified></Contents>"""


@contextlib.contextmanager
def gateway(world: World, topic: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """It runs, and keeps objects of `handbook` as files in a folder; older versions of them elsewhere."""

    async def prepare() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(topic, 1, {})

    asyncio.run(prepare())
    for name in ("objects", "versions"):
        (folder / name).mkdir()
    port, login = free_port(), {"ROOT_ACCESS_KEY": LOGIN["AWS_ACCESS_KEY_ID"]}
    login |= {"ROOT_SECRET_KEY": LOGIN["AWS_SECRET_ACCESS_KEY"]}
    command: list[str | Path] = [go_binary(GATEWAY), "--port", f"127.0.0.1:{port}", "--event-kafka-topic", topic]
    command += ["--event-kafka-url", world.settings.kafka.bootstrap_servers, "posix"]
    command += ["--versioning-dir", folder / "versions", folder / "objects"]
    with running(command, f"http://127.0.0.1:{port}", folder, {**os.environ, **login}) as url:
        yield url, folder / "objects" / "handbook"


def test_a_gateway_tells_what_changes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: dict[str, Any]
) -> None:
    topic = f"{world.name}-events"
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)

    async def scenario(url: str) -> None:
        async with get_session().create_client("s3", endpoint_url=url) as client:
            await client.create_bucket(Bucket="handbook")
            kept = {"Status": "Enabled"}
            await client.put_bucket_versioning(Bucket="handbook", VersioningConfiguration=kept)
            arguments = ("s3", "s3://handbook/", "--endpoint", url, "--sync", "--max-deletes", "5", "--events", topic)
            async with watching(world, *arguments, extra=LOGIN) as watch:
                await until(lambda: asyncio.to_thread(lambda: bool(watch.passes())))
                begun = time.monotonic()
                for name in NAMES:
                    await client.put_object(Bucket="handbook", Key=f"{name}.txt", Body=name.encode())
                await total(watch, published=len(NAMES))
                summary[f"events: s from {len(NAMES)} puts to records"] = round(time.monotonic() - begun, 1)
                await client.put_object(Bucket="handbook", Key="a.txt", Body=b"another")
                await total(watch, published=len(NAMES) + 1)
                gone = {"Objects": [{"Key": f"{name}.txt"} for name in NAMES[:3]]}
                await client.delete_objects(Bucket="handbook", Delete=gone)
                await client.delete_object(Bucket="handbook", Key=f"{NAMES[3]}.txt")
                await total(watch, published=len(NAMES) + 1, deleted=4)
                watch.process.terminate()
                assert (await watch.ended())[0] == 0

    with gateway(world, topic, tmp_path) as (url, _):
        asyncio.run(scenario(url))
    last = {record.key: record.value for record in asyncio.run(records(world))}
    texts = [orjson.loads(value)["text"] for value in last.values() if value]
    assert sorted(texts) == sorted(NAMES[4:])


@contextlib.asynccontextmanager
async def many_objects(pages: int) -> AsyncIterator[str]:
    """A server of S3's protocol that lists so many thousands, as fast as it is asked."""

    async def answer(request: web.Request) -> web.Response:
        page = int(request.query.get("continuation-token", 0))
        rows = "".join(ROW.format(key=f"{page:04d}-{number:03d}") for number in range(1000))
        more = "true" if page + 1 < pages else "false"
        return web.Response(text=PAGE.format(more=more, next=page + 1, rows=rows), content_type="application/xml")

    app = web.Application()
    app.router.add_get("/many", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_ten_thousand_objects(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: dict[str, Any]
) -> None:
    """All of them published, and none again."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)

    async def make(url: str) -> None:
        async with get_session().create_client("s3", endpoint_url=url) as client:
            await client.create_bucket(Bucket="handbook")

    with gateway(world, f"{world.name}-events", tmp_path) as (url, folder):
        asyncio.run(make(url))
        for number in range(MANY):
            path = folder / f"{number % 100:02d}" / f"{number:05d}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"Text {number}.")
        for published in (MANY, 0):
            begun = time.monotonic()
            arguments = ("ingest", "s3", "s3://handbook", "--endpoint", url, "--max-lag", str(4 * MANY), "--json")
            done = world.command(*arguments, extra=LOGIN)
            assert done.returncode == 0, done.stderr
            found = orjson.loads(done.stdout)
            assert (found["published"], found["objects"]["unchanged"]) == (published, MANY - published)
            summary[f"{MANY} objects, {published} of them new: s"] = round(time.monotonic() - begun, 1)


def _until_it_deletes(process: Forked, mark: Path) -> None:
    """Or has ended. Looks often: deletions are soon over."""
    deadline = time.monotonic() + PATIENCE_S
    while not mark.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_hundred_kills_over_a_bucket_that_changes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: dict[str, Any]
) -> None:
    """0 lost, 0 twice, 0 stale; a run after that fetches nothing. A third of the kills falls into deletions."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    chance = random.Random(11)
    texts = {f"{number % 100:02d}/{number:05d}.txt": f"Text {number}." for number in range(MANY)}
    edits = dict.fromkeys(texts, 0)
    there = dict(texts)

    async def change(client: Any) -> None:
        """Objects come, go, come back and become others."""
        for key in chance.sample(sorted(texts), 20):
            edits[key] += 1
            there[key] = f"{texts[key]} Edit {edits[key]}."
            await client.put_object(Bucket="handbook", Key=key, Body=there[key].encode())
        gone = chance.sample(sorted(there), 8)
        await client.delete_objects(Bucket="handbook", Delete={"Objects": [{"Key": key} for key in gone]})
        for key in gone:
            del there[key]

    async def scenario(url: str, folder: Path) -> None:
        words = ("ingest", "s3", "s3://handbook", "--endpoint", url, "--sync", "--max-deletes", "100%")
        arguments = (*words, "--max-lag", "1000000", "--json")
        killed = over = deleting = 0
        async with get_session().create_client("s3", endpoint_url=url) as client:
            await client.create_bucket(Bucket="handbook")
            for key, text in texts.items():
                (folder / key).parent.mkdir(exist_ok=True)
                (folder / key).write_text(text)
            while killed < KILLS:
                log, mark = tmp_path / f"ingest-{killed + over}.log", tmp_path / f"deletes-{killed + over}"
                telling = TELL_DELETIONS.format(mark=mark)
                process = world.start(*arguments, output=log, errors=log, extra=LOGIN, change=telling)
                if (killed + over) % 3:
                    await asyncio.sleep(chance.uniform(0.3, 6.0))
                else:
                    await asyncio.to_thread(_until_it_deletes, process, mark)
                    await asyncio.sleep(chance.uniform(0.0, 0.2))
                ran = process.poll() is None
                process.kill()
                process.wait()
                killed, over, deleting = killed + ran, over + (not ran), deleting + (ran and mark.exists())
                await change(client)

        def run() -> dict[str, Any]:
            done = world.command(*arguments, extra=LOGIN)
            assert done.returncode == 0, done.stderr
            return dict(orjson.loads(done.stdout))

        await asyncio.to_thread(run)
        found = await newest(world)
        assert found == {f"s3://handbook/{key}": text for key, text in there.items()}
        found = (await asyncio.to_thread(run))["objects"]
        assert found == {"changed": 0, "unchanged": len(there), "failed": 0}
        counts = [killed, deleting, over, sum(edits.values()), len(there)]
        summary["bucket: kills, of them while it deletes, runs that ended, edits, objects"] = counts
        assert deleting > KILLS // 10

    with gateway(world, f"{world.name}-events", tmp_path) as (url, folder):
        asyncio.run(scenario(url, folder))


AT_ONCE = """
from agents.sources.watch import Watch
begin = Watch.__init__

def at_once(self, *arguments, **named):
    begin(self, *arguments, **named)
    self._every_s = 0.0

Watch.__init__ = at_once
"""


def test_hundreds_of_passes_take_no_more_memory(world: World, tmp_path: Path, summary: dict[str, Any]) -> None:
    """With something to publish in each, and an object that fails in each."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "bad.txt").write_bytes(b"a\0b")

    async def scenario() -> None:
        async with watching(world, "files", folder, "--watch", "1", change=AT_ONCE) as watch:
            process, held = psutil.Process(watch.process.pid), list[int]()
            for passes in (100, 200, 400):

                async def done(passes: int = passes) -> bool:
                    (folder / "new.txt").write_text(f"Text {time.monotonic_ns()}.")
                    return len(watch.passes()) >= passes

                await until(done, every_s=0.02)
                held.append(process.memory_info().rss)
            summary["watch: RSS MiB after 100, 200, 400 passes"] = [round(rss / 1024**2, 1) for rss in held]
            assert held[2] - held[1] < 8 * 1024**2

    asyncio.run(scenario())


def test_ten_thousand_objects_are_listed_in_the_memory_of_two_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)

    async def scenario(pages: int) -> int:
        async with many_objects(pages) as url:
            with State("log") as state:
                source = of(url, "s3://many")
                run = run_of(state, Options(dry_run=True))
                await Ingestion(source, run).try_out()  # the first costs more
                tracemalloc.start()
                try:
                    await Ingestion(source, run).try_out()
                    most = tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()
                await source.close()
            assert run.summary.changed == 2 * pages * 1000
        return most

    assert asyncio.run(scenario(10)) < 1.3 * asyncio.run(scenario(2))
