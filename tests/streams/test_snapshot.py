"""Rows of snapshots against the planner: in any order, run twice, beside the stream; the newest says what is there."""

import asyncio
from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from streams import protocol
from streams.dead_letter import Home, headers_of, newest, placed, read_letter, standing
from streams.epochs import Cut, Epochs, for_snapshots, to_contract
from streams.ids import MAX_OFFSET, version
from streams.memory import MemoryChunks, MemoryEntries
from streams.plan import FieldNames, Space
from streams.protocol import Target, Work
from streams.record import Document, Record, Rejected, decode
from streams.registry import is_settled
from streams.snapshot import EPOCH, SNAPSHOT, TWICE, File, Snapshot, is_row, origin_of, record_of, time_of

EPOCHS = Epochs((for_snapshots("2026-12-01T00:00:00Z"),))
SPACE = Space(model="m", dims=2, names=FieldNames())
TODAY = 1_796_000_000_000


def row(at_ms: int, text: str | None, origin: str = "docs.jsonl@0") -> Record:
    value = None if text is None else f'{{"text": "{text}"}}'.encode()
    return record_of("docs", at_ms, origin, b"d", value)


def published(offset: int, text: str | None) -> Record:
    value = None if text is None else f'{{"text": "{text}"}}'.encode()
    return Record(topic="docs", partition=3, offset=offset, timestamp_ms=0, key=b"d", value=value)


def work(record: Record) -> Work:
    made = decode(record)
    assert isinstance(made, Document)
    epoch = EPOCH if is_row(record) else EPOCHS.of(record.partition, record.offset)
    return Work(record, epoch, SPACE, document=made)


class Index:
    """What is kept of documents without chunks: the planner alone."""

    def __init__(self) -> None:
        self.entries, self.chunks = MemoryEntries(), MemoryChunks()
        self.target = Target(chunk_index_uuid="u")

    def take(self, *records: Record) -> list[Work]:
        works = [work(record) for record in records]

        async def run() -> None:
            await protocol.begin(works, self.target, self.entries, self.chunks)
            await protocol.finish(works, self.entries)

        asyncio.run(run())
        return works

    @property
    def version(self) -> int:
        return asyncio.run(self.entries.read(["d"]))["d"].entry.version


def test_whatever_the_stream_says_is_newer() -> None:
    snapshots = [row(TODAY, "old"), row(TODAY + 1, "newer")]
    for records in permutations([*snapshots, published(0, "first"), published(1, None)]):
        index = Index()
        for record in records:
            assert not index.take(record)[0].rejected
        assert index.version == version(1, 1)


@given(st.permutations([row(TODAY + day, f"day {day}") for day in range(4)]))
def test_of_two_snapshots_the_newer_one_wins(records: list[Record]) -> None:
    index = Index()
    for record in records:
        assert not index.take(record)[0].rejected
    assert index.version == version(EPOCH, TODAY + 3)


def test_the_same_again_is_settled_and_another_row_of_the_document_is_refused() -> None:
    index = Index()
    index.take(row(TODAY, "one"))
    (again,) = index.take(row(TODAY, "one"))
    assert (again.rejected, again.outcome) == (None, "superseded")
    (other,) = index.take(row(TODAY, "two", "docs.jsonl@17"))
    assert other.rejected
    assert (other.rejected.stage, other.rejected.error) == ("registry", TWICE)
    stored = asyncio.run(index.entries.read(["d"]))["d"]
    hashes = [work(row(TODAY, text)).document for text in ("one", "two")]
    told = {"partition": SNAPSHOT, "version": version(EPOCH, TODAY), "chunk_index_uuid": "u"}
    settled = [is_settled(stored, **told, hashes=[one.content_hash]) for one in hashes if one]  # type: ignore[arg-type]
    assert settled == [True, False]


def test_what_verify_leaves_to_be_written_is_written_by_the_same_snapshot() -> None:
    index = Index()
    index.take(row(TODAY, "one"))
    stored = asyncio.run(index.entries.read(["d"]))["d"]
    asyncio.run(index.entries.swap([(replace(stored.entry, content_hash=""), stored)]))
    (again,) = index.take(row(TODAY, "one"))
    assert (again.rejected, again.outcome, again.attempt) == (None, "stored", 2)


def test_room_for_snapshots_is_told_by_the_first_cut_alone() -> None:
    assert EPOCHS.have_room_for_snapshots
    assert EPOCHS.then(Cut(at="", why="another log", offsets={})).have_room_for_snapshots
    assert not Epochs().have_room_for_snapshots
    assert not Epochs((Cut(at="", why="another log", offsets={}),)).have_room_for_snapshots
    assert to_contract(EPOCHS)[0]["offsets"] == {}
    assert EPOCHS.of(0, 0) == 1


def test_a_time_fits_a_version() -> None:
    assert TODAY * 100 < MAX_OFFSET


def test_letters_of_rows_are_told_apart_by_their_rows() -> None:
    home = Home(group="g", index="i", log="c/t", epochs=EPOCHS)
    letters = []
    for origin in ("a.jsonl@0", "a.jsonl@0", "a.jsonl@9"):
        record = row(TODAY, "x", origin)
        rejected = Rejected(record=record, stage="decode", error="InvalidRecord", message="no")
        headers = [*record.headers, *headers_of(rejected, home=home, attempt=1, epoch=EPOCH)]
        letters.append(read_letter(record.key, record.value, headers, TODAY))
    assert [origin_of(letter.record) for letter in newest(letters)] == ["a.jsonl@0", "a.jsonl@9"]
    other = Home(group="g2", index="j", log="another", epochs=EPOCHS)
    assert (placed(letters[0], other).origin, placed(letters[0], other).epoch) == ("earlier", EPOCH)
    assert placed(letters[0], Home(group="g2", index="j", log="c/t")).origin == "foreign"


def test_a_letter_about_a_second_row_is_open_until_something_newer_comes() -> None:
    index = Index()
    index.take(row(TODAY, "one"))
    (other,) = index.take(row(TODAY, "two"))
    assert other.rejected
    headers = headers_of(other.rejected, home=Home(group="g", index="i", log="l"), attempt=1, epoch=EPOCH)
    letter = read_letter(other.record.key, other.record.value, [*other.record.headers, *headers], TODAY)
    assert standing(letter, asyncio.run(index.entries.read(["d"]))["d"].entry) == "open"
    index.take(row(TODAY + 1, "two"))
    assert standing(letter, asyncio.run(index.entries.read(["d"]))["d"].entry) == "superseded"


def test_a_snapshot_is_as_large_as_its_files() -> None:
    assert Snapshot(at_ms=TODAY, files=(File(path="a", size=3), File(path="b", size=4))).size == 7


def test_a_set_of_files_that_changed_is_of_another_time() -> None:
    def at(newest_ms: int, tag: str, noted: tuple[str, int] | None) -> int:
        return time_of(Snapshot(at_ms=newest_ms, files=(), tag=tag), noted, TODAY)

    assert at(100, "a", None) == 100
    assert at(100, "a", ("a", 100)) == 100, "the same again"
    assert at(200, "b", ("a", 100)) == 200, "with a newer file"
    assert at(100, "b", ("a", 100)) == TODAY, "one went, or an older one came in its place"
    assert at(100, "b", ("b", TODAY)) == TODAY, "and the same again"
    assert at(50, "c", ("b", TODAY)) == TODAY
