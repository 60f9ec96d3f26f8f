"""Dead letters: what goes into the headers comes out of them, and what became of a record is told by its entry."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letter import (
    headers_of,
    made_whole,
    newest,
    pointer_to,
    pointer_to_all,
    read_letter,
    serves_older,
    standing,
)
from streams.identity import version
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
    headers = [*record.headers, *headers_of(rejected, group="g", attempt=attempt, epoch=epoch)]
    letter = read_letter(record.key, record.value, headers, 5)
    assert letter.record == record
    assert (letter.stage, letter.error, letter.message) == ("decode", "InvalidRecord", message)
    assert (letter.attempt, letter.epoch, letter.left_out) == (attempt, epoch, None)


@given(RECORDS, st.text(), st.binary())
def test_what_was_left_out_is_taken_from_the_record_at_its_place(record: Record, message: str, other: bytes) -> None:
    rejected = Rejected(record=record, stage="decode", error="InvalidRecord", message=message)
    letter = read_letter(None, None, pointer_to_all(rejected, group="g", attempt=1, epoch=0), 5)
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
    headers = pointer_to_all(rejected, group="g", attempt=1, epoch=0)
    assert sum(len(name) + len(value or b"") for name, value in headers) < 4096


def letter_at(offset: int, attempt: int = 1, key: bytes = b"k", epoch: int = 0):  # type: ignore[no-untyped-def]
    record = Record(topic="t", partition=1, offset=offset, timestamp_ms=0, key=key, value=b"v")
    rejected = Rejected(record=record, stage="decode", error="E", message=str(attempt))
    return read_letter(key, None, headers_of(rejected, group="g", attempt=attempt, epoch=epoch) + pointer_to(record), 0)


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
