"""The way of the records, from admission to acknowledgement.

    Intake.accept      noack window ─► admission ─► decode, split           (event loop, tokenizer thread)
    Pipeline._embed    registry read ─► intents ─► vectors                  (inference thread)
    Pipeline._write    chunks, stubs ─► done ─► dead letters ─► settle ─► claim ─► ack

At most two batches are begun at any time, one embedding and one writing, while the next one is prepared.
A document with work in flight waits until that is settled.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.clock import Deadline, utc_now
from agents.dead_letters import DeadLetters
from agents.elastic import Bulk, Conflict, Operation, Refused
from agents.fail_points import FailPoints
from agents.index import IndexIdentity
from agents.metrics import Metrics
from agents.registry import Registry
from agents.tracker import Assignment, Position
from models.embedder import Embedder
from streams.identity import version
from streams.plan import ChunkWrite, FieldNames, Vectors, content_writes, first_bad_vector, stub_writes
from streams.record import Document, Record, Rejected, decode
from streams.registry import (
    Begin,
    Entry,
    Misplaced,
    Settled,
    Stored,
    Touch,
    Wanted,
    decide,
    done,
)
from streams.registry import rejected as rejected_entry
from streams.split import Chunk, SplitRules, chunk_document

MAX_BATCH_CHUNKS = 256  # enough to sort by length; a batch takes 2–3 s on two cores, which bounds a rebalance
EPOCH = 0  # the contract's cuts begin empty

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Item:
    """One record on its way. `refused` is set at whichever station finds that it cannot go on."""

    position: Position
    record: Record
    document: Document | None = None
    chunks: list[Chunk] = field(default_factory=list)
    refused: Rejected | None = None
    intent: Stored | None = None
    vectors: Vectors | None = None
    outcome: str = "stored"


@dataclass(slots=True)
class Batch:
    """Records that go through the stations together. `generation`: of the assignment that it belongs to."""

    items: list[Item]
    generation: int

    @property
    def doc_ids(self) -> set[str]:
        """Documents that this batch is about."""
        return {item.document.id for item in self.items if item.document}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the pipeline works with."""

    embedder: Embedder
    rules: SplitRules
    names: FieldNames
    identity: IndexIdentity
    registry: Registry
    bulk: Bulk
    dead_letters: DeadLetters
    metrics: Metrics
    fail_points: FailPoints


class Pipeline:
    """Two station loops with one slot between them; whoever runs them ends the process when one fails."""

    def __init__(self, parts: Parts, assignment: Assignment) -> None:
        self._parts = parts
        self._assignment = assignment
        self._prepared: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._embedded: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._begun = asyncio.Semaphore(2)
        self._busy: set[str] = set()
        self._in_flight = 0
        self._moved = asyncio.Condition()
        self._generation = 0
        self._taking = False

    async def accept(self, positions: Sequence[tuple[Position, Record]]) -> None:
        """Take admitted records, in order. Blocks while the stations are full: that is the back-pressure.

        Takes none between `drain` and `resume`: the partitions are about to go, the next owner replays them.
        """
        generation = self._generation
        if not self._taking:
            return
        with self._parts.metrics.tokenize_seconds.time():
            items = await self._parts.embedder.on_tokenizer_thread(lambda: self._prepare(positions))
        for batch in _batches(items, generation):
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
            await self._begin(batch)
            self._parts.fail_points.passing("after_intent")
            await self._embed(batch)
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

    def _prepare(self, positions: Sequence[tuple[Position, Record]]) -> list[Item]:
        """Decode and split, on the tokenizer's thread."""
        items = []
        for position, record in positions:
            item = Item(position, record)
            decoded = decode(record)
            if isinstance(decoded, Rejected):
                item.refused = decoded
            else:
                chunks = chunk_document(decoded, self._parts.rules, self._parts.embedder.tokens.count)
                if isinstance(chunks, Rejected):
                    item.refused = chunks
                else:
                    item.document, item.chunks = decoded, chunks
            items.append(item)
        return items

    async def _begin(self, batch: Batch) -> None:
        """Read the registry, decide, swap the intents in; again for those where another writer was faster."""
        waiting = _newest(batch.items)
        while waiting:
            stored = await self._parts.registry.read(item.document.id for item in waiting if item.document)
            swaps: list[tuple[Item, Entry, Stored | None]] = []
            for item in waiting:
                entry = self._decide(item, stored)
                if entry is not None:
                    swaps.append((item, entry, stored.get(entry.doc_id)))
            results = await self._parts.registry.swap([(entry, before) for _, entry, before in swaps])
            waiting = []
            for (item, entry, _), swapped in zip(swaps, results, strict=True):
                if swapped is None:
                    waiting.append(item)
                elif entry.state == "writing":
                    item.intent = swapped
                else:
                    item.outcome = "unchanged"
                    self._parts.metrics.skipped.labels("unchanged").inc(len(item.chunks))

    def _decide(self, item: Item, stored: dict[str, Stored]) -> Entry | None:
        """The entry to swap in, or None when the item is settled or refused."""
        document = item.document
        assert document is not None  # noqa: S101 - _newest returns documents only
        wanted = Wanted(
            doc_id=document.id,
            partition=item.record.partition,
            version=version(EPOCH, item.record.offset),
            n=len(item.chunks),
            content_hash=document.content_hash,
        )
        uuid = self._parts.identity.chunk_index_uuid
        match decide(stored.get(document.id), wanted, chunk_index_uuid=uuid, epoch_floor=version(EPOCH, 0)):
            case Begin(entry) | Touch(entry):
                return entry
            case Settled():
                item.outcome = "superseded"
                self._parts.metrics.skipped.labels("superseded").inc(len(item.chunks))
            case Misplaced(partition):
                item.refused = Rejected(
                    record=item.record,
                    stage="registry",
                    error="KeyOnTwoPartitions",
                    message=f"this key was seen on partition {partition}: offsets of two partitions don't compare; "
                    "give every producer of this topic the same partitioner",
                )
        return None

    async def _embed(self, batch: Batch) -> None:
        """Vectors of all begun items; one that gets a zero or non-finite vector is refused."""
        begun = [item for item in batch.items if item.intent]
        texts = [chunk.text for item in begun for chunk in item.chunks]
        if not texts:
            return
        metrics = self._parts.metrics
        with metrics.embed_seconds.time():
            tokens = await self._parts.embedder.encode(texts)
            vectors = await self._parts.embedder.embed(tokens)
        metrics.embedded.inc(len(texts))
        metrics.batch_size.observe(len(texts))
        metrics.tokens.inc(sum(map(len, tokens)))
        ends = np.cumsum([len(item.chunks) for item in begun])
        for item, part in zip(begun, np.split(vectors, ends[:-1]), strict=True):
            item.vectors = part
            if (bad := first_bad_vector(part)) is not None:
                item.refused = Rejected(
                    record=item.record,
                    stage="embed",
                    error="BadVector",
                    message=f"the model gave a zero or non-finite vector for chunk {bad}",
                )

    async def _write(self, batch: Batch) -> None:
        """Make a batch durable, then say so.

        1. chunks and stubs, versioned, through the write alias
        2. stubs over every chunk of a document that was refused all the same: never a mixture
        3. done, or rejected: the registry's entries
        4. dead letters, awaited
        5. settle; claim, awaited; ack
        A crash between any two of them is healed by replay.
        """
        points, begun = self._parts.fail_points, [item for item in batch.items if item.intent]
        # 1
        await self._write_chunks([item for item in begun if not item.refused])
        points.passing("after_chunks")
        # 2
        await self._write_stubs([item for item in begun if item.refused])
        # 3
        await self._finish_entries(begun)
        points.passing("after_done")
        # 4
        for item in batch.items:
            if item.refused:
                await self._parts.dead_letters.send(item.refused)
                item.outcome = "dead_lettered"
        # 5
        for item in batch.items:
            self._parts.metrics.records.labels(item.outcome).inc()
        points.passing("before_claim")
        await self._assignment.settle([item.position for item in batch.items])
        points.passing("after_claim")

    async def _write_chunks(self, items: list[Item]) -> None:
        now = utc_now()
        writes = [(item, write) for item in items for write in self._content(item, now)]
        outcomes = await self._send([write for _, write in writes])
        for (item, write), outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Refused) and not item.refused:
                item.refused = Rejected(
                    record=item.record,
                    stage="index",
                    error=outcome.error,
                    message=f"{write.id}: {outcome.reason}",
                )
            kind = "rejected" if isinstance(outcome, Refused) else _kind(write, outcome)
            self._parts.metrics.chunks.labels(kind).inc()

    async def _write_stubs(self, items: list[Item]) -> None:
        now = utc_now()
        writes = [write for item in items for write in self._stubs(item, 0, now)]
        for write, outcome in zip(writes, await self._send(writes), strict=True):
            self._parts.metrics.chunks.labels(_kind(write, outcome)).inc()

    def _content(self, item: Item, now: str) -> list[ChunkWrite]:
        assert item.document is not None  # noqa: S101 - begun items have one
        vectors = item.vectors if item.vectors is not None else np.empty((0, 0), np.float32)
        writes = content_writes(
            item.document,
            item.chunks,
            vectors,
            epoch=EPOCH,
            model=self._parts.embedder.manifest.name,
            indexed_at=now,
            names=self._parts.names,
        )
        return [*(writes if item.chunks else ()), *self._stubs(item, len(item.chunks), now)]

    def _stubs(self, item: Item, start: int, now: str) -> list[ChunkWrite]:
        assert item.document is not None  # noqa: S101 - begun items have one
        assert item.intent is not None  # noqa: S101
        numbers = range(start, item.intent.entry.hi)
        model = self._parts.embedder.manifest.name
        return list(stub_writes(item.document, numbers, epoch=EPOCH, model=model, indexed_at=now))

    async def _send(self, writes: list[ChunkWrite]) -> list[object]:
        operations = [
            Operation(
                action="index",
                meta={"_id": write.id, "version": write.version, "version_type": "external_gte"},
                source=write.source,
            )
            for write in writes
        ]
        if not operations:
            return []
        return list(await self._parts.bulk.send(self._parts.identity.write_alias, operations, require_alias=True))

    async def _finish_entries(self, begun: list[Item]) -> None:
        """Swap in done or rejected. Where that is lost: a newer version took over, or our own answer was lost."""
        waiting = begun
        while waiting:
            swaps = []
            for item in waiting:
                assert item.intent is not None  # noqa: S101 - waiting items have one
                make = rejected_entry if item.refused else done
                swaps.append((make(item.intent.entry), item.intent))
            results = await self._parts.registry.swap(swaps)
            lost = [item for item, swapped in zip(waiting, results, strict=True) if swapped is None]
            now = await self._parts.registry.read(item.document.id for item in lost if item.document)
            waiting = []
            for item in lost:
                assert item.intent is not None  # noqa: S101
                assert item.document is not None  # noqa: S101
                current = now.get(item.document.id)
                mine = item.intent.entry
                if current and current.entry.version == mine.version and current.entry.state == "writing":
                    item.intent = Stored(entry=mine, seq_no=current.seq_no, primary_term=current.primary_term)
                    waiting.append(item)


def _newest(items: list[Item]) -> list[Item]:
    """Of each document the newest valid record; the older ones are settled together with it.

    Records of one key on two partitions are not compared: the registry finds the second one out.
    """
    newest: dict[tuple[str, int], Item] = {}
    for item in items:
        if item.document and not item.refused:
            if older := newest.get(key := (item.document.id, item.record.partition)):
                older.outcome = "superseded"
            newest[key] = item
    return list(newest.values())


def _batches(items: list[Item], generation: int) -> list[Batch]:
    """Cut into batches of about 256 chunks; a document is never divided, nor are two partitions of one key joined."""
    batches: list[Batch] = []
    room = 0
    partitions: dict[str, int] = {}
    for item in items:
        size = max(1, len(item.chunks))
        partition = item.record.partition
        elsewhere = item.document and partitions.setdefault(item.document.id, partition) != partition
        if not batches or room < size or elsewhere:
            batches.append(Batch([], generation))
            room, partitions = MAX_BATCH_CHUNKS, {item.document.id: partition} if item.document else {}
        batches[-1].items.append(item)
        room -= size
    return batches


def _kind(write: ChunkWrite, outcome: object) -> str:
    if isinstance(outcome, Conflict):
        return "superseded"
    return "stub" if write.source["penstock"]["stub"] else "indexed"
