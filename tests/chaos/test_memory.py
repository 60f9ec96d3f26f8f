"""Back-pressure over deep backlogs: what the process takes beside its budget, with small and with large records."""

import asyncio
import base64
import random
import time
from collections.abc import Iterator
from typing import Any

import orjson
import psutil
import pytest
from aiokafka import AIOKafkaProducer

from agents.kafka.connection import connection
from tests.chaos.test_large import QUICK
from tests.kit.harness import World

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


Made = Iterator[tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]]


def made(kind: str) -> Made:
    """Records that cost many times their size where nothing bounds what is made of them: key, value, headers."""
    chosen = random.Random(1)
    match kind:
        case "8 MB of base64":
            yield b"k", orjson.dumps({"text": base64.b64encode(chosen.randbytes(6_000_000)).decode()}), ()
        case "300,000 chunks":
            yield b"k", orjson.dumps({"chunks": [{"text": f"{number}"} for number in range(300_000)]}), ()
        case "40,000 keys, 2,000 chunks":
            metadata = {f"key-{number:05}": number for number in range(40_000)}
            yield b"k", orjson.dumps({"text": "A short sentence of it. " * 60_000, "metadata": metadata}), ()
        case "40,000 keys, 50 chunks, 20 times":
            metadata = {f"key-{number:05}": number for number in range(40_000)}
            for number in range(20):
                yield b"%d" % number, orjson.dumps({"text": "One more. " * 5_000, "metadata": metadata}), ()
        case "400 headers of 900 KB":
            for number in range(400):
                yield b"%d" % number, orjson.dumps({"text": "Short."}), (("trace", chosen.randbytes(900_000)),)
        case "a name of 15 MB":
            yield b"k", b'{"text": "a", "%b": 1}' % (b"x" * 15_000_000), ()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kind",
    [
        "8 MB of base64",
        "300,000 chunks",
        "40,000 keys, 2,000 chunks",
        "40,000 keys, 50 chunks, 20 times",
        "400 headers of 900 KB",
        "a name of 15 MB",
    ],
)
def test_memory_and_watchdog_with_records_that_cost_much(world: World, summary: dict[str, Any], kind: str) -> None:
    """Fault 44: done or a dead letter, within the budget, and never taken for a stall."""

    async def scenario() -> None:
        await world.create(partitions=2, configs={"max.message.bytes": "16000000"})
        async with AIOKafkaProducer(**connection(world.settings), max_request_size=16 * MIB) as producer:
            for key, value, headers in made(kind):
                await producer.send_and_wait(world.name, value, key, headers=list(headers))
            await producer.send_and_wait(world.name, orjson.dumps({"text": "An ordinary one."}), b"last")
        options = {"PENSTOCK_BATCH__MAX_INFLIGHT_BYTES": str(BUDGET), "PENSTOCK_LIFECYCLE__STALL_S": "20"}
        worker = world.start_worker(options, change=QUICK)
        process = psutil.Process(worker.process.pid)
        base = most = 0
        begun = time.monotonic()
        while time.monotonic() - begun < 600:
            await asyncio.sleep(0.05)
            ended = worker.process.poll()
            summary[f"memory, {kind}: RSS above rest MiB"] = round((most - base) / MIB)
            summary[f"memory, {kind}: seconds"] = round(time.monotonic() - begun)
            assert ended is None, (ended, (most - base) / MIB, worker.log.read_text()[-2000:])
            rss = process.memory_info().rss
            if not base:
                base = rss if b"worker starting" in worker.log.read_bytes() else 0
                continue
            most = max(most, rss)
            if int(time.monotonic() * 20) % 40 == 0 and await world.lag() == 0:
                break
        assert await world.lag() == 0
        summary[f"memory, {kind}: outcomes"] = {
            name: value
            for name, value in (await asyncio.to_thread(worker.metrics)).items()
            if name.startswith("penstock_records_total") and value
        }
        assert most - base <= BUDGET + CONSTANT, (most - base) / MIB

    asyncio.run(scenario())
