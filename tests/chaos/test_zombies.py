"""Fault 33 at length, and fault 4 with a long absence: what needs minutes, not seconds."""

import asyncio
import signal
from typing import Any

import pytest

from agents.elastic.client import connect
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World, until
from tests.kit.oracle import assert_true, no_regress
from tests.stack.test_faults import text

KILLS_SERVERS = True
ROUNDS, DOCUMENTS = 8, 20


@pytest.mark.timeout(1200)
def test_zombies_sleep_while_shards_reopen_or_the_server_restarts(
    world: World, embedder: OnnxEmbedder, summary: dict[str, Any]
) -> None:
    """8 × 20 documents: grown by a worker that is stopped in the middle, shrunk or deleted by its successor."""

    async def round_of(turn: int) -> None:
        keys = [f"doc-{turn}-{i}".encode() for i in range(DOCUMENTS)]
        await world.produce((key, {"text": text(turn * 100 + i, 120)}) for i, key in enumerate(keys))
        zombie = world.start_worker()
        await until(lambda: _begun(world, turn), 60)
        zombie.process.send_signal(signal.SIGSTOP)
        await world.produce((key, None if i % 2 else {"text": text(i)}) for i, key in enumerate(keys))
        successor = world.start_worker()
        await world.settled(worker=successor)
        if turn % 2:
            await asyncio.to_thread(world.servers.kill, "elasticsearch")
            await asyncio.to_thread(world.servers.restart)
        else:
            async with connect(world.settings.elasticsearch) as client:
                indices = ",".join(await client.indices.get(index=f"{world.name}-*"))
                await client.indices.close(index=indices)
                await client.indices.open(index=indices, wait_for_active_shards="1")
        zombie.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(8)
        await world.settled()
        for worker in (zombie, successor):
            worker.kill()

    async def scenario() -> None:
        await world.create(partitions=1)
        async with no_regress(world):
            for turn in range(ROUNDS):
                await round_of(turn)
        last = world.start_worker()
        await world.settled(worker=last)
        await assert_true(world, embedder)

    asyncio.run(scenario())
    summary["zombies: rounds x documents"] = f"{ROUNDS} x {DOCUMENTS}"
    summary["zombies: revived"] = 0  # asserted above


async def _begun(world: World, turn: int) -> bool:
    """Whether the zombie wrote its first intents of this round."""
    entries = await world.registry()
    return any(key.startswith(f"doc-{turn}-") for key in entries)


@pytest.mark.timeout(600)
def test_broker_away_for_two_minutes(world: World, embedder: OnnxEmbedder, summary: dict[str, Any]) -> None:
    """Fault 4: the worker reconnects, or its watchdog ends it with 1; a restart goes on from the claim."""

    async def scenario() -> None:
        await world.create()
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 5)}) for i in range(1500))
        worker = world.start_worker()
        await until(lambda: _below(world, 1500), 60)
        await asyncio.to_thread(world.servers.kill, "kafka")
        await asyncio.sleep(120)
        await asyncio.to_thread(world.servers.restart)
        await asyncio.sleep(15)
        if worker.process.poll() is not None:
            assert worker.process.returncode == 1, worker.log.read_text()[-2000:]
            worker = world.start_worker()
        await world.settled(timeout_s=180, worker=worker)
        await assert_true(world, embedder)

    asyncio.run(scenario())
    summary["broker away for 120 s: workers started"] = len(world.workers)


async def _below(world: World, count: int) -> bool:
    return await world.lag() < count
