"""A model that changes while it is used, or before: no vector of it is ever written, and everybody is told."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from models.cosines import cosines
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World, until
from tests.kit.oracle import assert_true, stored_vectors
from tests.stack.test_faults import text

MODEL_SPEED = "fast"

SWAPPED = """
import itertools, pathlib
import agents.worker.app, agents.worker.startup
import models.onnx.embedder as embedder
from models.onnx.session import Session

agents.worker.app.SEEN_S = agents.worker.startup.SEEN_S = 3.0
swap, after = pathlib.Path({swap!r}), {after}
runs, real = itertools.count(), Session.run

def run(self, batch):
    vectors = real(self, batch)
    return vectors[:, ::-1] if swap.exists() and next(runs) >= after else vectors

Session.run = run
embedder.golden_cosine = lambda *_: 0.3 if swap.exists() and after == 0 else 1.0
"""
"""A change: once a file is there, and so many runs later, the model is another one."""


def test_a_model_that_is_swapped_under_load_writes_nothing_any_more(
    world: World, embedder: OnnxEmbedder, tmp_path: Path
) -> None:
    """In the middle of a batch; at any other run: `tests/models/test_embedder.py`."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 8)}) for i in range(600))
        gate, swap = world.gate(), tmp_path / "swap"
        change = SWAPPED.format(swap=str(swap), after=7)
        worker = world.start_worker(gate.environment, change=change)
        await world.held_in_the_middle(worker, gate)
        swap.touch()
        gate.open()
        await is_told(world, worker, least=-1.0)
        assert await worker.ended() == 3
        assert "gives other vectors than when it was loaded" in worker.log.read_text()
        before = await vectors_of(world)
        assert before, "what was written before it is right"
        assert_right(embedder, before)
        assert await world.lag() > 0
        await world.settled(worker=world.start_worker())
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_an_idle_worker_notices_and_a_stop_comes_at_once(world: World, embedder: OnnxEmbedder, tmp_path: Path) -> None:
    async def scenario() -> None:
        await world.create(partitions=1)
        swap = tmp_path / "swap"
        change = SWAPPED.format(swap=str(swap), after=0).replace("= 3.0", "= 600.0")
        worker = world.start_worker({"PENSTOCK_MODEL__CANARY_S": "1"}, change=change)
        await world.ready(worker)
        assert worker.metrics()[f'penstock_canary_cosine{{model="{world.settings.model.name}"}}'] == 1
        swap.touch()
        await is_told(world, worker, least=0.3)
        await world.produce([(b"late", {"text": "published after it was found out"})])
        assert await asyncio.to_thread(worker.terminate) == 3
        assert await world.chunks() == {}
        again = world.start_worker(change=change)  # refused now, told for as long, and no longer once it is stopped
        await is_told(world, again, least=0.3)
        assert "gives other vectors than at its export" in again.get("/readyz")[1]["reasons"][0]
        again.kill()
        swap.unlink()
        await world.settled(worker=world.start_worker(change=change))
        await assert_true(world, embedder)

    asyncio.run(scenario())


async def is_told(world: World, worker: Any, least: float) -> None:
    """By `/readyz`, the log and the metrics, before it ends."""
    await worker.said("gives other vectors")

    async def unready() -> bool:
        code, body = await asyncio.to_thread(worker.get, "/readyz")
        return code == 503 and any("gives other vectors" in reason for reason in body["reasons"])

    await until(unready, every_s=0.02)
    shown, model = worker.metrics(), f'{{model="{world.settings.model.name}"}}'
    assert shown[f"penstock_model_changed{model}"] == 1
    assert least <= shown[f"penstock_canary_cosine{model}"] < 0.99
    assert worker.get("/livez")[0] == 200


async def vectors_of(world: World) -> dict[str, tuple[str, Any]]:
    """Text and vector of every chunk."""
    texts = {key: row["text"] for key, row in (await world.chunks()).items() if "text" in row}
    stored = await stored_vectors(world, sorted(texts))
    return {key: (texts[key], stored[key]) for key in texts}


def assert_right(embedder: OnnxEmbedder, rows: dict[str, tuple[str, Any]]) -> None:
    """Every vector is its text's."""
    again = embedder.session.embed(embedder.tokens.encode([written for written, _ in rows.values()]))
    assert cosines(np.stack([vector for _, vector in rows.values()]), again).min() > 0.9999
