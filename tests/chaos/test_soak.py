"""`make soak MINUTES=60`: load, restarts and rebalances; the worker that stays keeps its memory, files and threads."""

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World, until
from tests.kit.oracle import assert_true, no_regress
from tests.stack.test_faults import text

KEYS = 1000
MOST_LAG = 1000
"""The feed waits above it: a backlog that grows for an hour would be another test."""
LOOK_AT_LAG = 10
LOOK_EVERY_S = 2.0
EDGE = 0.15
"""Share of the samples that are compared: those after the first `EDGE`, and the last ones."""
MEASURED: dict[str, Callable[[psutil.Process], float]] = {
    "RSS MiB": lambda process: process.memory_info().rss / 1024**2,
    "file handles": lambda process: process.num_fds(),
    "threads": lambda process: process.num_threads(),
}


@pytest.mark.timeout(4 * 3600)
def test_soak(world: World, embedder: OnnxEmbedder, summary: dict[str, Any], minutes: float) -> None:
    rng = random.Random(7)
    samples: dict[str, list[float]] = {name: [] for name in MEASURED}
    restarts = 0

    async def look(process: psutil.Process) -> None:
        while True:
            for name, value in MEASURED.items():
                samples[name].append(value(process))
            await asyncio.sleep(LOOK_EVERY_S)

    async def caught_up() -> bool:
        return await world.lag() <= MOST_LAG

    async def feed(over: asyncio.Event) -> None:
        number = 0
        for turn in itertools.count():
            if turn % LOOK_AT_LAG == 0:  # it takes a second to ask
                await until(caught_up, 600)
            if over.is_set():
                return
            records: list[tuple[bytes, object]] = []
            for _ in range(rng.randint(10, 60)):
                number += 1
                chosen = rng.choice([None, *[{"text": text(number, size)} for size in (1, 1, 2, 5, 20)], b"{"])
                records.append((b"doc-%d" % rng.randrange(KEYS), chosen))
            await world.produce(records)
            await asyncio.sleep(rng.uniform(0.5, 1.5))

    async def scenario() -> None:
        nonlocal restarts
        await world.create(partitions=8)
        steady = world.start_worker({"PENSTOCK_DEAD_LETTERS__MAX_RATIO": "1"})
        await world.ready(steady)
        looking = asyncio.create_task(look(psutil.Process(steady.process.pid)))
        over = asyncio.Event()
        feeding = asyncio.create_task(feed(over))
        deadline = time.monotonic() + minutes * 60
        async with no_regress(world):
            while time.monotonic() < deadline:
                other = world.start_worker()
                await world.ready(other)
                await asyncio.sleep(min(rng.uniform(20, 60), max(1.0, deadline - time.monotonic())))
                if rng.random() < 0.3:
                    other.kill()
                else:
                    assert await asyncio.to_thread(other.terminate) == 0
                restarts += 1
                assert steady.process.poll() is None, steady.log.read_text()[-3000:]
            over.set()
            await feeding
            await world.settled(timeout_s=300, worker=steady)
            looking.cancel()
        await assert_true(world, embedder)
        assert await asyncio.to_thread(steady.terminate) == 0

    asyncio.run(scenario())
    summary["soak: minutes"] = minutes
    summary["soak: restarts of the other worker"] = restarts
    summary["soak: records"] = len(world.produced)
    grown = {}
    for name, values in samples.items():
        edge = max(1, int(len(values) * EDGE))
        early, late = statistics.median(values[edge : 2 * edge]), statistics.median(values[-edge:])
        summary[f"soak: {name}, early, late, most"] = f"{early:.0f}, {late:.0f}, {max(values):.0f}"
        grown[name] = late / early
    assert grown["RSS MiB"] <= 1.1
    assert grown["file handles"] <= 1.1
    assert grown["threads"] <= 1.1
