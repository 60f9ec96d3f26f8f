"""A range of the log through the stages: whatever the index does not have, in batches, two at a time.

pages of the log ─► what the index does not have ─► batches ─► one is embedded while another one is written
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agents.beam.ranges import Range
from agents.indexing.stages import Stages
from streams.errors import PenstockError
from streams.ports import Pages
from streams.protocol import Work, begun

BATCH, BATCH_BYTES = 256, 1024**2
"""Records that go through the stages together: at most so many, or one that is larger."""
LANES = 2


class Taking:
    """Of one topic, by one process. `tell`: called with offsets that it is through."""

    def __init__(
        self, stages: Stages, log: Pages, topic: str, tell: Callable[[int], None] = lambda _: None, *, most: int = BATCH
    ) -> None:
        self._stages = stages
        self._log = log
        self._topic = topic
        self._tell = tell
        self._most = most

    async def take(self, part: Range) -> Counter[str]:
        """All of it is settled then. Twice is harmless, at the same time, too.

        Returns what was done: `records`, `settled`, `embedded`, `reused`, `dead_lettered`. Raises PenstockError where
        retention has taken what is in the range, and as the log and the stages do.
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

    async def _batches(self, part: Range, counts: Counter[str]) -> AsyncGenerator[list[Work], None]:
        batch, size, offset = list[Work](), 0, part.start
        while offset < part.end:
            page = await self._log.page(self._topic, part.partition, offset, part.end)
            if page.start > offset:
                raise PenstockError(
                    f"{self._topic}/{part.partition} begins at {page.start} now, retention took what was from {offset} "
                    "on, which was to be read: keep records longer, or have more processes, and run `penstock "
                    "backfill` again"
                )
            await self._stages.ready(page.records)
            left = await self._stages.unsettled([self._stages.work_of(record) for record in page.records])
            counts["records"] += len(page.records)
            counts["settled"] += len(page.records) - len(left)
            for work in left:
                if batch and (len(batch) == self._most or size + work.record.size_bytes > BATCH_BYTES):
                    yield batch
                    batch, size = [], 0
                batch.append(work)
                size += work.record.size_bytes
            self._tell(page.position - offset)
            offset = page.position
        if batch:
            yield batch

    async def _through(self, works: list[Work], counts: Counter[str]) -> None:
        await self._stages.prepare(works)
        await self._stages.through(works)
        for work in begun(works):
            counts["reused"] += len(work.known)
            counts["embedded"] += len(work.chunks) - len(work.known)
        counts["dead_lettered"] += sum(work.outcome == "dead_lettered" for work in works)
