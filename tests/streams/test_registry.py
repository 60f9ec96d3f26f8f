"""The registry's planner against a model of the index: crashes, replays, zombies; no stale chunk is left."""

import asyncio
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from streams import protocol
from streams.ids import version as version_of
from streams.memory import MemoryChunks, MemoryEntries
from streams.plan import FieldNames, Space, stub_writes
from streams.protocol import Target, Work
from streams.record import Document, Record, decode
from streams.registry import (
    Begin,
    Elsewhere,
    Entry,
    Misplaced,
    Settled,
    Stored,
    Touch,
    Wanted,
    decide,
    done,
    from_source,
    is_settled,
    to_source,
)

SPACE = Space(model="m", dims=2, names=FieldNames())
UUID = "chunks-1"


def wanted(version: int, n: int, content: str = "", partition: int = 0) -> Wanted:
    return Wanted(doc_id="d", partition=partition, version=version, n=n, content_hash=content or f"v{version}")


def decision(stored: Stored | None, want: Wanted, uuid: str = UUID) -> object:
    return decide(stored, want, chunk_index_uuid=uuid)


def stored(entry: Entry) -> Stored:
    return Stored(entry=entry, seq_no=1, primary_term=1)


def begin(want: Wanted, before: Stored | None = None) -> Entry:
    result = decision(before, want)
    assert isinstance(result, Begin)
    return result.entry


@given(
    before=st.none()
    | st.builds(
        Entry,
        doc_id=st.just("d"),
        partition=st.integers(0, 1),
        version=st.sampled_from([version_of(epoch, offset) for epoch in (0, 1) for offset in (1, 2)]),
        state=st.sampled_from(["writing", "done", "rejected"]),
        n=st.integers(0, 2),
        hi=st.integers(0, 3),
        content_hash=st.sampled_from("ab"),
        chunk_index_uuid=st.sampled_from([UUID, "another"]),
        attempt=st.integers(1, 2),
    ),
    want=st.builds(
        Wanted,
        doc_id=st.just("d"),
        partition=st.integers(0, 1),
        version=st.sampled_from([version_of(epoch, offset) for epoch in (0, 1) for offset in (1, 2)]),
        n=st.integers(0, 2),
        content_hash=st.sampled_from("ab"),
    ),
)
def test_what_is_settled_is_known_before_it_is_split(before: Entry | None, want: Wanted) -> None:
    there = None if before is None else stored(before)
    known = is_settled(there, partition=want.partition, version=want.version, chunk_index_uuid=UUID)
    assert known == isinstance(decision(there, want), Settled)


def test_absent_document_begins() -> None:
    entry = begin(wanted(3, 2))
    assert (entry.state, entry.version, entry.n, entry.hi) == ("writing", 3, 2, 2)


def test_shrinking_remembers_the_highest_chunk_until_it_is_stubbed() -> None:
    before = stored(done(begin(wanted(1, 5))))
    entry = begin(wanted(2, 2), before)
    assert (entry.n, entry.hi) == (2, 5)
    assert done(entry).hi == 2


def test_interrupted_intent_is_inherited_by_the_next_version() -> None:
    interrupted = stored(begin(wanted(1, 9)))
    assert begin(wanted(2, 1), interrupted).hi == 9


def test_older_and_equal_versions_are_settled() -> None:
    before = stored(done(begin(wanted(5, 1))))
    assert isinstance(decision(before, wanted(4, 1)), Settled)
    assert isinstance(decision(before, wanted(5, 1)), Settled)


def test_own_interrupted_intent_begins_again() -> None:
    assert isinstance(decision(stored(begin(wanted(5, 1))), wanted(5, 1)), Begin)


def test_same_content_only_moves_the_version() -> None:
    before = stored(done(begin(wanted(5, 4, "same"))))
    result = decision(before, wanted(8, 4, "same"))
    assert isinstance(result, Touch)
    assert (result.entry.version, result.entry.n, result.entry.state) == (8, 4, "done")
    assert result.entry.content_version == 5


def test_an_entry_from_before_content_versions_is_read_and_touched() -> None:
    older = to_source(done(begin(wanted(5, 4, "same"))), "")
    del older["content_version"]
    result = decision(stored(from_source(older)), wanted(8, 4, "same"))
    assert isinstance(result, Touch)
    assert (result.entry.version, result.entry.content_version) == (8, None)


def test_a_record_that_was_begun_for_another_model_stays_with_it() -> None:
    here = replace(wanted(5, 2, "here"), elsewhere={"there": True})
    there = wanted(5, 3, "there")
    for before in (begin(there), done(begin(there))):
        for want in (here, replace(here, attempt=2), replace(here, repair=True)):
            again = before.state == "writing" or want.repair or want.attempt > 1
            assert decision(stored(before), want) == (Elsewhere("there") if again else Settled())
    assert isinstance(decision(stored(begin(wanted(5, 3, "other text"))), here), Begin), "what is of no model joins"


def test_a_record_that_another_model_refused_may_go_by_its_own_way() -> None:
    refused = replace(begin(wanted(5, 3, "there")), state="rejected", n=0)
    here = replace(wanted(5, 2, "here"), elsewhere={"there": True})
    assert decision(stored(refused), here) == Settled()
    for want in (replace(here, attempt=2), replace(here, repair=True)):
        found = decision(stored(refused), want)
        assert isinstance(found, Begin)
        assert (found.entry.content_hash, found.entry.hi, found.entry.attempt) == ("here", 3, 2)


def test_content_stays_where_it_may() -> None:
    before = done(begin(wanted(5, 3, "there")))
    may, must_not = ({"there": stays} for stays in (True, False))
    found = decision(stored(before), replace(wanted(6, 2, "here"), elsewhere=may))
    assert found == Touch(replace(before, version=6))
    assert isinstance(decision(stored(before), replace(wanted(6, 2, "here"), elsewhere=must_not)), Begin)


def test_entry_about_another_chunk_index_counts_as_absent() -> None:
    before = stored(done(begin(wanted(5, 4, "same"))))
    result = decision(before, wanted(5, 4, "same"), uuid="chunks-2")
    assert isinstance(result, Begin)
    assert result.entry.hi == 4


def test_key_on_another_partition_in_the_same_epoch_is_misplaced() -> None:
    before = stored(done(begin(wanted(5, 4))))
    assert decision(before, wanted(9, 1, partition=1)) == Misplaced(0)
    later = wanted(version_of(1, 0), 1, partition=1)
    assert isinstance(decide(before, later, chunk_index_uuid=UUID), Begin)
    moved = stored(done(begin(later)))
    assert decide(moved, wanted(9, 1), chunk_index_uuid=UUID) == Settled()


@given(st.integers(0, 2**60), st.integers(0, 99))
def test_entry_survives_storage(version: int, n: int) -> None:
    entry = begin(wanted(version, n))
    assert from_source(to_source(entry, "2026-01-01T00:00:00Z")) == entry


@dataclass
class ModelIndex:
    """Elasticsearch in small: external versions for chunks, compare-and-swap for the entry."""

    entry: Stored | None = None
    seq_no: int = 0
    chunks: dict[int, tuple[int, str | None]] = field(default_factory=dict)

    def swap(self, entry: Entry, before: Stored | None) -> bool:
        if (self.entry and self.entry.seq_no) != (before and before.seq_no):
            return False
        self.seq_no += 1
        self.entry = Stored(entry=entry, seq_no=self.seq_no, primary_term=1)
        return True

    def write(self, number: int, version: int, text: str | None) -> None:
        if number not in self.chunks or version >= self.chunks[number][0]:
            self.chunks[number] = (version, text)

    def alive(self) -> list[str]:
        return [text for _, (_, text) in sorted(self.chunks.items()) if text is not None]


class Writer:
    """One worker replaying the log for one document, stopped and resumed at every step."""

    def __init__(self, index: ModelIndex, log: list[int]) -> None:
        self.index, self.log, self.position = index, log, 0
        self.todo: list[tuple[int, int, str | None]] = []
        self.intent: Entry | None = None
        self.read: Stored | None = None
        self.fresh = False

    def restart(self) -> None:
        self.__init__(self.index, self.log)  # type: ignore[misc]  # a crash forgets everything

    @property
    def finished(self) -> bool:
        return self.position == len(self.log)

    def step(self) -> None:
        if self.finished:
            return
        if not self.fresh:
            self.read, self.fresh = self.index.entry, True
        elif self.intent is None:
            self._decide()
        elif self.todo:
            self.index.write(*self.todo.pop())
        else:
            self._finish()

    def _decide(self) -> None:
        version, n = self.position + 1, self.log[self.position]
        self.fresh = False
        match decision(self.read, wanted(version, n)):
            case Settled():
                self.position += 1
            case Touch(entry):
                if self.index.swap(entry, self.read):
                    self.position += 1
            case Begin(entry):
                if self.index.swap(entry, self.read):
                    self.intent = entry
                    self.todo = [(i, version, f"{version}/{i}" if i < n else None) for i in range(entry.hi)]

    def _finish(self) -> None:
        assert self.intent is not None
        now = self.index.entry
        if now and now.entry.version == self.intent.version and now.entry.state == "writing":
            self.index.swap(done(self.intent), now)
        self.intent, self.fresh = None, False
        self.position += 1


moves = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["step"] * 9 + ["crash"])), max_size=200)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), moves)
def test_any_interleaving_of_three_writers_ends_at_the_newest_version(
    log: list[int], schedule: list[tuple[int, str]]
) -> None:
    index = ModelIndex()
    writers = [Writer(index, log) for _ in range(3)]
    for number, move in schedule:
        writers[number].restart() if move == "crash" else writers[number].step()
    for writer in (*writers, Writer(index, log)):
        for _ in range(200):
            writer.step()
        assert writer.finished
    assert index.alive() == [f"{len(log)}/{i}" for i in range(log[-1])]


def test_an_intent_of_ones_own_is_not_swapped_in_again() -> None:
    """Its answer was lost, or a crash left it behind: another swap, whose answer may be lost too, gains nothing."""
    record = Record(topic="t", partition=0, offset=5, timestamp_ms=0, key=b"d", value=b'{"text": "some text"}')
    document = decode(record)
    assert isinstance(document, Document)
    target = Target(chunk_index_uuid=UUID)
    entries = MemoryEntries()

    def begun() -> Stored | None:
        work = Work(record, 0, SPACE, document=document)
        asyncio.run(protocol.begin([work], target, entries, MemoryChunks()))
        return work.intent

    first = begun()
    assert first is not None
    assert first.entry.state == "writing"
    assert begun() == first


def test_a_key_whose_registry_was_lost_stays_on_the_partition_of_its_chunks() -> None:
    """On another one its offsets may be lower: chunks of both would be a mixture for ever."""
    chunks, entries = MemoryChunks(), MemoryEntries()

    def work(partition: int, offset: int, epoch: int = 0) -> Work:
        value = b'{"text": "some text"}'
        record = Record(topic="t", partition=partition, offset=offset, timestamp_ms=0, key=b"d", value=value)
        document = decode(record)
        assert isinstance(document, Document)
        return Work(record, epoch, SPACE, document=document)

    def begun(one: Work, *, unverified: bool = True) -> Work:
        target = Target(chunk_index_uuid=UUID, unverified=unverified)
        asyncio.run(protocol.begin([one], target, entries, chunks))
        return one

    before = work(0, 900).document
    assert before
    asyncio.run(chunks.write(stub_writes(before, range(1), epoch=0, model="m", indexed_at="")))
    moved = begun(work(1, 0))
    assert moved.rejected
    assert (moved.intent, moved.rejected.error) == (None, "KeyOnTwoPartitions")
    assert begun(work(1, 0, epoch=1)).intent, "keys move between epochs"
    entries = MemoryEntries()
    assert begun(work(0, 901)).intent
    entries = MemoryEntries()
    assert begun(work(1, 0), unverified=False).intent, "nobody asks where the registry knows everything"
