"""Dead letters: what goes into the headers comes out of them, and what became of a record is told by its entry."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letter import (
    Failed,
    Home,
    Letter,
    belongs,
    cut,
    headers_of,
    headers_of_object,
    made_whole,
    newest,
    object_standing,
    placed,
    pointer_to,
    pointer_to_all,
    read_letter,
    serves_older,
    standing,
)
from streams.epochs import Cut, Epochs
from streams.ids import version
from streams.record import Record, Rejected
from streams.registry import Entry

OURS = ["__connect.errors.offset", "penstock.attempt", "penstock.epoch", "penstock.value.sha256"]
RECORDS = st.builds(
    Record,
    topic=st.text(min_size=1),
    partition=st.integers(0, 100),
    offset=st.integers(0, 10**12),
    timestamp_ms=st.just(5),
    key=st.none() | st.binary(),
    value=st.none() | st.binary(),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["", "trace", "penstock.own", "__connect.errors.topic", *OURS]) | st.text(),
            st.none() | st.binary(),
        )
    ).map(tuple),
)

HOME = Home(group="g", index="i", log="c/t")


def entry(**changes: object) -> Entry:
    values: dict[str, object] = {
        "doc_id": "k",
        "partition": 1,
        "version": version(0, 7),
        "state": "done",
        "n": 2,
        "hi": 2,
        "content_hash": "h",
        "chunk_index_uuid": "u",
    }
    return Entry(**{**values, **changes})  # type: ignore[arg-type]


@given(RECORDS, st.text(), st.integers(1, 9), st.integers(0, 9))
def test_a_letter_is_read_back_as_it_was_written(record: Record, message: str, attempt: int, epoch: int) -> None:
    """Whatever headers the record has, those of an earlier dead letter included."""
    rejected = Rejected(record=record, stage="decode", error="InvalidRecord", message=message)
    headers = [*record.headers, *headers_of(rejected, home=HOME, attempt=attempt, epoch=epoch)]
    letter = read_letter(record.key, record.value, headers, 5)
    assert letter.record == record
    assert (letter.stage, letter.error, letter.message) == ("decode", "InvalidRecord", message)
    assert (letter.attempt, letter.epoch, letter.left_out) == (attempt, epoch, None)


@given(RECORDS, st.text(), st.binary())
def test_what_was_left_out_is_taken_from_the_record_at_its_place(record: Record, message: str, other: bytes) -> None:
    rejected = Rejected(record=record, stage="decode", error="InvalidRecord", message=message)
    letter = read_letter(None, None, pointer_to_all(rejected, home=HOME, attempt=1, epoch=0), 5)
    assert (letter.record.key, letter.record.value, letter.record.headers, letter.doc_id) == (None, None, (), None)
    assert (letter.place, letter.stage) == ((record.partition, record.offset), "decode")
    whole = made_whole(letter, record)
    assert whole is not None
    assert whole.record == record
    assert made_whole(letter, None) is None
    for changed in ({"key": other}, {"value": other}, {"offset": record.offset + 1}):
        if made_whole(letter, replace(record, **changed)):
            assert (changed.get("key") or b"") == (record.key or b"") or (changed.get("value") or b"") == (
                record.value or b""
            )


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_pointer_to_all_is_small_whatever_the_record_is(size: int) -> None:
    large = b"x" * size
    record = Record(topic="t", partition=0, offset=1, timestamp_ms=0, key=large, value=large, headers=(("h", large),))
    rejected = Rejected(record=record, stage="decode", error="InvalidRecord", message="m" * size)
    headers = pointer_to_all(rejected, home=HOME, attempt=1, epoch=0)
    assert sum(len(name) + len(value or b"") for name, value in headers) < 4096


REJECTED = Rejected(
    record=Record(topic="t", partition=1, offset=1, timestamp_ms=0, key=b"k", value=b"v"),
    stage="decode",
    error="E",
    message="m",
)


def letter_at(offset: int, attempt: int = 1, key: bytes = b"k", epoch: int = 0):  # type: ignore[no-untyped-def]
    record = Record(topic="t", partition=1, offset=offset, timestamp_ms=0, key=key, value=b"v")
    rejected = Rejected(record=record, stage="decode", error="E", message=str(attempt))
    return read_letter(key, None, headers_of(rejected, home=HOME, attempt=attempt, epoch=epoch) + pointer_to(record), 0)


def test_a_pointer_has_the_hash_of_what_was_left_out() -> None:
    left_out = letter_at(7).left_out
    assert left_out == "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080"


def test_a_record_of_somebody_else_is_no_letter() -> None:
    with pytest.raises(ValueError, match=r"__connect\.errors\.topic"):
        read_letter(b"k", b"v", [("x", b"y")], 0)


@pytest.mark.parametrize(
    ("found", "expected", "older"),
    [
        (None, "open", False),
        (entry(version=version(0, 6)), "open", True),
        (entry(version=version(0, 6), n=0), "open", False),
        (entry(state="rejected"), "open", False),
        (entry(state="writing"), "open", False),
        (entry(), "resolved", False),
        (entry(version=version(0, 8)), "superseded", False),
        (entry(version=version(1, 0)), "superseded", False),
        (entry(partition=2), "open", True),
    ],
)
def test_what_became_of_a_record_is_told_by_its_entry(found: Entry | None, expected: str, older: bool) -> None:
    assert standing(letter_at(7), found) == expected
    assert serves_older(letter_at(7), found) == older


def test_the_latest_attempt_speaks_for_a_record_and_an_epoch_is_another_record() -> None:
    found = newest([letter_at(1), letter_at(2), letter_at(1, attempt=2), letter_at(1, epoch=1)])
    assert [(letter.record.offset, letter.attempt, letter.epoch) for letter in found] == [
        (1, 2, 0),
        (2, 1, 0),
        (1, 1, 1),
    ]


def test_a_key_that_is_no_text_names_no_document() -> None:
    assert letter_at(1, key=b"\xff").doc_id is None


ELSEWHERE = Home(group="g", index="j", log="c/t", epochs=Epochs((Cut(at="", why="", offsets={1: 5}),)))


@pytest.mark.parametrize(
    ("home", "origin", "epoch"),
    [
        (HOME, "own", 3),
        (replace(HOME, log="c2/t2"), "own", 3),  # the topic was made anew: an older epoch says so
        (ELSEWHERE, "earlier", 1),
        (replace(ELSEWHERE, log="c/"), "foreign", 3),  # a broker that gives topics no ids
        (replace(ELSEWHERE, log="c/t2"), "foreign", 3),
    ],
)
def test_a_letter_belongs_to_an_index_and_a_log(home: Home, origin: str, epoch: int) -> None:
    seen = placed(letter_at(7, epoch=3), home)
    assert (seen.origin, seen.epoch) == (origin, epoch)
    assert (standing(seen, entry()) == "foreign") == (origin == "foreign")


def test_a_letter_that_names_no_index_is_foreign() -> None:
    old = [(name, raw) for name, raw in headers_of(REJECTED, home=HOME, attempt=1, epoch=0) if "penstock.i" not in name]
    assert placed(read_letter(b"k", b"v", old, 0), HOME).origin == "foreign"


def test_a_letter_is_the_business_of_its_group_and_of_who_works_with_its_index() -> None:
    letter = letter_at(1)
    assert belongs(letter, HOME)
    assert belongs(letter, replace(HOME, group="renamed"))
    assert belongs(letter, replace(HOME, index="made anew"))
    assert not belongs(letter, replace(HOME, group="other", index="other"))


def test_of_two_letters_of_a_record_the_one_about_this_index_counts() -> None:
    earlier = replace(placed(letter_at(7, attempt=4), ELSEWHERE), epoch=0)
    assert [letter.attempt for letter in newest([letter_at(7), earlier])] == [1]
    assert [letter.attempt for letter in newest([earlier, letter_at(7)])] == [1]


FAILED = Failed(source="file:///d/", object="file:///d/a.pdf", tag="1-2", error="ConversionError", reason="no PDF")


def letter_about(failed: Failed, at_ms: int = 0) -> Letter:
    headers = headers_of_object(failed, topic="t", group="g", log="c/t")
    return read_letter(failed.object.encode(), None, headers, at_ms)


@given(
    st.builds(Failed, source=st.text(), object=st.text(min_size=1), tag=st.text(), error=st.text(), reason=st.text())
)
def test_a_letter_about_an_object_is_read_back_as_it_was_written(failed: Failed) -> None:
    letter = letter_about(failed)
    assert (letter.stage, letter.place, letter.record.value) == ("source", (-1, -1), None)
    assert (letter.source, letter.doc_id, letter.tag, letter.error) == (
        failed.source,
        failed.object,
        failed.tag,
        failed.error,
    )
    assert letter.message == cut(failed.reason)
    assert (letter.group, letter.log, letter.index) == ("g", "c/t", None)


def test_a_letter_about_an_object_is_small_whatever_the_reason_is() -> None:
    long = Failed(source="s" * 1000, object="o" * 1000, tag="t" * 64, error="E" * 20, reason="ä" * 100_000)
    headers = headers_of_object(long, topic="t", group="g", log="c/t")
    assert 1000 + sum(len(name) + len(value or b"") for name, value in headers) < 4096
    assert letter_about(long).message == "ä" * 300
    assert letter_about(replace(long, reason="a\udce4")).message == "a?"


def test_the_latest_letter_speaks_for_an_object_and_each_object_for_itself() -> None:
    other = replace(FAILED, object="file:///d/b.pdf")
    elsewhere = replace(FAILED, source="file:///d/a.pdf")
    letters = [letter_about(FAILED), letter_about(other), letter_about(elsewhere), letter_about(FAILED, at_ms=5)]
    found = newest([*letters, letter_at(1)])
    assert [(letter.source, letter.doc_id, letter.at_ms) for letter in found] == [
        ("file:///d/", "file:///d/a.pdf", 5),
        ("file:///d/", "file:///d/b.pdf", 0),
        ("file:///d/a.pdf", "file:///d/a.pdf", 0),
        (None, "k", 0),
    ]


def test_a_letter_about_an_object_is_everybodys_who_reads_the_topic() -> None:
    letter = letter_about(FAILED)
    assert belongs(letter, Home(group="another", index="j", log="c2/t2"))
    assert placed(letter, Home(group="another", index="j", log="c2/t2")) == letter


def test_an_object_stands_while_it_fails_on_the_way_to_that_log() -> None:
    place = (FAILED.source, FAILED.object)
    for failing, expected in (({place: "c/t"}, "open"), ({place: "c/t2"}, "resolved"), ({}, "resolved")):
        assert object_standing(letter_about(FAILED), failing) == expected
