"""Back-pressure over deep backlogs: what the process takes beside its budget, with small and with large records."""

import asyncio
import time
from typing import Any

import orjson
import psutil
import pytest

from tests.harness import World

BUDGET = 64 * 1024**2
CONSTANT = 200 * 1024**2
"""What the process may take above its size at rest and the budget: bodies under way, Faust, the model's buffers."""
MIB = 1024**2


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("kind", ["1,000,000 small records", "2,000 records of 1 MB"])
def test_memory_stays_within_the_budget(world: World, summary: dict[str, Any], kind: str) -> None:
    small = kind.startswith("1,000,000")
    count, keys = (1_000_000, 200) if small else (2_000, 2_000)
    value = orjson.dumps(
        {"text": "A small record."}
        if small
        else {"text": "A large record.", "metadata": {f"k{i}": "x" * 9_800 for i in range(100)}}
    )

    async def scenario() -> None:
        await world.create(partitions=8, configs={"max.message.bytes": "2000000"})
        for start in range(0, count, 100_000):
            await world.produce((b"doc-%d" % (i % keys), value) for i in range(start, min(count, start + 100_000)))
            world.produced.clear()
        worker = world.start_worker({"PENSTOCK_BATCH__MAX_INFLIGHT_BYTES": str(BUDGET)})
        await world.ready(worker)
        process = psutil.Process(worker.process.pid)
        base = most = process.memory_info().rss
        held, begun, looked = 0.0, time.monotonic(), 0.0
        while time.monotonic() - begun < 1800:
            await asyncio.sleep(0.2)
            most = max(most, process.memory_info().rss)
            held = max(held, (await asyncio.to_thread(worker.metrics))["penstock_inflight_bytes"])
            if time.monotonic() - looked > 5:
                looked = time.monotonic()
                if await world.lag() == 0:
                    break
        assert await world.lag() == 0
        summary[f"memory, {kind}: budget MiB"] = BUDGET // MIB
        summary[f"memory, {kind}: held at most MiB"] = round(held / MIB)
        summary[f"memory, {kind}: RSS above rest MiB"] = round((most - base) / MIB)
        summary[f"memory, {kind}: seconds"] = round(time.monotonic() - begun)
        assert most - base <= BUDGET + CONSTANT, (most - base) / MIB

    asyncio.run(scenario())
