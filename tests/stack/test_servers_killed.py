"""Faults 4 and 8: the broker and Elasticsearch, each killed and started again."""

import asyncio

from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import Gate, Worker, World, until
from tests.kit.oracle import assert_true
from tests.stack.test_elasticsearch_faults import metric_is
from tests.stack.test_faults import text

MODEL_SPEED = "fast"
KILLS_SERVERS = True


async def held_in_the_middle(world: World) -> tuple[Worker, Gate]:
    """A worker of 600 documents that waits for the vectors of its second batch."""
    await world.create()
    await world.produce((f"doc-{i}".encode(), {"text": text(i, 5)}) for i in range(600))
    gate = world.gate()
    worker = world.start_worker(gate.environment)
    await world.held_in_the_middle(worker, gate)
    return worker, gate


def test_broker_killed_and_started_again(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 4: the worker reconnects and leaves no gap."""

    async def scenario() -> None:
        worker, gate = await held_in_the_middle(world)
        async with world.servers.away("kafka"):
            gate.open()

            async def noticed() -> bool:
                return worker.process.poll() is not None or "lag is unknown" in worker.log.read_text()

            await until(noticed)
        await until(lambda: _done_or_ended(world), every_s=0.5)
        if worker.process.poll() is not None:  # its watchdog may end it, never with 0
            assert worker.process.returncode == 1, worker.log.read_text()[-2000:]
            await world.settled(worker=world.start_worker())
        await assert_true(world, embedder)

    asyncio.run(scenario())


async def _done_or_ended(world: World) -> bool:
    return world.workers[-1].process.poll() is not None or await world.lag() == 0


def test_elasticsearch_killed_and_started_again(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 8: the worker waits, and goes on without an operator."""

    async def scenario() -> None:
        worker, gate = await held_in_the_middle(world)
        async with world.servers.away("elasticsearch"):
            gate.open()
            await until(lambda: metric_is(world, 'penstock_breaker_state{target="elasticsearch"}', 1, 2))
            assert worker.get("/livez")[0] == 200
        await world.settled(worker=worker)
        await assert_true(world, embedder)

    asyncio.run(scenario())
