"""Two real models in one index: 5,000 documents, edits that move them between the two, and kill -9 all along."""

import asyncio
import random
import signal
from collections import Counter
from typing import Any

import pytest

from agents.settings.sections import RouteSettings
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import Worker, World, scan
from tests.kit.oracle import assert_true, no_regress
from tests.kit.two_models import rows
from tests.kit.wordllama import NAME
from tests.stack.test_faults import text

DOCUMENTS, EDITS, KILLS = 5000, 2500, 20
SHORT = 300
"""Characters of a document that goes to the fast model."""
POINTS = ("after_intent", "mid_chunks", "after_chunks", "after_done", "before_claim", "after_claim")


@pytest.mark.timeout(5400)
def test_edits_across_the_threshold_under_kill_9(
    two_real: World, embedder: OnnxEmbedder, summary: dict[str, Any]
) -> None:
    world, rng = two_real, random.Random(18)
    world.with_document_vectors()
    world.route(
        RouteSettings(name="vip", model=world.settings.model.name, header={"vip": ("yes",)}),
        RouteSettings(name="short", model=NAME, max_chars=SHORT),
    )
    kills = 0

    def value(number: int, *, short: bool) -> dict[str, str]:
        return {"text": text(number, 2 if short else rng.choice([12, 20]))}

    async def feed() -> None:
        """Each edit takes a document to the other side, or there and back, or only its header does, or nothing."""
        shorts = {number: rng.random() < 0.7 for number in range(DOCUMENTS)}
        for start in range(0, DOCUMENTS, 500):
            await world.produce(
                (b"d-%d" % number, value(number, short=shorts[number])) for number in range(start, start + 500)
            )
        for start in range(0, EDITS, 50):
            records: list[tuple[bytes, object]] = []
            for edit in range(start, start + 50):
                number = int(DOCUMENTS * rng.random() ** 2)
                shorts[number] ^= rng.random() < 0.8
                gone = rng.random() < 0.04
                records.append((b"d-%d" % number, None if gone else value(edit, short=shorts[number])))
            await world.produce(records)
            again = [(key, content) for key, content in records if rng.random() < 0.1]
            await world.produce(again, headers=[("vip", rng.choice([b"yes", b"no"]))])
            await asyncio.sleep(rng.uniform(0.2, 1))

    async def kill(feeding: asyncio.Task[None]) -> None:
        nonlocal kills
        alive = [_start(world, rng), _start(world, rng)]
        while kills < KILLS or not feeding.done():
            await asyncio.sleep(rng.uniform(2, 8))
            if feeding.done() and await world.lag() == 0:
                break
            for worker in [worker for worker in alive if worker.process.poll() is not None]:
                assert worker.process.returncode == -signal.SIGKILL, worker.log.read_text()[-3000:]
                kills += 1
                alive.remove(worker)
            if len(alive) == 2:
                victim = alive.pop(rng.randrange(2))
                victim.kill()
                kills += 1
            while len(alive) < 2:
                alive.append(_start(world, rng))
        for worker in alive:
            worker.kill()

    async def scenario() -> None:
        await world.create(partitions=8)
        feeding = asyncio.create_task(feed())
        async with no_regress(world):
            await kill(feeding)
            await feeding
            last = world.start_worker()
            await world.settled(timeout_s=1800, worker=last)
        await assert_true(world, embedder)
        before = await _rows(world, world.name)
        assert await asyncio.to_thread(last.terminate) == 0
        built = rows(await asyncio.to_thread(world.command, "index", "rebuild", "--json"))
        after = await _rows(world, built["index"])
        flipped = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        summary["routes: flips on replay"] = len(flipped)
        summary["routes: chunks embedded again by a rebuild"] = f"{built['embedded']} of {len(after)}"
        assert not flipped, flipped[:10]
        models = Counter(model for model, _ in before.values())
        summary["routes: chunks by model"] = ", ".join(f"{model} {count}" for model, count in models.items())
        assert len(models) == 2

    asyncio.run(scenario())
    summary["routes: kill -9"] = kills
    summary["routes: records"] = len(world.produced)


def _start(world: World, rng: random.Random) -> Worker:
    point = f"{rng.choice(POINTS)}:{rng.randint(1, 12)}" if rng.random() < 0.3 else ""
    return world.start_worker({"PENSTOCK_FAIL_POINT": point} if point else {})


async def _rows(world: World, index: str) -> dict[str, tuple[str, str]]:
    """Model and text of each chunk. Its version and its route are those of the record that was written: of two with the
    same content, in one batch the later one, else the earlier one."""
    return {
        key: (row["penstock"]["model"], row["text"])
        for key, row in (await scan(world.settings, index)).items()
        if not row["penstock"]["stub"]
    }
