"""What a batch survives: servers that are away, answers that are lost, a process that is killed."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from models.onnx.embedder import OnnxEmbedder
from streams.epochs import Epochs, for_snapshots
from tests.kit.beam import backfilled, batch_of, start_backfill
from tests.kit.harness import PATIENCE_S, World, until
from tests.kit.oracle import assert_true
from tests.kit.proxy import Act, proxy
from tests.stack.test_backfill import history
from tests.stack.test_faults import text
from tests.stack.test_snapshots import NEW, OLD, snapshot, without

AWAY_S = 15.0


@pytest.mark.timeout(600)
def test_elasticsearch_is_waited_for_and_lost_answers_change_nothing(world: World, embedder: OnnxEmbedder) -> None:
    rng, began = random.Random(5), list[float]()

    def rule(path: str, body: bytes) -> Act | None:
        if not path.endswith("_bulk"):
            return None
        began.append(time.monotonic())
        if len(began) > 5 and time.monotonic() < began[5] + AWAY_S:
            return Act(status=503)
        return Act(lose_answer=True) if rng.random() < 0.1 else None

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(history(600))
        async with proxy(world.servers.elasticsearch_port) as before:
            before.rule = rule
            await asyncio.to_thread(backfilled, world, extra=before.environment)
        assert began[-1] > began[5] + AWAY_S
        await assert_true(world, embedder)

    asyncio.run(scenario())


@pytest.mark.timeout(600)
def test_a_killed_process_of_an_engine_costs_a_second_start(world: World, embedder: OnnxEmbedder) -> None:
    two = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    extra = {"PENSTOCK_MODEL__THREADS": "1"}

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(history(600))
        gate = world.gate()
        gate.let(1)
        with start_backfill(world, *two, extra={**extra, **gate.environment}) as process:
            batch = await batch_of(process)

            async def held() -> bool:
                return any(gate.is_held_by(one.pid) for one in batch.children(recursive=True))

            await until(held)
            victim = next(one for one in batch.children(recursive=True) if gate.is_held_by(one.pid))
            victim.kill()
            _, said = process.communicate(timeout=PATIENCE_S)
            assert (process.returncode, "run it again to go on" in said) == (1, True), said
        done = await asyncio.to_thread(backfilled, world, *two, extra=extra)
        assert done["embedded"] > 0
        await assert_true(world, embedder)

    asyncio.run(scenario())


@pytest.mark.timeout(900)
def test_snapshots_in_any_order_under_kill_9(world: World, embedder: OnnxEmbedder, tmp_path: Path) -> None:
    """Before, during and after the stream; each at least once to its end, the older one after the newer as well."""
    rng, epochs = random.Random(7), Epochs((for_snapshots(""),))
    old = {f"doc-{number}": {"text": text(number)} for number in range(150)}
    new = {key: {"text": f"New. {body['text']}"} for key, body in old.items() if not key.endswith("3")}
    gone = sorted(old.keys() - new.keys())

    async def scenario() -> None:
        await world.create(partitions=2, snapshots=True)
        snapshot(world, OLD, old, tmp_path / "old")
        snapshot(world, NEW, new, tmp_path / "new")
        without(world, NEW, gone)
        for turn in range(6):
            process = start_backfill(world, "--from", str(tmp_path / ("new" if turn % 2 else "old")), "--sync")
            worker = world.start_worker()
            await world.produce((f"doc-{rng.randrange(150)}".encode(), {"text": f"Turn {turn}."}) for _ in range(5))
            await world.produce([(f"doc-{rng.randrange(150)}".encode(), None)])
            await asyncio.sleep(rng.uniform(3, 9))
            process.kill()
            process.communicate()
            worker.kill()
        for name, most in (("new", 20), ("old", 20)):
            backfilled(world, "--from", str(tmp_path / name), "--sync", "--max-deletes", str(most))
        await world.settled(worker=world.start_worker())
        await assert_true(world, embedder, epochs=epochs)

    asyncio.run(scenario())
