"""A range through the stages: whatever the index does not have, in batches, two at a time.

pages of the range ─► what the index does not have ─► batches ─► one is embedded while another one is written
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from agents.beam.ranges import Range
from agents.indexing.stages import Stages
from streams.cost import to_counts
from streams.errors import PenstockError, RefusedError
from streams.ports import Pages
from streams.protocol import Work, begun
from streams.share import WINDOW, Share

BATCH, BATCH_BYTES = 256, 1024**2
"""Records that go through the stages together: at most so many, or one that is larger."""
LANES = 2


@dataclass(frozen=True, slots=True)
class Some:
    """Works of a range, in order, that are not prepared; and how much of it they are, in its own units."""

    works: list[Work]
    passed: int


class Taking:
    """By one process. `pages`: all of a range, part by part; `tell`: called with how much of it is done. `max_ratio`:
    of a thousand records, or more, that may be rejected."""

    def __init__(
        self,
        stages: Stages,
        pages: Callable[[Any], AsyncIterator[Some]],
        tell: Callable[[int], None] = lambda _: None,
        *,
        max_ratio: float = 1.0,
        most: int = BATCH,
    ) -> None:
        self._stages = stages
        self._pages = pages
        self._tell = tell
        self._max_ratio = max_ratio
        self._most = most
        self._share = Share()

    async def take(self, part: Any) -> Counter[str]:
        """All of it is settled then. Twice is harmless, at the same time, too.

        Returns what was done: `records`, `settled`, `embedded`, `reused`, `dead_lettered`; and what it cost, where that
        is counted, by names of `streams.cost.to_counts`. Raises as the pages and the stages do; RefusedError where too
        many records are rejected: that is a mistake of somebody's.
        """
        counts, drawing = Counter[str](), asyncio.Lock()

        async def lane() -> None:
            while True:
                async with drawing:
                    batch = await anext(batches, None)
                if batch is None:
                    return
                await self._through(batch, counts)

        async with aclosing(self._batches(part, counts)) as batches:
            lanes = [asyncio.ensure_future(lane()) for _ in range(LANES)]
            try:
                await asyncio.gather(*lanes)
            finally:
                for one in lanes:
                    one.cancel()
        return counts

    async def _batches(self, part: Any, counts: Counter[str]) -> AsyncGenerator[list[Work], None]:
        batch, size = list[Work](), 0
        async for page in self._pages(part):
            await self._stages.ready([work.record for work in page.works])
            left = await self._stages.unsettled(page.works)
            counts["records"] += len(page.works)
            counts["settled"] += len(page.works) - len(left)
            self._add(Share(records=len(page.works) - len(left)))
            for work in left:
                if batch and (len(batch) == self._most or size + work.record.size_bytes > BATCH_BYTES):
                    yield batch
                    batch, size = [], 0
                batch.append(work)
                size += work.record.size_bytes
            self._tell(page.passed)
        if batch:
            yield batch

    async def _through(self, works: list[Work], counts: Counter[str]) -> None:
        await self._stages.prepare(works)
        await self._stages.through(works)
        for work in begun(works):
            counts["reused"] += len(work.known)
            counts["embedded"] += len(work.chunks) - len(work.known)
        counts.update(to_counts(work.spend for work in works))
        rejected = sum(work.outcome == "dead_lettered" for work in works)
        counts["dead_lettered"] += rejected
        self._add(Share(records=len(works), rejected=rejected))

    def _add(self, share: Share) -> None:
        self._share = self._share.plus(share)
        if self._share.exceeds(self._max_ratio):
            raise RefusedError(
                f"{self._share.rejected} of {max(WINDOW, self._share.records):,} records were rejected, more than "
                f"dead_letters.max_ratio = {self._max_ratio}: `penstock dlq list` says why; nothing is claimed. Mend "
                "that, or raise dead_letters.max_ratio, and run `penstock backfill` again"
            )
        if self._share.full:
            self._share = Share()


def log_pages(stages: Stages, log: Pages, topic: str) -> Callable[[Range], AsyncIterator[Some]]:
    """Of ranges of the log. Raises PenstockError where retention has taken what is in one, and as the log does."""

    async def pages(part: Range) -> AsyncGenerator[Some, None]:
        offset = part.start
        while offset < part.end:
            page = await log.page(topic, part.partition, offset, part.end)
            if page.start > offset:
                raise PenstockError(
                    f"{topic}/{part.partition} begins at {page.start} now, retention took what was from {offset} on, "
                    "which was to be read: keep records longer, or have more processes, and run `penstock backfill` "
                    "again"
                )
            yield Some([stages.work_of(record) for record in page.records], page.position - offset)
            offset = page.position

    return pages
