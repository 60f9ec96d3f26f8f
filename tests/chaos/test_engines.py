"""`penstock backfill` on the engines that people run, beside a live worker and a publisher."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.settings.environment import cache_dir
from models.onnx.embedder import OnnxEmbedder
from tests.kit.beam import backfilled, batch_of, start_backfill
from tests.kit.engines import FlinkCluster, flink, spark
from tests.kit.harness import World, until
from tests.kit.oracle import assert_true
from tests.kit.two_models import of_group, rows
from tests.stack.test_backfill import history

DOCUMENTS = 1000


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("engine", [flink, spark])
def test_an_engine_builds_what_the_stream_built(
    engine: Callable[[Path], list[str]], world: World, embedder: OnnxEmbedder, summary: dict[str, Any]
) -> None:
    async def scenario() -> None:
        await world.create(partitions=3)
        await world.produce(history(DOCUMENTS))
        worker = world.start_worker()
        await world.settled(worker=worker)
        options = [*engine(cache_dir()), "--embed-all"]
        filling = asyncio.create_task(
            asyncio.to_thread(backfilled, world, *options, extra={"PENSTOCK_MODEL__THREADS": "1"})
        )
        number = 0
        while not filling.done():
            await world.produce([(f"doc-{number % 1100}".encode(), {"text": f"Meanwhile {number}."})])
            number += 1
            await asyncio.sleep(0.2)
        done = await filling
        assert not done["serving"]
        follower = world.start_worker(of_group(world, done["group"]))
        await world.settled(worker=worker)
        await assert_true(world, embedder)  # of the index that serves; the digest tells of the other one
        promoted = world.command("index", "promote", done["index"])
        assert promoted.returncode == 0, (promoted.stdout, promoted.stderr)
        assert follower.process.poll() is None
        first = f"{world.name}-all-minilm-l6-v2-000001"
        alike = rows(world.command("index", "digest", "--against", first, "--min-cosine", "0.9999", "--json"))
        assert (alike["index"], alike["against"]["same"]) == (done["index"], True)
        summary[f"backfill by {engine.__name__}"] = f"{done['from_topic']} records in {done['seconds']:.0f} s"

    asyncio.run(scenario())


@pytest.mark.timeout(1200)
def test_a_cluster_loses_a_worker_and_goes_on(
    world: World, embedder: OnnxEmbedder, tmp_path: Path, summary: dict[str, Any]
) -> None:
    """Flink with a restart strategy runs all of a stage's part again; what is settled costs a look."""
    folder = tmp_path / "flink"
    folder.mkdir()
    cluster = FlinkCluster(cache_dir(), folder)

    async def ready() -> bool:
        return cluster.ready()

    async def scenario() -> None:
        await until(ready)
        await world.create(partitions=3)
        await world.produce(history(DOCUMENTS))
        gate = world.gate()
        gate.let(4)
        options = cluster.options(cache_dir())
        with start_backfill(world, *options, extra={"PENSTOCK_MODEL__THREADS": "1", **gate.environment}) as process:
            batch = await batch_of(process)

            async def held() -> bool:
                assert process.poll() is None
                return any(gate.is_held_by(one.pid) for one in [batch, *batch.children(recursive=True)])

            await until(held)
            cluster.workers[0].kill()
            gate.open()
            printed, said = await asyncio.to_thread(process.communicate, timeout=600)
        assert process.returncode == 0, said[-5000:]
        done = json.loads(printed)
        assert done["serving"]
        worker = world.start_worker()
        await world.settled(worker=worker)
        await assert_true(world, embedder)
        summary["backfill by a cluster that loses a worker"] = f"{done['seconds']:.0f} s"

    try:
        asyncio.run(scenario())
    finally:
        cluster.close()
