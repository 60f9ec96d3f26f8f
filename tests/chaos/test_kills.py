"""Fault 32: random kill -9 of two workers, with rebalances, while documents come, change, shrink, go and come back."""

import asyncio
import random
import re
import signal
import time
from typing import Any

import pytest

from models.onnx.embedder import OnnxEmbedder
from streams.record import Rejected, decode
from tests.kit.harness import Worker, World, until
from tests.kit.oracle import assert_true, no_regress
from tests.stack.test_faults import text

KEYS = 400
BACKLOG = 3000
"""Records at most: whoever works them off at the end has a quarter of an hour, on a busy machine too."""
POINTS = ("after_intent", "mid_chunks", "after_chunks", "after_done", "before_claim", "after_claim")


@pytest.mark.timeout(5400)
def test_random_kills_of_two_workers(
    world: World, embedder: OnnxEmbedder, summary: dict[str, Any], minutes: float
) -> None:
    rng = random.Random(32)
    counts = {"kills": 0, "stops": 0, "zombies": 0}
    alive: list[Worker] = []

    def start() -> None:
        point = f"{rng.choice(POINTS)}:{rng.randint(1, 12)}" if rng.random() < 0.3 else ""
        alive.append(world.start_worker({"PENSTOCK_FAIL_POINT": point} if point else {}))

    async def harm() -> None:
        deadline = time.monotonic() + minutes * 60
        while time.monotonic() < deadline:
            await asyncio.sleep(rng.uniform(2, 15))
            for worker in [worker for worker in alive if worker.process.poll() is not None]:
                assert worker.process.returncode in (-signal.SIGKILL, 1), worker.log.read_text()[-3000:]
                counts["kills"] += worker.process.returncode == -signal.SIGKILL
                alive.remove(worker)
            while len(alive) < 2:
                start()
            victim = rng.choice(alive)
            match rng.choices(["kill", "stop", "sleep"], [6, 2, 1])[0]:
                case "kill":
                    victim.kill()
                case "stop":
                    counts["stops"] += 1  # one that is only starting has no handler yet: nothing is in flight
                    assert await asyncio.to_thread(victim.terminate) in (0, -signal.SIGKILL, -signal.SIGTERM)
                    alive.remove(victim)
                case "sleep":  # past the session time-out: a zombie when it wakes up
                    counts["zombies"] += 1
                    victim.process.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(rng.uniform(11, 16))
                    victim.process.send_signal(signal.SIGCONT)

    async def feed(over: asyncio.Event) -> None:
        number = 0
        while not over.is_set():
            records: list[tuple[bytes, object]] = []
            for _ in range(rng.randint(20, 250)):
                key = f"doc-{int(KEYS * rng.random() ** 2)}".encode()
                number += 1
                kind = rng.random()
                value: object = {"text": text(number, rng.choice([1, 1, 1, 3, 12, 40]))}
                if kind < 0.08:
                    value = None
                elif kind < 0.1:
                    value = b"{"
                elif kind < 0.12:
                    value = {"text": ""}
                records.append((key, value))
            await world.produce(records)
            await asyncio.sleep(rng.uniform(0.5, 3))
            await until(lambda: few_left(over), 3600)

    async def few_left(over: asyncio.Event) -> bool:
        return over.is_set() or await world.lag() < BACKLOG  # at the end nobody may be left to work it off

    async def scenario() -> None:
        await world.create(partitions=8)
        over = asyncio.Event()
        feeding = asyncio.create_task(feed(over))
        async with no_regress(world):
            start()
            start()
            await harm()
            over.set()  # never cancelled: what was sent must be remembered
            await feeding
            for worker in alive:
                worker.kill()
            last = world.start_worker()
            await world.settled(timeout_s=900, worker=last)
        await assert_true(world, embedder)

    asyncio.run(scenario())
    rebalances = sum(len(re.findall("partitions assigned", worker.log.read_text())) for worker in world.workers)
    summary["kills: minutes"] = minutes
    summary["kills: kill -9"] = counts["kills"]
    summary["kills: SIGTERM"] = counts["stops"]
    summary["kills: zombies"] = counts["zombies"]
    summary["kills: workers started"] = len(world.workers)
    summary["kills: rebalances"] = rebalances
    summary["kills: records"] = len(world.produced)
    summary["kills: dead letters"] = sum(isinstance(decode(record), Rejected) for record in world.produced)
    summary["kills: lost, duplicate, stale, regress"] = "0, 0, 0, 0"  # asserted above, each
