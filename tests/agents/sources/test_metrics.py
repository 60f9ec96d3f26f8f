"""What a source that goes on tells of itself: names that stay, and figures that follow each pass."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from agents.progress import Report
from agents.sources import Failure, Source
from agents.sources.collecting import Summary
from agents.sources.http.metrics import Metrics as HttpMetrics
from agents.sources.metrics import OBJECTS, PASSES, Metrics
from agents.sources.publish import Wait
from agents.sources.session import Session
from agents.sources.watch import Watch
from streams.errors import AwayError
from tests.agents.sources.test_run import MemorySource

BAD = Failure(origin="bad.txt", reason="no text")


def value(metrics: Metrics, name: str, outcome: str | None = None, source: str = "s") -> float | None:
    labels = {"source": source} | ({"outcome": outcome} if outcome else {})
    return metrics.registry.get_sample_value(f"penstock_source_{name}", labels)


def test_all_are_there_from_the_start_and_one_has_the_name_and_labels_of_the_http_source() -> None:
    metrics = Metrics(["s", "t"])
    for source in ("s", "t"):
        assert [value(metrics, "objects_total", outcome, source) for outcome in OBJECTS] == [0] * len(OBJECTS)
        assert [value(metrics, "passes_total", outcome, source) for outcome in PASSES] == [0] * len(PASSES)
    assert time.time() - (value(metrics, "completed_timestamp_seconds") or 0) < 60
    http = HttpMetrics()
    http.count("s", "failed")
    assert http.registry.get_sample_value("penstock_source_objects_total", {"source": "s", "outcome": "failed"}) == 1


class Passes:
    """A session in whose place one thing after another comes of a pass; the last one cancels."""

    def __init__(self, *outcomes: Summary | AwayError) -> None:
        self._left = list(outcomes)

    async def once(self, sources: object, report: Report, wait: Wait) -> Summary:
        if not self._left:
            raise asyncio.CancelledError
        outcome = self._left.pop(0)
        if isinstance(outcome, AwayError):
            raise outcome
        return outcome


@contextmanager
def nothing() -> Iterator[tuple[Report, Wait]]:
    yield lambda *_: None, lambda _: None


def watched(monkeypatch: pytest.MonkeyPatch, *outcomes: Summary | AwayError) -> Metrics:
    source = MemorySource({})
    metrics = Metrics([source.name])
    metrics.streamed(source.name, 1.0)
    monkeypatch.setattr("agents.sources.watch.RETRY_S", 0.0)
    watch = Watch(cast(Session, Passes(*outcomes)), nothing, lambda *_: None, metrics, every_s=0.0, events=None)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watch.run([cast(Source, source)]))
    return metrics


def test_passes_are_counted_and_only_a_whole_one_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    name = MemorySource({}).name
    incomplete = Summary(failed=1, failures=[BAD], incomplete=[name])
    metrics = watched(monkeypatch, AwayError("away"), incomplete, AwayError("away"))
    assert value(metrics, "completed_timestamp_seconds", source=name) == 1.0
    assert [value(metrics, "passes_total", outcome, name) for outcome in PASSES] == [0, 1, 2]
    metrics = watched(monkeypatch, incomplete, Summary(published=3, deleted=2, failed=1, failures=[BAD]), Summary())
    assert time.time() - (value(metrics, "completed_timestamp_seconds", source=name) or 0) < 60
    assert [value(metrics, "passes_total", outcome, name) for outcome in PASSES] == [2, 1, 0]
    assert [value(metrics, "objects_total", outcome, name) for outcome in OBJECTS] == [3, 2, 0, 2]


def test_of_a_stream_totals_are_followed_also_when_a_list_was_cleared() -> None:
    metrics = Metrics(["s"])
    metrics.streamed("s", None, published=5, failed=2)
    begun = value(metrics, "completed_timestamp_seconds") or 0
    assert time.time() - begun < 60
    metrics.streamed("s", 7.0, published=8, failed=0)
    metrics.streamed("s", 9.0, published=8, failed=1)
    assert [value(metrics, "objects_total", outcome) for outcome in OBJECTS] == [8, 0, 0, 3]
    assert value(metrics, "completed_timestamp_seconds") == 9.0
