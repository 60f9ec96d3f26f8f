"""A stream of Kinesis is bridged: all of it, once, in the order of each key, whatever happens in between."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.kafka.reader import log_reader
from streams.record import Rejected, decode
from tests.kit.aggregate import aggregate
from tests.kit.harness import World, until
from tests.kit.kinesis import KinesisStream, kinesis_local, moto_kinesis, stream
from tests.kit.moto import LOGIN
from tests.stack.test_sources import DIES, PLACES, records

MODEL_SPEED = "fast"
KEYS = 12
AWAY = """
from agents.sources.publish import Publisher
from streams.errors import AwayError
publish, left = Publisher.publish, 2
async def fails(self, *arguments):
    global left
    await publish(self, *arguments)
    left -= 1
    if left == 0:
        raise AwayError("whether it was committed is not known")
Publisher.publish = fails
"""
"""A change: the broker goes away with the answer to a commit."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server for all tests here."""
    with moto_kinesis() as url:
        yield url


@pytest.fixture
def another() -> Iterator[str]:
    """One of other people."""
    with kinesis_local() as url:
        yield url


def body(doc: str, number: int) -> bytes:
    return json.dumps({"id": doc, "text": f"Text {number}."}).encode()


def bridge(world: World, url: str, *arguments: str, code: int = 0, change: str = "") -> dict[str, Any]:
    """What the command says of itself."""
    options = (world.name, "--endpoint", url, "--partitions", "2", "--json", *arguments)
    done = world.command("ingest", "kinesis", *options, extra=LOGIN, change=change)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found | {"stderr": done.stderr}


class Producer:
    """Puts versions of a document for each partition key, whose texts count up; every tenth record has four of them."""

    def __init__(self, to: KinesisStream) -> None:
        self._to = to
        self._number = self._records = 0
        self.made: dict[str, list[int]] = {}

    async def put(self, count: int) -> None:
        """So many records."""
        rows = []
        for _ in range(count):
            key = f"key-{self._records % KEYS}"
            parts = [(key, self._next(key)) for _ in range(1 if self._records % 10 else 4)]
            rows.append((key, aggregate(parts) if len(parts) > 1 else parts[0][1]))
            self._records += 1
        await self._to.put(rows)

    def _next(self, key: str) -> bytes:
        self._number += 1
        self.made.setdefault(key, []).append(self._number)
        return body(key, self._number)

    @property
    def count(self) -> int:
        """Of documents."""
        return self._number


async def published(world: World) -> dict[str, list[int]]:
    """Numbers of the versions by document, in the topic's order; each place of the stream is there once."""
    made = sorted(await records(world), key=lambda one: (one.partition, one.offset))
    names = ("penstock.kinesis.shard", "penstock.kinesis.sequence", "penstock.kinesis.sub_sequence")
    places = [tuple(dict(one.headers).get(name) for name in names) for one in made]
    assert len(set(places)) == len(places)
    assert not [place for place in places if None in place[:2]]
    found: dict[str, list[int]] = {}
    for one in made:
        found.setdefault((one.key or b"").decode(), []).append(int(json.loads(one.value or b"")["text"][5:-1]))
    return found


@pytest.mark.parametrize("server", ["endpoint", "another"])
def test_kill_9_over_splits_and_merges_loses_repeats_and_reorders_nothing(
    world: World, request: pytest.FixtureRequest, server: str
) -> None:
    url = request.getfixturevalue(server)
    arguments = ("--once", "--max-lag", "6000")  # 300 a transaction

    async def scenario() -> None:
        async with stream(url, world.name) as opened:
            producer, changes = Producer(opened), (opened.split, opened.merge, opened.split, opened.merge)
            for place, change in zip(PLACES.values(), changes, strict=True):
                await producer.put(600)
                await change()
                await producer.put(100)
                dies = DIES.format(left=3) + place
                await asyncio.to_thread(bridge, world, url, *arguments, code=9, change=dies)
            await asyncio.to_thread(bridge, world, url, *arguments)
            assert await published(world) == producer.made
            assert (await asyncio.to_thread(bridge, world, url, *arguments))["published"] == 0

    asyncio.run(scenario())


def test_it_runs_on_over_splits_refusals_and_a_broker_that_goes_away(world: World, endpoint: str) -> None:
    output, errors = world.tmp / "bridge.out", world.tmp / "bridge.err"

    async def scenario() -> None:
        async with stream(endpoint, world.name, 1) as opened, log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 2, {})
            await opened.tag({"refuses": "5"})
            producer = Producer(opened)
            arguments = ("ingest", "kinesis", world.name, "--endpoint", endpoint)
            process = world.start(*arguments, output=output, errors=errors, extra=LOGIN, change=AWAY)

            async def all_there() -> bool:
                assert process.poll() is None, errors.read_text()
                return len(await records(world)) == producer.count

            try:
                await producer.put(200)
                await until(all_there)
                await opened.split()
                await producer.put(100)
                await until(all_there)
                await opened.split()
                await opened.merge()
                await producer.put(100)
                await until(all_there)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 60) == 0, errors.read_text()
            finally:
                process.kill()
            assert await published(world) == producer.made
            assert "waiting for a server that is away" in errors.read_text()
            told = await asyncio.to_thread(bridge, world, endpoint, "--dry-run")
            assert {one["state"] for one in told["shards"]} == {"read to its end", "open"}
            assert [one["behind_ms"] for one in told["shards"] if one["state"] == "open"] == [0, 0]

    asyncio.run(scenario())
    assert output.read_text().startswith("published ")
    assert "Traceback" not in errors.read_text()


def test_it_waits_while_the_lag_is_above_the_limit(world: World, endpoint: str) -> None:
    limit, count = 200, 1000

    async def scenario() -> None:
        await world.create(2)
        gate = world.gate()
        async with stream(endpoint, world.name) as opened, world.lags() as lag:
            await opened.put([(f"key-{n}", body(f"doc-{n}", n)) for n in range(count)])
            errors, highest = world.tmp / "bridge.err", 0
            arguments = ("ingest", "kinesis", world.name, "--endpoint", endpoint, "--once", "--max-lag", str(limit))
            process = world.start(*arguments, output=world.tmp / "out", errors=errors, extra=LOGIN)

            def so(condition: Callable[[], bool]) -> Any:
                async def check() -> bool:
                    nonlocal highest
                    highest = max(highest, await lag())
                    return condition()

                return until(check, every_s=0.02)

            try:
                await so(lambda: "is above --max-lag 200; no worker" in errors.read_text())
                worker = world.start_worker(gate.environment)
                await world.ready(worker)
                assert process.poll() is None
                gate.open()
                await so(lambda: process.poll() is not None)
                assert process.poll() == 0, errors.read_text()
            finally:
                process.kill()
            assert limit <= highest <= limit * 1.1
            await world.settled(worker=worker)
            assert len({row["metadata"]["doc_id"] for row in (await world.chunks()).values()}) == count

    asyncio.run(scenario())


def test_what_retention_took_is_listed_until_it_was_sent_again(world: World, endpoint: str) -> None:
    async def scenario() -> None:
        async with stream(endpoint, world.name) as opened:
            producer = Producer(opened)
            await producer.put(100)
            assert (await asyncio.to_thread(bridge, world, endpoint, "--once"))["missed"] == []
            await producer.put(100)
            await opened.split()
            await producer.put(50)
            closed, short, *_ = [one["ShardId"] for one in await opened.shards()]
            told = await asyncio.to_thread(bridge, world, endpoint, "--dry-run")
            after = {one["shard"]: int(one["sequence"] or 0) for one in told["shards"]}
            assert all(after[name] for name in (closed, short))
            await opened.tag({f"gone-{closed}": "yes", f"trimmed-{short}": str(after[short] + 7)})
            told = await asyncio.to_thread(bridge, world, endpoint, "--dry-run")
            would = {one["shard"]: one["would_be_missed"] for one in told["shards"] if one["would_be_missed"]}
            assert would.keys() == {closed, short}
            found = await asyncio.to_thread(bridge, world, endpoint, "--once", code=1)
            assert {(one["shard"], one["after"], one["before"]) for one in found["missed"]} == {
                (closed, str(after[closed]), None),
                (short, str(after[short]), str(after[short] + 8)),
            }
            assert found["published"] > 0
            assert "to be sent again" in found["stderr"]
            again = await asyncio.to_thread(bridge, world, endpoint, "--once", code=1)
            assert (again["published"], again["missed"]) == (0, found["missed"])
            told = await asyncio.to_thread(bridge, world, endpoint, "--dry-run")
            assert told["missed"] == found["missed"]
            assert (await asyncio.to_thread(bridge, world, endpoint, "--once", "--forget-missed"))["missed"] == []

    asyncio.run(scenario())


def test_what_is_no_document_is_left_to_the_worker(world: World, endpoint: str) -> None:
    async def scenario() -> None:
        async with stream(endpoint, world.name, 1) as opened:
            await opened.put(
                [
                    ("a", b'{"text": "without an id"}'),
                    ("b", b"\xff\0"),
                    ("c", b'{"id": "c", "txt": "misspelt"}'),
                    ("d", b'{"id": "d", "text": "good"}'),
                ]
            )
            found = await asyncio.to_thread(bridge, world, endpoint, "--once", code=1)
            assert (found["published"], found["rejected"]) == (4, 3)
            assert "3 records are no documents" in found["stderr"]
        made = {one.key: one for one in await records(world)}
        assert made.keys() == {b"", b"c", b"d"}
        assert [isinstance(decode(made[key]), Rejected) for key in (b"", b"c", b"d")] == [True, True, False]

    asyncio.run(scenario())


def test_documents_may_be_named_by_their_partition_key(world: World, endpoint: str) -> None:
    async def scenario() -> None:
        async with stream(endpoint, world.name, 1) as opened:
            await opened.put([("a", b'{"text": "A."}'), ("agg", aggregate([("b", b'{"text": "B."}')]))])
            options = ("--once", "--id", "partition-key", "--prefix", "k/")
            assert (await asyncio.to_thread(bridge, world, endpoint, *options))["rejected"] == 0
        made = await records(world)
        assert sorted(one.key or b"" for one in made) == [b"k/a", b"k/b"]
        assert not [one for one in made if isinstance(decode(one), Rejected)]

    asyncio.run(scenario())


def test_mistakes_are_named(world: World, endpoint: str) -> None:
    assert "there is no such stream" in bridge(world, endpoint, "--once", code=1)["stderr"]
    assert "is neither" in bridge(world, endpoint, "--from", "never", code=2)["stderr"]
    assert "cannot be reached" in bridge(world, "http://127.0.0.1:1", "--once", code=1)["stderr"]
