"""Fault 41 without servers: bytes of every kind through decoding, splitting, the writes, and a dead letter and back."""

from collections.abc import Sequence

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.dead_letter import Home, headers_of, pointer_to, read_letter
from streams.plan import FieldNames, Space, content_writes
from streams.quality import judged
from streams.record import Record, Rejected, decode
from streams.split import SplitRules, chunk_document
from tests.kit.records import PARTS, Baked, Recipe, bake

EXAMPLES = 200
RULES = SplitRules(max_chars=1000, overlap_chars=100, max_tokens=256)
NAMES = FieldNames(metadata={"page": "integer"})

recipes = st.builds(
    Recipe,
    seed=st.integers(0, 2**40),
    room=st.integers(1, 30_000),
    **{name: st.sampled_from(list(kinds)) for name, kinds in PARTS.items()},
)


@st.composite
def damaged(draw: st.DrawFn) -> Baked:
    """A record of any recipe, and often some of its value's bytes changed, left out or put in."""
    baked = bake(draw(recipes))
    if baked.value is None or draw(st.booleans()):
        return baked
    raw = bytearray(baked.value)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        raw[start : start + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return Baked(key=baked.key, value=bytes(raw), headers=baked.headers, timestamp_ms=baked.timestamp_ms)


def tokens(texts: Sequence[str]) -> list[list[int]]:
    """One for every four characters."""
    return [[1] * (2 + len(text) // 4) for text in texts]


def record(baked: Baked) -> Record:
    headers = tuple((name.decode(errors="surrogateescape"), value) for name, value in baked.headers)
    return Record(
        topic="t",
        partition=1,
        offset=7,
        timestamp_ms=baked.timestamp_ms,
        key=baked.key,
        value=baked.value,
        headers=headers,
    )


def through(given: Record) -> str:
    """All that is done with a record without servers. Returns what became of it; raises AssertionError."""
    document = decode(given)
    if isinstance(document, Rejected):
        assert document.stage
        assert document.message
        assert len(document.message) < 1000
        document.message.encode()
        return document.stage
    chunks = chunk_document(document, RULES, tokens)
    if isinstance(chunks, Rejected):
        assert chunks.message
        return chunks.stage
    if document.text is not None:  # no character but white space is lost
        kept = sum(len("".join(chunk.text.split())) for chunk in chunks)
        assert kept >= len("".join(document.text.split()))
    vectors = np.full((len(chunks), 4), 0.5, dtype=np.float32)
    writes = content_writes(
        document,
        chunks,
        vectors,
        epoch=0,
        space=Space(model="m", dims=4, names=NAMES),
        indexed_at="2026-01-01T00:00:00.000Z",
        verdict=judged(document, chunks),
    )
    for write in writes:
        assert len(write.id.encode()) <= 512
        orjson.dumps(write.source, option=orjson.OPT_SERIALIZE_NUMPY)
    return "taken"


@settings(max_examples=EXAMPLES)
@given(damaged() | st.builds(Baked, key=st.just(b"k"), value=st.binary(), headers=st.just(()), timestamp_ms=st.just(0)))
def test_what_is_taken_can_be_written_and_nothing_raises(baked: Baked) -> None:
    through(record(baked))


@settings(max_examples=EXAMPLES)
@given(damaged(), st.booleans(), st.integers(1, 9), st.integers(0, 9))
def test_a_letter_gives_back_the_record_with_any_headers(baked: Baked, pointer: bool, attempt: int, epoch: int) -> None:
    original = record(baked)
    rejected = Rejected(record=original, stage="decode", error="InvalidRecord", message="why")
    headers = [
        *original.headers,
        *headers_of(rejected, home=Home(group="g", index="i", log="l"), attempt=attempt, epoch=epoch),
    ]
    headers += pointer_to(original) if pointer else []
    letter = read_letter(original.key, original.value, headers, original.timestamp_ms)
    assert letter.record == original
    assert (letter.stage, letter.error, letter.message) == ("decode", "InvalidRecord", "why")
    assert (letter.attempt, letter.epoch) == (attempt, epoch)
    assert (letter.left_out is not None) == pointer


@pytest.mark.parametrize("kind", list(PARTS["value"]))
def test_every_kind_of_value(kind: str) -> None:
    for seed in range(20):
        through(record(bake(Recipe(seed=seed, room=5000, value=kind))))
