"""Whether the model still is what it was, and its vectors like those that the index began with; while a worker runs.

    every model.canary_s   all golden texts are embedded again        another vector ─► nothing is written, exit 3
                           the vectors of late, against the baseline  gauges, for alerts

The baseline is kept in the index. The first worker that has seen enough notes it, once all that was in the topic at its
start is settled: a first fill comes in the order of its sources, and half of it is like none of the others.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from agents.clock import utc_now
from agents.elastic.errors import translated
from agents.elastic.index import Index
from agents.elastic.notes import BASELINE_NOTE
from agents.indexing.assembly import Assembly
from agents.indexing.preflight import Checked
from agents.indexing.stages import Way
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader
from agents.settings import Settings
from agents.worker.pipeline import Pipeline
from streams.drift import STATISTICS, Profile, drift, from_note
from streams.errors import AwayError, PenstockError

logger = logging.getLogger(__name__)


class ModelWatch:
    """Of one worker."""

    def __init__(
        self, settings: Settings, checked: Checked, assembly: Assembly, reader: LogReader, pipeline: Pipeline
    ) -> None:
        self._settings = settings
        self._checked = checked
        self._parts = assembly.parts
        self._index = Index(assembly.client, settings)
        self._reader = reader
        self._pipeline = pipeline
        self._goal: dict[int, int] = {}
        """The topic's ends at the first look, by partition."""

    async def run(self) -> None:
        """Until cancelled. Raises ModelChangedError where the model gives other vectors than it should."""
        while True:
            try:
                if not self._pipeline.paused:  # each proof of a service is paid for
                    await self._pipeline.prove()
            except AwayError as exc:  # a batch waits for it, too, and tells
                logger.debug("the model could not be asked", extra={"reason": str(exc)})
            await self.compare()
            await asyncio.sleep(self._settings.model.canary_s)

    async def compare(self) -> None:
        """Show the drift, where there is a baseline, and enough vectors; else note one. Twice is harmless.

        Kafka and Elasticsearch being away is others' business.
        """
        try:
            with translated(self._settings.elasticsearch.url):
                notes = (await self._index.notes(self._checked.identity.index)).get(BASELINE_NOTE) or {}
                for way in self._parts.ways:
                    await self._compare(way, notes)
        except PenstockError as exc:
            logger.debug("the baseline could not be looked at", extra={"reason": str(exc)})

    async def _compare(self, way: Way, notes: dict[str, Any]) -> None:
        baseline = await self._baseline(way, notes)
        if baseline:
            way.moments.restart()  # where somebody has it forgotten, the next one is of what comes then
        now, gauge, model = way.moments.recent, self._parts.metrics.embedding_drift, way.space.model
        if baseline and now:
            for statistic, value in drift(baseline, now).items():
                gauge.labels(model, statistic).set(value)
        else:
            for statistic in STATISTICS:
                with suppress(KeyError):
                    gauge.remove(model, statistic)

    async def _baseline(self, way: Way, notes: dict[str, Any]) -> Profile | None:
        """`notes`: of all models, by name; one that is taken here is added."""
        name, model = self._checked.identity.index, way.space.model
        kept = from_note(notes[model], way.space.dims) if model in notes else None
        if kept or not await self._is_filled():
            return kept
        if (made := way.moments.all) is None:
            return None
        notes[model] = {**made.to_note(), "taken_at": utc_now()}
        await self._index.note(name, **{BASELINE_NOTE: notes})
        extra = {"index": name, "model": model, "chunks": made.chunks}
        logger.info("how vectors are spread is kept as the baseline", extra=extra)
        return made

    async def _is_filled(self) -> bool:
        """Whether all that was in the topic at the first look is settled, in all partitions."""
        sink = self._checked.identity.sink
        rows = await partition_rows(self._reader, self._settings, self._checked.partitions, sink)
        self._goal = self._goal or {row["partition"]: row["end_offset"] for row in rows}
        return all(row["settled_offset"] >= self._goal[row["partition"]] for row in rows)
