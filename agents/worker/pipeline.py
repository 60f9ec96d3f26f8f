"""The way of the records, from admission to acknowledgement.

    accept             noack window ─► admission ─► decode, split           (event loop, tokenizers)
    run_embedding (2)  registry read ─► intents ─► vectors                  (the model's lanes)
    run_writing        chunks, stubs ─► dead letters ─► done ─► settle ─► claim ─► ack

At most two batches are begun at any time, while the next one is prepared. One is in the model; the other is begun
meanwhile and waits for it, so that the model never waits, or it is being written. A document with work in flight waits
until that is settled.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

from agents.clock import Deadline
from agents.indexing.stages import Parts, Stages
from agents.worker.assignment import Assignment, Position
from agents.worker.spending import Spending
from streams.errors import ModelChangedError
from streams.protocol import Work
from streams.record import Record
from streams.size import made_bytes

SLICE_BYTES = 4 * 1024**2
WAITING = 2
"""Batches that are prepared beforehand, the last of them perhaps not full yet."""
EMBEDDING = 2
"""Tasks of `Pipeline.run_embedding` that run side by side."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """Records that go through the stages together. `generation`: of the assignment that it belongs to."""

    generation: int
    works: list[Work] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    partitions: dict[str, int] = field(default_factory=dict)
    """By document."""
    chunks: Counter[str] = field(default_factory=Counter)
    """By the field of their vectors."""

    @property
    def doc_ids(self) -> Set[str]:
        """Documents that this batch is about."""
        return self.partitions.keys()

    def takes(self, work: Work, generation: int, most: int) -> bool:
        """About `most` chunks for one model are enough; a document is never divided, nor a key's partitions joined."""
        if generation != self.generation:
            return False
        partition = work.record.partition
        elsewhere = work.document and self.partitions.get(work.document.id, partition) != partition
        return not elsewhere and (not self.works or self.chunks[_field(work)] + _size(work) <= most)

    def add(self, work: Work, position: Position) -> None:
        """The next record."""
        self.works.append(work)
        self.positions.append(position)
        self.chunks[_field(work)] += _size(work)
        if work.document:
            self.partitions[work.document.id] = work.record.partition


class Pipeline:
    """Stage loops with little between them; whoever runs them ends the process when one fails."""

    def __init__(self, parts: Parts, assignment: Assignment, spending: Spending | None = None) -> None:
        """`spending`: where there is a budget of a day."""
        self._parts = parts
        self._spending = spending
        self._stages = Stages(parts)
        self._assignment = assignment
        self._prepared: deque[Batch] = deque()
        self._changed = asyncio.Condition()
        """Of `_prepared`."""
        self._embedded: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._begun = asyncio.Semaphore(2)
        self._entering = asyncio.Lock()
        self._busy: set[str] = set()
        self._in_flight = 0
        self._moved = asyncio.Condition()
        self._generation = 0
        self._taking = False
        self._settled = time.monotonic()

    @property
    def progressed(self) -> float:
        """When a run of the model, a batch, or a part of a large document was last finished, monotonic seconds."""
        return max(self._settled, self._stages.progressed, *(way.embedder.progressed for way in self._parts.ways))

    @property
    def changed(self) -> ModelChangedError | None:
        """What is wrong with the model's vectors: nothing is written any more."""
        return self._stages.changed

    async def prove(self) -> None:
        """Have the model prove itself. Raises ModelChangedError."""
        await self._stages.prove()

    @property
    def away(self) -> list[str]:
        """What does not answer, beside Elasticsearch."""
        schemas = "the schema registry does not answer" if self._parts.form.waits else None
        return [reason for reason in (schemas, *(way.embedder.waits for way in self._parts.ways)) if reason]

    @property
    def paused(self) -> str | None:
        """Why it does not go on although everything answers: the budget of the day."""
        return self._spending.waits if self._spending else None

    @property
    def waits(self) -> list[str]:
        """What it waits for, beside Elasticsearch; no restart would change it."""
        return [*self.away, *([self.paused] if self.paused else [])]

    async def accept(self, positions: Sequence[tuple[Position, Record]]) -> None:
        """Take admitted records, in order. Blocks while the stages are full: that is the back-pressure.

        Takes none between `drain` and `resume`: the partitions are about to go, the next owner replays them.
        """
        generation = self._generation
        if not self._taking:
            return
        for part in _slices(positions):
            records = [record for _, record in part]
            await self._stages.ready(records)
            with self._parts.metrics.tokenize_seconds.time():
                works = [self._stages.work_of(record) for record in records]
                await self._stages.prepare(works)
            for work, (position, _) in zip(works, part, strict=True):
                self._parts.budget.grow(work.record.partition, work.record.offset, self._made_of(work))
                await self._put(work, position, generation)
            async with self._changed:
                self._changed.notify_all()

    async def _put(self, work: Work, position: Position, generation: int) -> None:
        """Into the last batch that waits, or a new one. That is taken full, or as it is when the model has no other."""
        most = self._stages.way_of(work).batch.chunks
        while not (self._prepared and self._prepared[-1].takes(work, generation, most)):
            async with self._changed:
                self._changed.notify_all()
                await self._changed.wait_for(lambda: len(self._prepared) < WAITING)
            self._prepared.append(Batch(generation))
        self._prepared[-1].add(work, position)

    async def run_embedding(self) -> None:
        """The first stage, until cancelled; `EMBEDDING` of them. Raises when a dependency is lost for good."""
        while True:
            batch = await self._enter()
            await self._stages.begin(batch.works)
            if await self._stages.embed(batch.works):
                await self._embedded.put(batch)
            else:
                await self._leave(batch)

    async def _enter(self) -> Batch:
        """The next batch of the present assignment, in order, as soon as none of its documents is in flight."""
        async with self._entering:
            while True:
                await self._begun.acquire()
                async with self._changed:
                    await self._changed.wait_for(lambda: self._prepared)
                    batch = self._prepared.popleft()
                    self._changed.notify_all()
                async with self._moved:
                    await self._moved.wait_for(lambda ids=batch.doc_ids: self._busy.isdisjoint(ids))  # type: ignore[misc]
                    if batch.generation == self._generation:
                        self._busy |= batch.doc_ids
                        self._in_flight += 1
                        return batch
                self._begun.release()  # of an assignment that is gone: never begun, so replayed

    async def run_writing(self) -> None:
        """The second stage, until cancelled."""
        while True:
            batch = await self._embedded.get()
            await self._write(batch)
            await self._leave(batch)

    async def _leave(self, batch: Batch) -> None:
        """It is not in flight any more."""
        async with self._moved:
            self._busy -= batch.doc_ids
            self._in_flight -= 1
            self._moved.notify_all()
        self._begun.release()

    def resume(self) -> None:
        """Take records again, of a new assignment."""
        self._taking = True
        if self._spending:
            self._spending.go_on()

    async def drain(self, deadline: Deadline) -> bool:
        """Finish what is begun; drop what is not, and what waits for tomorrow's budget. False when the deadline came
        first: the rest is replayed."""
        async with self._moved:
            self._taking = False
            if self._spending:
                self._spending.let_go()
            self._generation += 1
            self._moved.notify_all()
            try:
                await asyncio.wait_for(self._moved.wait_for(lambda: self._in_flight == 0), deadline.left_s)
            except TimeoutError:
                return False
        return True

    def _made_of(self, work: Work) -> int:
        if work.document is None:
            return 0
        return made_bytes(work.document, len(work.chunks), work.space.dims)

    async def _write(self, batch: Batch) -> None:
        """Make a batch durable, then say so: settle; claim, awaited; ack. A crash before that is healed by replay."""
        parts, points = self._parts, self._parts.fail_points
        await asyncio.gather(self._stages.write(batch.works), self._assignment.confirm(batch.positions))
        for outcome, count in Counter(work.outcome for work in batch.works).items():
            parts.metrics.records.labels(outcome).inc(count)
        await self._assignment.judge(batch.positions, [work.rejected is not None for work in batch.works])
        points.passing("before_claim")
        await self._assignment.settle(batch.positions, [work.spend for work in batch.works])
        points.passing("after_claim")
        self._settled = time.monotonic()


def _field(work: Work) -> str:
    return work.space.names.vector


def _size(work: Work) -> int:
    return max(1, len(work.chunks))


def _slices(positions: Sequence[tuple[Position, Record]]) -> Iterator[Sequence[tuple[Position, Record]]]:
    """So much at a time that what is made of it stays small beside the budget, however large the records are."""
    start = size = 0
    for end, (_, record) in enumerate(positions):
        if size and size + record.size_bytes > SLICE_BYTES:
            yield positions[start:end]
            start, size = end, 0
        size += record.size_bytes
    yield positions[start:]
