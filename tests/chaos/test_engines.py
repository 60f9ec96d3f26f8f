"""`penstock backfill` on the engines that people run, beside a live worker and a publisher."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.settings.environment import cache_dir
from models.onnx.embedder import OnnxEmbedder
from tests.kit.beam import backfilled
from tests.kit.engines import flink, spark
from tests.kit.harness import World
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
