"""The way of the records, from admission to acknowledgement.

    accept             noack window ─► admission ─► decode, split           (event loop, tokenizer thread)
    run_embedding      registry read ─► intents ─► vectors                  (inference thread)
    run_writing        chunks, stubs ─► dead letters ─► done ─► settle ─► claim ─► ack

At most two batches are begun at any time, one embedding and one writing, while the next one is prepared.
A document with work in flight waits until that is settled.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agents import stations
from agents.clock import Deadline
from agents.stations import Parts, Stations
from agents.tracker import Assignment, Position
from streams.protocol import Work
from streams.record import Record

SLICE_BYTES = 4 * 1024**2
CHUNK_OVERHEAD = 2 * 1024

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """Records that go through the stations together. `generation`: of the assignment that it belongs to."""

    generation: int
    works: list[Work] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)

    @property
    def doc_ids(self) -> set[str]:
        """Documents that this batch is about."""
        return {work.document.id for work in self.works if work.document}


class Pipeline:
    """Two station loops with one slot between them; whoever runs them ends the process when one fails."""

    def __init__(self, parts: Parts, assignment: Assignment) -> None:
        self._parts = parts
        self._stations = Stations(parts)
        self._assignment = assignment
        self._prepared: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._embedded: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._begun = asyncio.Semaphore(2)
        self._busy: set[str] = set()
        self._in_flight = 0
        self._moved = asyncio.Condition()
        self._generation = 0
        self._taking = False
        self._settled = time.monotonic()

    @property
    def progressed(self) -> float:
        """When a run of the model or a batch was last finished, monotonic seconds."""
        return max(self._settled, self._stations.progressed)

    async def accept(self, positions: Sequence[tuple[Position, Record]]) -> None:
        """Take admitted records, in order. Blocks while the stations are full: that is the back-pressure.

        Takes none between `drain` and `resume`: the partitions are about to go, the next owner replays them.
        """
        generation = self._generation
        if not self._taking:
            return
        for part in _slices(positions):
            with self._parts.metrics.tokenize_seconds.time():
                works = await self._parts.embedder.on_tokenizer_thread(
                    lambda part=part: [self._stations.prepare(record) for _, record in part]  # type: ignore[misc]
                )
            for work in works:
                self._parts.budget.grow(work.record.partition, work.record.offset, self._made_of(work))
            for batch in _batches(works, [position for position, _ in part], generation):
                await self._prepared.put(batch)

    async def run_embedding(self) -> None:
        """The first station, until cancelled. Raises when a dependency is lost for good."""
        while True:
            batch = await self._prepared.get()
            await self._begun.acquire()
            async with self._moved:
                await self._moved.wait_for(lambda ids=batch.doc_ids: self._busy.isdisjoint(ids))  # type: ignore[misc]
                if batch.generation != self._generation:  # of an assignment that is gone: never begun, so replayed
                    self._begun.release()
                    continue
                self._busy |= batch.doc_ids
                self._in_flight += 1
            await self._stations.begin(batch.works)
            await self._stations.embed(batch.works)
            await self._embedded.put(batch)

    async def run_writing(self) -> None:
        """The second station, until cancelled."""
        while True:
            batch = await self._embedded.get()
            await self._write(batch)
            async with self._moved:
                self._busy -= batch.doc_ids
                self._in_flight -= 1
                self._moved.notify_all()
            self._begun.release()

    def resume(self) -> None:
        """Take records again, of a new assignment."""
        self._taking = True

    async def drain(self, deadline: Deadline) -> bool:
        """Finish what is begun, drop what is not. False when the deadline came first: the rest is replayed."""
        async with self._moved:
            self._taking = False
            self._generation += 1
            self._moved.notify_all()
            try:
                await asyncio.wait_for(self._moved.wait_for(lambda: self._in_flight == 0), deadline.left_s)
            except TimeoutError:
                return False
        return True

    def _made_of(self, work: Work) -> int:
        """Bytes of vectors, and of what is around the chunks; their texts are counted already."""
        return len(work.chunks) * (CHUNK_OVERHEAD + 4 * self._parts.embedder.manifest.dims)

    async def _write(self, batch: Batch) -> None:
        """Make a batch durable, then say so: settle; claim, awaited; ack. A crash before that is healed by replay."""
        parts, points = self._parts, self._parts.fail_points
        await self._stations.write(batch.works)
        for work in batch.works:
            parts.metrics.records.labels(work.outcome).inc()
        await self._assignment.judge(batch.positions, [work.refused is not None for work in batch.works])
        points.passing("before_claim")
        await self._assignment.settle(batch.positions)
        points.passing("after_claim")
        self._settled = time.monotonic()


def _slices(positions: Sequence[tuple[Position, Record]]) -> Iterator[Sequence[tuple[Position, Record]]]:
    """So much at a time that what is made of it stays small beside the budget, however large the records are."""
    start = size = 0
    for end, (_, record) in enumerate(positions):
        if size and size + record.size_bytes > SLICE_BYTES:
            yield positions[start:end]
            start, size = end, 0
        size += record.size_bytes
    yield positions[start:]


def _batches(works: Sequence[Work], positions: Sequence[Position], generation: int) -> list[Batch]:
    """Cut into batches of about 256 chunks; a document is never divided, nor are two partitions of one key joined."""
    batches: list[Batch] = []
    room = 0
    partitions: dict[str, int] = {}
    for work, position in zip(works, positions, strict=True):
        size = max(1, len(work.chunks))
        partition = work.record.partition
        elsewhere = work.document and partitions.setdefault(work.document.id, partition) != partition
        if not batches or room < size or elsewhere:
            batches.append(Batch(generation))
            room, partitions = stations.MAX_BATCH_CHUNKS, {work.document.id: partition} if work.document else {}
        batches[-1].works.append(work)
        batches[-1].positions.append(position)
        room -= size
    return batches
