"""Metrics of sources that go on until they are stopped. Names are never changed once released."""

import time
from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from agents.sources.collecting import Summary

OBJECTS = ("published", "deleted", "invalid", "failed")
"""Documents, but `failed`: objects. `invalid`: published, for workers to dead-letter."""
PASSES = ("complete", "incomplete", "failed")


class Metrics:
    """In a registry of their own."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.registry = r = CollectorRegistry()
        self._objects = Counter(
            "penstock_source_objects_total",
            "Documents that were published or deleted, and objects that failed, by source and outcome.",
            ["source", "outcome"],
            registry=r,
        )
        self._passes = Counter(
            "penstock_source_passes_total",
            "Times that a source was listed, or notifications of it were followed, by outcome.",
            ["source", "outcome"],
            registry=r,
        )
        self._completed = Gauge(
            "penstock_source_completed_timestamp_seconds",
            "When all that a source had, as far as it was known, was last looked at; at first, when the command began.",
            ["source"],
            registry=r,
        )
        self._streamed = Counts[tuple[str, str]]()
        for source in sources:  # a counter that appears with its first event hides it from `increase`
            self._completed.labels(source).set(time.time())
            for outcome in OBJECTS:
                self._objects.labels(source, outcome)
            for outcome in PASSES:
                self._passes.labels(source, outcome)

    def passed(self, source: str, summary: Summary | None) -> None:
        """A pass ended; None: there was nothing to look at."""
        whole = summary is None or not summary.incomplete
        if whole:
            self._completed.labels(source).set(time.time())
        if summary:
            self._passes.labels(source, "complete" if whole else "incomplete").inc()
            self._objects.labels(source, "published").inc(summary.published)
            self._objects.labels(source, "deleted").inc(summary.deleted)
            self._objects.labels(source, "failed").inc(summary.failed)

    def broke_off(self, source: str) -> None:
        """A pass did, and is tried again."""
        self._passes.labels(source, "failed").inc()

    def streamed(self, source: str, up_to_s: float | None, **totals: int) -> None:
        """What came of a source without passes so far, by outcome, and up to when it is published, epoch seconds."""
        for outcome, total in totals.items():
            more = total - self._streamed[source, outcome]
            self._objects.labels(source, outcome).inc(max(0, more))
            self._streamed[source, outcome] = total
        if up_to_s is not None:
            self._completed.labels(source).set(up_to_s)
