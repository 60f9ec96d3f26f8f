"""Aggregates: what was packed comes out, and whatever is damaged is one record as it is."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from agents.sources.kinesis.aggregation import MAGIC, parts
from tests.kit.aggregate import aggregate

packed = st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=300)), max_size=12)


@given(packed, st.booleans())
def test_what_was_packed_comes_out(records: list[tuple[str, bytes]], hash_keys: bool) -> None:
    assert parts(aggregate(records, hash_keys=hash_keys)) == records


@given(st.binary(max_size=300))
def test_other_bytes_are_no_aggregate(data: bytes) -> None:
    if not data.startswith(MAGIC):
        assert parts(data) is None


@given(packed, st.data())
def test_a_damaged_aggregate_is_none(records: list[tuple[str, bytes]], data: st.DataObject) -> None:
    whole = aggregate(records)
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(1, 255))
    assert parts(whole[:place] + bytes([whole[place] ^ other]) + whole[place + 1 :]) is None
    assert parts(whole[:place]) is None


@given(st.binary(max_size=60))
def test_any_body_under_a_right_digest_is_read_or_is_none(body: bytes) -> None:
    found = parts(MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest())
    assert found is None or all(isinstance(key, str) and isinstance(data, bytes) for key, data in found)


def test_a_record_that_names_no_key_of_the_table_is_none() -> None:
    for body in (
        b"\x1a\x04\x08\x05\x1a\x00",
        b"\x0a\x01k\x1a\x02\x08\x00",
        b"\x0a\x01k\x1a\x02\x1a\x00",
        b"\x0a\x01\xff",
    ):
        assert parts(MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()) is None
