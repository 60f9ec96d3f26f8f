"""Back-pressure: one budget of bytes from fetch to settlement; fetching pauses above it, or while a target is away.

Faust's own back-pressure counts records, and a record has any size. So its stream buffer is left open, and the
partitions are paused here, by what they hold: raw records, and what is made of them (chunks, vectors). What is on its
way from the broker already comes on top: up to 1 MiB a partition, or one record where that is larger.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from faust.types import TP

from agents.indexing.budget import Budget
from agents.metrics import Metrics
from streams.record import size_bytes
from streams.size import COPIES

RECORD_OVERHEAD = 3 * 1024
"""Bytes that a record costs beside its key, value and headers, in Faust's objects and ours (measured: `make chaos`)."""
RESUME_AT = 0.75
"""Share of the budget below which fetching goes on."""


class Flow:
    """Pauses and resumes Faust's consumer. `may_fetch`: whether the targets are there."""

    def __init__(self, topic: str, budget: Budget, metrics: Metrics, may_fetch: Callable[[], bool]) -> None:
        self.budget = budget
        self.paused = False
        self.open = asyncio.Event()
        """Set while there may be something to fetch."""
        self.open.set()
        self._topic = topic
        self._metrics = metrics
        self._may_fetch = may_fetch

    def fetched(self, consumer: Any, message: Any) -> None:
        """Faust has this record now; its consumer calls this for each."""
        if message.topic == self._topic:
            headers = message.headers or ()
            pairs = headers.items() if headers and isinstance(headers, Mapping) else headers
            size = size_bytes(message.key, message.value, pairs)
            self.budget.hold(message.partition, message.offset, COPIES * size + RECORD_OVERHEAD)
            if self.budget.full:
                consumer.on_buffer_full(message.tp)
                self.open.clear()

    def balance(self, consumer: Any, assigned: Iterable[TP]) -> None:
        """Pause or resume; to be called some ten times a second."""
        if self.budget.full or not self._may_fetch():
            self.paused = True
        elif self.budget.used < self.budget.limit * RESUME_AT:
            self.paused = False
        change = consumer.on_buffer_full if self.paused else consumer.on_buffer_drop
        for tp in assigned:
            if tp.topic == self._topic:
                change(tp)
        if not self.paused:
            self.open.set()
        self._metrics.paused.set(self.paused)
        self._metrics.inflight_bytes.set(self.budget.used)
