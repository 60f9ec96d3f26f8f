"""When a baseline is taken, and what is shown of the drift; with what a worker has of its index and topic in memory."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agents.elastic.notes import BASELINE_NOTE
from agents.metrics import Metrics
from agents.settings import Settings
from agents.worker import model_watch as module
from agents.worker.model_watch import ModelWatch
from streams.drift import Moments
from streams.errors import AwayError, ModelChangedError

RNG = np.random.default_rng(3)


class World:
    """An index's notes, how far its topic is settled, and one worker."""

    paused: str | None = None

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.notes: dict[str, Any] = {}
        self.rows = [{"partition": 0, "settled_offset": 3, "end_offset": 9}]
        self.away = False
        self.metrics, self.moments, self.proved = Metrics(), Moments(), 0
        way = SimpleNamespace(moments=self.moments, space=SimpleNamespace(model="m", dims=8))
        parts = SimpleNamespace(metrics=self.metrics, ways=[way])
        identity = SimpleNamespace(index="i", sink="s")
        checked = SimpleNamespace(identity=identity, partitions=1, embedder=SimpleNamespace(dims=8))
        patch.setattr(module, "Index", lambda *_: SimpleNamespace(notes=self.read, note=self.note))
        patch.setattr(module, "partition_rows", self.progress)
        given: list[Any] = [Settings(), checked, SimpleNamespace(parts=parts, client=None), None, self]
        self.watch = ModelWatch(*cast(Any, given))

    async def read(self, _: str) -> dict[str, Any]:
        if self.away:
            raise AwayError("away")
        return self.notes

    async def note(self, _: str, **notes: Any) -> None:
        self.notes = {name: note for name, note in {**self.notes, **notes}.items() if note is not None}

    async def progress(self, *_: Any) -> list[dict[str, int]]:
        return self.rows

    async def prove(self) -> None:
        self.proved += 1
        if self.proved == 3:
            raise ModelChangedError("another model", 0.1)

    def embed(self, subject: int, chunks: int = 1200) -> None:
        """So many chunks, each a document."""
        rows = np.asarray(RNG.standard_normal((chunks, 8)) + 3 * np.eye(8)[subject], dtype=np.float32)
        self.moments.add(rows, [(int(RNG.integers(2**62)), 0) for _ in range(chunks)])

    def shown(self) -> dict[str, float]:
        """The drift by statistic."""
        (family,) = (one for one in self.metrics.registry.collect() if one.name == "penstock_embedding_drift")
        return {sample.labels["statistic"]: sample.value for sample in family.samples}

    def compare(self) -> None:
        asyncio.run(self.watch.compare())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_baseline_is_taken_when_what_was_there_at_the_start_is_settled(world: World) -> None:
    world.embed(0)
    world.compare()
    assert world.notes == {}
    world.rows = [{"partition": 0, "settled_offset": 9, "end_offset": 500}]  # and others came since
    world.compare()
    assert world.notes[BASELINE_NOTE]["m"]["chunks"] == 1200
    assert world.notes[BASELINE_NOTE]["m"]["taken_at"].endswith("Z")
    assert max(map(abs, world.shown().values())) < 0.001


def test_too_few_chunks_make_none(world: World) -> None:
    world.rows[0]["settled_offset"] = 9
    world.embed(0, 900)
    world.compare()
    assert (world.notes, world.shown()) == ({}, {})
    world.embed(0, 200)
    world.compare()
    assert BASELINE_NOTE in world.notes


def test_one_that_is_there_is_kept_and_held_against(world: World) -> None:
    """Also by a worker that has not caught up: another one took it."""
    other = Moments()
    rows = np.asarray(RNG.standard_normal((2000, 8)) + 3 * np.eye(8)[0], dtype=np.float32)
    other.add(rows, [(number, 0) for number in range(2000)])
    assert other.all is not None
    world.notes = {BASELINE_NOTE: {"other": {}, "m": other.all.to_note()}}
    world.compare()
    assert world.shown() == {}, "nothing was embedded yet"
    world.embed(5, 4000)
    world.compare()
    assert world.shown()["centroid"] > 0.5
    assert world.notes == {BASELINE_NOTE: {"other": {}, "m": other.all.to_note()}}


def test_one_that_is_forgotten_is_taken_anew_of_what_comes_then(world: World) -> None:
    world.rows[0]["settled_offset"] = 9
    world.embed(0)
    world.compare()
    world.embed(5, 9000)
    world.compare()
    assert world.shown()["centroid"] > 0.5
    world.notes = {}
    world.compare()
    assert (world.notes, world.shown()) == ({}, {}), "what came before does not count"
    world.embed(5)
    world.compare()
    assert BASELINE_NOTE in world.notes
    world.compare()
    assert world.shown()["centroid"] < 0.1


def test_one_of_vectors_of_another_width_counts_for_none(world: World) -> None:
    world.rows[0]["settled_offset"] = 9
    world.notes = {BASELINE_NOTE: {"m": {"chunks": 5000, "centroid": "AAAA", "neighbours": None, "identical": None}}}
    world.embed(0)
    world.compare()
    assert world.notes[BASELINE_NOTE]["m"]["chunks"] == 1200


def test_elasticsearch_being_away_is_no_error(world: World) -> None:
    world.away = True
    world.embed(0)
    world.compare()
    world.away = False
    world.rows[0]["settled_offset"] = 9
    world.compare()
    assert BASELINE_NOTE in world.notes


def test_the_model_is_proved_at_the_start_and_again_and_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(ModelChangedError):
        asyncio.run(world.watch.run())
    assert slept == [Settings().model.canary_s] * 2
