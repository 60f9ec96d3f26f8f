"""A bridge of Kinesis, killed at random, and the broker under it, while its stream is split and merged."""

import asyncio
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from agents.kafka.reader import log_reader
from tests.kit.forks import Forked
from tests.kit.harness import PATIENCE_S, World, until
from tests.kit.kinesis import moto_kinesis, stream
from tests.kit.moto import LOGIN
from tests.stack.test_kinesis import Producer, bridge, published

KILLS_SERVERS = True
ROUNDS = 12


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
