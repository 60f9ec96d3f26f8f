"""The protocol of a micro-batch over two ports: what is asked of the index, in which order, and what follows from it.

    begin     read entries ─► decide ─► swap the intents in
    reuse     read the old chunks of changed documents: equal input gives its vector
              (the caller embeds what is left)
    write     chunks and stubs, versioned ─► stubs over all of a document that was refused
              (the caller sends the dead letters: an entry that says `rejected` promises that they are there)
    finish    swap `done` or `rejected` in

The caller then settles, claims and acknowledges. A crash between any two requests is healed
by replay or by the next version: see `streams.registry`. Everything here may happen twice, and on two workers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from streams.cost import NOTHING_SPENT, Spend
from streams.errors import PenstockError
from streams.flags import NOTHING, Verdict
from streams.ids import chunk_id, version
from streams.plan import (
    ChunkWrite,
    Refused,
    Space,
    Vectors,
    Written,
    chunk_hash,
    content_writes,
    first_bad_vector,
    fits,
    stub_writes,
)
from streams.ports import Chunks, Entries
from streams.record import Document, Record, Rejected
from streams.registry import (
    Begin,
    Busy,
    Elsewhere,
    Entry,
    Misplaced,
    Settled,
    Stored,
    Touch,
    Twice,
    Wanted,
    decide,
    done,
)
from streams.registry import rejected as rejected_entry
from streams.snapshot import TWICE
from streams.split import Chunk

READ_AT_ONCE = 256
"""Old chunks whose vectors are in memory together: some 1 MB of 384 dims, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a worker writes into. `unverified`: its chunks may be fewer than its registry has as written."""

    chunk_index_uuid: str
    unverified: bool = False


@dataclass(slots=True)
class Work:
    """One record on its way. `rejected` is set at whichever stage finds that it cannot go on.

    `epoch`: the one that its record belongs to, see `streams.epochs`. `attempt`: above 1 when it comes from the dead
    letters. `repair`: whatever is there is written again. `intent`: the entry as swapped in, of a document that has to
    be written. `old`: chunk numbers below it may hold vectors worth reading. `vectors`: float32 (len(chunks), dims),
    and `known` the rows that are filled already. `verdict`: on its text. `space`: where its vectors belong; `route`: by
    which it comes there, where an index has several. `elsewhere`: as `Placed` says; `begun`: the hash of these with
    which this very record was begun, so that it has to be prepared for that space. `spend`: what its vectors cost,
    where that is counted.
    """

    record: Record
    epoch: int
    space: Space
    route: str | None = None
    document: Document | None = None
    chunks: list[Chunk] = field(default_factory=list)
    verdict: Verdict = NOTHING
    rejected: Rejected | None = None
    attempt: int = 1
    repair: bool = False
    intent: Stored | None = None
    old: int = 0
    vectors: Vectors | None = None
    known: set[int] = field(default_factory=set)
    outcome: str = "stored"
    spend: Spend = NOTHING_SPENT
    elsewhere: Mapping[str, bool] = field(default_factory=dict)
    begun: str | None = None

    @property
    def version(self) -> int:
        """External version of everything that the record writes."""
        return version(self.epoch, self.record.offset)

    def know(self, number: int, vector: Vectors) -> None:
        """This is the vector of a chunk, made before; where there are any to be made."""
        if self.vectors is not None:
            self.vectors[number] = vector
            self.known.add(number)

    def reject(self, stage: str, error: str, message: str) -> None:
        """Dead-letter it; the first reason stays."""
        if self.rejected is None:
            self.rejected = Rejected(record=self.record, stage=stage, error=error, message=message)


async def begin(batch: Sequence[Work], target: Target, entries: Entries, chunks: Chunks) -> None:
    """Swap in the intents of the documents that have to be written; again where another writer was faster.

    A document without an intent afterwards is settled by its `outcome`, refused, or `begun` for another space. Where
    the registry may have forgotten a document, its first chunk tells which partition it is on: chunks of two would be a
    mixture.
    """
    waiting = newest(batch)
    while waiting:
        docs = [work.document.id for work in waiting if work.document]
        stored = await entries.read(docs)
        unknown = [chunk_id(doc, 0) for doc in docs if target.unverified and doc not in stored]
        origins = await chunks.origins(unknown) if unknown else {}
        swaps: list[tuple[Work, Entry, Stored | None]] = []
        for work in waiting:
            entry = _decide(work, stored, origins, target)
            before = stored.get(entry.doc_id) if entry else None
            if entry is None:
                continue
            work.attempt = entry.attempt
            if before and before.entry == entry:  # our own write whose answer was lost, or what a crash left behind
                work.intent, work.old = before, entry.hi
            else:
                swaps.append((work, entry, before))
        results = await entries.swap([(entry, before) for _, entry, before in swaps])
        waiting = []
        for (work, entry, before), swapped in zip(swaps, results, strict=True):
            if swapped is None:
                waiting.append(work)
            elif entry.state == "writing":
                work.intent = swapped
                work.old = 0 if work.repair else _old_chunks(before, target)
            else:
                work.outcome = "unchanged"


async def reuse(batch: Sequence[Work], chunks: Chunks, progressed: Callable[[], None] = lambda: None) -> None:
    """Fill in the vectors whose input did not change since the version before.

    `progressed`: called now and then.
    """
    for work in begun(batch):
        work.vectors = np.empty((len(work.chunks), work.space.dims), dtype=np.float32)
    by_field: dict[str, list[tuple[Work, int]]] = {}
    for work in begun(batch):
        if work.chunks and work.old:
            by_field.setdefault(work.space.names.vector, []).append((work, work.old))
    for field_name, old in by_field.items():
        await fill(old, chunks, field_name, progressed)


async def fill(
    old: Sequence[tuple[Work, int]], chunks: Chunks, vector: str, progressed: Callable[[], None] = lambda: None
) -> None:
    """Read vectors of equal input from the chunks that documents of one space have in an index.

    `old`: with each how many chunks are read. `vector`: the field there. Hash and vector are of the same row, so a pair
    is right whoever wrote it, and however old it is.
    """
    wanted: dict[str, list[tuple[Work, int]]] = {}
    for work, _ in old:
        for number, chunk in enumerate(work.chunks):
            if number not in work.known:
                wanted.setdefault(chunk_hash(chunk.text), []).append((work, number))
    ids = (chunk_id(work.document.id, number) for work, n in old if work.document for number in range(n))
    while wanted and (part := list(islice(ids, READ_AT_ONCE))):
        for key, found in (await chunks.read(part, vector)).items():
            if key in wanted and fits(found, wanted[key][0][0].space):
                for work, number in wanted.pop(key):
                    work.know(number, found)
        progressed()


async def write(
    batch: Sequence[Work],
    chunks: Chunks,
    indexed_at: str,
    progressed: Callable[[], None] = lambda: None,
) -> None:
    """Make the chunks of the begun documents durable. `indexed_at`: UTC, ISO 8601. `progressed`: called now and then.

    1. chunks and stubs
    2. a chunk that lost to a stub of its own version: an earlier attempt was refused halfway, and so is this one
    3. stubs over every chunk of a document that was refused all the same: never a mixture
    """
    works = begun(batch)
    for work in works:
        if work.vectors is not None and (bad := first_bad_vector(work.vectors)) is not None:
            work.reject("embed", "BadVector", f"the model gave a zero or non-finite vector for chunk {bad}")
    # 1
    sound = [work for work in works if not work.rejected]
    outcomes = await chunks.write(_drawn(sound, lambda work: _content_and_stubs(work, indexed_at), progressed))
    lost: dict[str, Work] = {}
    for (work, number), outcome in zip(_numbers(sound), outcomes, strict=True):
        if isinstance(outcome, Written):
            continue
        assert work.document is not None  # noqa: S101 - begun works have one
        if isinstance(outcome, Refused):
            work.reject("index", outcome.error, f"{chunk_id(work.document.id, number)}: {outcome.reason}")
        elif number < len(work.chunks) and work.attempt == 1:
            lost[chunk_id(work.document.id, number)] = work
    # 2
    for key, found in (await chunks.stubs(list(lost)) if lost else {}).items():
        if found == lost[key].version:
            lost[key].reject("index", "RefusedBefore", f"{key}: an earlier attempt at this record was refused")
    # 3
    if rejected := [work for work in works if work.rejected]:
        stubs = await chunks.write(_drawn(rejected, lambda work: _stubs(work, 0, indexed_at), progressed))
        for outcome in stubs:
            if isinstance(outcome, Refused):  # an empty row is no document's fault; the version before stays served
                raise PenstockError(f"a stub was refused ({outcome.error}): {outcome.reason}")


def _drawn(
    works: Sequence[Work], writes: Callable[[Work], Iterable[ChunkWrite]], progressed: Callable[[], None]
) -> Iterator[ChunkWrite]:
    """More is drawn when the server has taken what was drawn before: that is progress."""
    for work in works:
        for write in writes(work):
            progressed()
            yield write


def _numbers(works: Sequence[Work]) -> Iterator[tuple[Work, int]]:
    """In the order of `_content_and_stubs`: chunks and stubs by work."""
    for work in works:
        assert work.intent is not None  # noqa: S101 - begun works have one
        for number in range(max(len(work.chunks), work.intent.entry.hi)):
            yield work, number


async def finish(batch: Sequence[Work], entries: Entries) -> None:
    """Swap in done or rejected. Where that is lost: a newer version took over, or our own answer was lost."""
    waiting = begun(batch)
    while waiting:
        swaps = []
        for work in waiting:
            assert work.intent is not None  # noqa: S101 - begun works have one
            make = rejected_entry if work.rejected else done
            swaps.append((make(work.intent.entry), work.intent))
        results = await entries.swap(swaps)
        lost = [work for work, swapped in zip(waiting, results, strict=True) if swapped is None]
        now = await entries.read(work.document.id for work in lost if work.document)
        waiting = []
        for work in lost:
            assert work.intent is not None  # noqa: S101
            mine, current = work.intent.entry, now.get(work.intent.entry.doc_id)
            open_states = ("writing", "done") if work.rejected else ("writing",)  # its stubs are there: refusal stays
            same = current and (current.entry.version, current.entry.attempt) == (mine.version, mine.attempt)
            if current and same and current.entry.state in open_states:
                work.intent = Stored(entry=mine, seq_no=current.seq_no, primary_term=current.primary_term)
                waiting.append(work)


def begun(batch: Sequence[Work]) -> list[Work]:
    """Works whose intent is in the registry."""
    return [work for work in batch if work.intent]


def newest(batch: Sequence[Work]) -> list[Work]:
    """Of each document the newest valid record; the older ones are settled together with it.

    Records of one key on two partitions are not compared: the registry finds the second one out. Of two rows of one
    snapshot the first stays, and the other one is refused unless it says the same.
    """
    found: dict[tuple[str, int], Work] = {}
    for work in batch:
        if work.document and not work.rejected:
            older = found.get(key := (work.document.id, work.record.partition))
            if older and older.version == work.version and older.document:
                work.outcome = "superseded"
                if older.document.content_hash != work.document.content_hash:
                    _refuse_second(work, work.document.id)
                continue
            if older:
                older.outcome = "superseded"
            found[key] = work
    return list(found.values())


def _refuse_second(work: Work, doc_id: str) -> None:
    work.reject(
        "registry",
        TWICE,
        f"{doc_id} is there from another row of this snapshot, or of one of the same time, and says something else "
        "there: have one row a document; or give a newer snapshot a newer time, `penstock backfill --at TIME`",
    )


def _decide(
    work: Work, stored: Mapping[str, Stored], origins: Mapping[str, tuple[int, int]], target: Target
) -> Entry | None:
    """The entry to swap in, or None when the work is settled or refused."""
    document, record = work.document, work.record
    assert document is not None  # noqa: S101 - newest returns documents only
    wanted = Wanted(
        doc_id=document.id,
        partition=record.partition,
        version=work.version,
        n=len(work.chunks),
        content_hash=document.content_hash,
        attempt=work.attempt,
        repair=work.repair,
        unverified=target.unverified,
        elsewhere=work.elsewhere,
    )
    origin = origins.get(chunk_id(document.id, 0)) if origins else None
    match decide(stored.get(document.id), wanted, chunk_index_uuid=target.chunk_index_uuid, origin=origin):
        case Begin(entry) | Touch(entry):
            return entry
        case Settled():
            work.outcome = "superseded"
        case Busy():
            work.outcome = "busy"
        case Elsewhere(content_hash):
            work.begun = content_hash
        case Misplaced(partition):
            work.reject(
                "registry",
                "KeyOnTwoPartitions",
                f"this key was seen on partition {partition}: offsets of two partitions don't compare; "
                "give every producer of this topic the same partitioner. Where partitions were added: "
                "`penstock index epoch bump --why … --at TIME`, with the moment at which producers began to use "
                "them",
            )
        case Twice():
            _refuse_second(work, document.id)
    return None


def _old_chunks(before: Stored | None, target: Target) -> int:
    if before is None or before.entry.chunk_index_uuid != target.chunk_index_uuid:
        return 0
    return before.entry.hi


def _content_and_stubs(work: Work, indexed_at: str) -> Iterable[ChunkWrite]:
    assert work.document is not None  # noqa: S101 - begun works have one
    if work.chunks and work.vectors is not None:
        yield from content_writes(
            work.document,
            work.chunks,
            work.vectors,
            epoch=work.epoch,
            space=work.space,
            indexed_at=indexed_at,
            verdict=work.verdict,
            route=work.route,
            over_equal=work.attempt > 1,
        )
    yield from _stubs(work, len(work.chunks), indexed_at)


def _stubs(work: Work, start: int, indexed_at: str) -> Iterable[ChunkWrite]:
    assert work.document is not None  # noqa: S101 - begun works have one
    assert work.intent is not None  # noqa: S101
    numbers = range(start, work.intent.entry.hi)
    return stub_writes(work.document, numbers, epoch=work.epoch, model=work.space.model, indexed_at=indexed_at)
