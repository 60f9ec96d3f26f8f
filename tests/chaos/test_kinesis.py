"""A bridge of Kinesis, killed at random, and the broker under it, while its stream is split and merged."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from agents.kafka.reader import log_reader
from agents.local import stack
from streams.errors import PenstockError
from tests.kit.forks import Forked
from tests.kit.harness import PATIENCE_S, World, until
from tests.kit.kinesis import moto_kinesis, stream
from tests.kit.moto import LOGIN
from tests.stack.test_kinesis import Producer, bridge, published
from tests.stack.test_sources import records

KILLS_SERVERS = True
ROUNDS = 12
QUICK = """
from pathlib import Path
from agents.sources import publish
publish.STOP_S, publish.COMMIT_S, publish.ABORT_S = {stop_s}, {commit_s}, 1.0
transaction = publish.Publisher._transaction
async def marked(self, *arguments):
    Path({mark!r}).touch()
    await transaction(self, *arguments)
publish.Publisher._transaction = marked
"""
"""A change: other bounds of time, and a file is there once a transaction has begun."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    with moto_kinesis() as url:
        yield url


@pytest.mark.parametrize("seed", [8, 9])
def test_random_kills_of_a_bridge_and_its_broker(
    world: World, endpoint: str, summary: dict[str, Any], seed: int
) -> None:
    rng = random.Random(seed)
    output, errors = world.tmp / "bridge.out", world.tmp / "bridge.err"

    def start() -> Forked:
        arguments = ("ingest", "kinesis", world.name, "--endpoint", endpoint, "--max-lag", "100000")
        return world.start(*arguments, output=output, errors=errors, extra=LOGIN)

    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 2, {})
        async with stream(endpoint, world.name, 2) as opened:
            await opened.tag({"refuses": "9"})
            producer, process, kills, brokers = Producer(opened), start(), 0, 0
            try:
                for _ in range(ROUNDS):
                    await producer.put(rng.randint(50, 400))
                    if rng.random() < 0.6:
                        shards = await opened.open_shards()
                        await (opened.merge() if len(shards) > 3 else opened.split())
                    await asyncio.sleep(rng.uniform(0, 3))
                    if rng.random() < 0.3:
                        brokers += 1
                        async with world.servers.away("kafka"):
                            await asyncio.sleep(rng.uniform(0, 3))
                    elif rng.random() < 0.7:
                        kills += 1
                        process.kill()
                        process.wait()
                        process = start()
                    assert process.poll() is None, errors.read_text()[-3000:]

                async def all_there() -> bool:
                    assert process.poll() is None, errors.read_text()[-3000:]
                    return sum(map(len, (await published(world)).values())) >= producer.count

                await until(all_there)
                for left in reversed(range(8)):  # whatever it is at; one that is only starting has no handler yet
                    process.terminate()
                    code = await asyncio.to_thread(process.wait, PATIENCE_S)
                    assert code in (0, 128 + signal.SIGTERM, -signal.SIGTERM), errors.read_text()[-3000:]
                    if left:
                        process = start()
                        await asyncio.sleep(rng.uniform(0, 1.5))
            finally:
                process.kill()
            assert await published(world) == producer.made
            assert (await asyncio.to_thread(bridge, world, endpoint, "--once"))["published"] == 0
            summary[f"bridge, seed {seed}"] = f"{producer.count} documents, {kills} kills, {brokers} brokers"

    asyncio.run(scenario())


def test_a_stop_ends_while_the_broker_is_frozen_in_a_transaction(world: World, endpoint: str) -> None:
    """Which the next run has aborted: nothing is lost or there twice."""
    output, errors, mark = world.tmp / "bridge.out", world.tmp / "bridge.err", world.tmp / "mark"
    (broker,) = (server.pid for server in stack.status(world.servers.options.folder) if server.name == "kafka")
    arguments = ("ingest", "kinesis", world.name, "--endpoint", endpoint)
    change = QUICK.format(stop_s=2.0, commit_s=3600.0, mark=str(mark))

    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 2, {})
        async with stream(endpoint, world.name, 1) as opened:
            producer = Producer(opened)
            process = world.start(*arguments, output=output, errors=errors, extra=LOGIN, change=change)

            async def all_there() -> bool:
                assert process.poll() is None, errors.read_text()
                return sum(map(len, (await published(world)).values())) == producer.count

            async def begun() -> bool:
                return mark.exists()

            await producer.put(20)
            await until(all_there)
            os.killpg(broker, signal.SIGSTOP)
            try:
                mark.unlink()
                await producer.put(20)
                await until(begun)
                process.terminate()
                assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0, errors.read_text()
            finally:
                os.killpg(broker, signal.SIGCONT)
                process.kill()
            said = errors.read_text()
            assert "Traceback" not in said, said
            assert "destroyed" not in said, said
            await asyncio.to_thread(bridge, world, endpoint, "--once")
            assert await published(world) == producer.made

    asyncio.run(scenario())


def test_a_topic_that_is_deleted_under_a_bridge_is_made_anew_and_filled(world: World, endpoint: str) -> None:
    output, errors, mark = world.tmp / "bridge.out", world.tmp / "bridge.err", world.tmp / "mark"
    arguments = ("ingest", "kinesis", world.name, "--endpoint", endpoint, "--partitions", "2")
    change = QUICK.format(stop_s=1.0, commit_s=3.0, mark=str(mark))

    async def scenario() -> None:
        async with stream(endpoint, world.name, 1) as opened:
            producer = Producer(opened)
            await producer.put(20)
            process = world.start(*arguments, output=output, errors=errors, extra=LOGIN, change=change)

            async def all_there() -> bool:
                assert process.poll() is None, errors.read_text()
                with suppress(PenstockError):  # there is no topic
                    return len(await records(world)) == producer.count
                return False

            try:
                await until(all_there)
                await world.delete_topic(world.name)
                await producer.put(10)
                await until(all_there)
                process.terminate()
                assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0, errors.read_text()
            finally:
                process.kill()
            assert await published(world) == producer.made
            assert "Traceback" not in errors.read_text()

    asyncio.run(scenario())


def test_a_second_bridge_takes_over_and_nothing_is_there_twice(world: World, endpoint: str) -> None:
    """Two schedulers, say, start one each, in turn: the later one goes on, and the other says why it ends."""
    arguments = ("ingest", "kinesis", world.name, "--endpoint", endpoint, "--max-lag", "100000")

    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 2, {})
        async with stream(endpoint, world.name, 2) as opened:
            producer, bridges = Producer(opened), list[Forked]()

            async def all_there() -> bool:
                return sum(map(len, (await published(world)).values())) >= producer.count

            try:
                for number in range(4):
                    errors = world.tmp / f"bridge-{number}.err"
                    bridges.append(world.start(*arguments, output=errors, errors=errors, extra=LOGIN))
                    for _ in range(5):
                        await producer.put(60)
                        await asyncio.sleep(0.3)
                    await until(all_there)
                    for earlier in bridges[:-1]:
                        assert await asyncio.to_thread(earlier.wait, PATIENCE_S) == 1
                    assert bridges[-1].poll() is None, errors.read_text()
            finally:
                for one in bridges:
                    one.kill()
        for number in range(3):
            said = (world.tmp / f"bridge-{number}.err").read_text()
            assert "somebody else has begun" in said, said
            assert "Traceback" not in said, said
        assert await published(world) == producer.made

    asyncio.run(scenario())


def test_shards_that_were_split_and_merged_while_it_was_stopped_are_read_in_their_order(
    world: World, endpoint: str
) -> None:
    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 2, {})
        async with stream(endpoint, world.name, 2) as opened:
            producer = Producer(opened)
            for _ in range(3):
                for change in (opened.split, opened.merge, opened.split, opened.split, opened.merge):
                    await producer.put(80)
                    await change()
                await producer.put(80)
                await asyncio.to_thread(bridge, world, endpoint, "--once")
                assert await published(world) == producer.made

    asyncio.run(scenario())
