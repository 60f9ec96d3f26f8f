"""Splitting: offsets slice back, nothing is lost, no chunk is over the limit."""

import base64
import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from streams import spans as spans_module
from streams.record import Document, Record, Rejected, decode
from streams.spans import WINDOW, ordinary, spans
from streams.split import EncodeError, Room, SplitRules, chunk_document, split_text

RULES = SplitRules(max_chars=80, overlap_chars=10, max_tokens=24)


def encode(texts: Sequence[str]) -> list[list[int]]:
    """A tokenizer of the same kind as the real ones: a token for each 4 characters of a word, and 2 special ones."""
    return [[1] * (2 + sum(-(-len(word) // 4) for word in re.findall(r"\w+|\S", text))) for text in texts]


texts = st.text(max_size=600) | st.lists(
    st.sampled_from(
        ["word ", "Sentence. ", "\n\n", "ü", "🙂", "x" * 90, "+/" * 60, " \n" * 150, "e\u0301" * 50, "漢" * 90]
    ),
    max_size=60,
).map("".join)


@given(texts)
def test_offsets_slice_back_and_limits_hold(text: str) -> None:
    chunks = split_text(text, RULES, encode)
    covered = [False] * len(text)
    for chunk in chunks:
        assert chunk.start is not None
        assert chunk.end is not None
        assert text[chunk.start : chunk.end] == chunk.text
        assert len(chunk.text) <= RULES.max_chars
        assert chunk.ids == encode([chunk.text])[0]
        assert len(chunk.ids) <= RULES.max_tokens
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))
    starts = [chunk.start or 0 for chunk in chunks]
    assert all(later >= earlier - RULES.overlap_chars for earlier, later in pairwise(starts)), (
        "a small end may be inside the next piece"
    )


def test_white_space_alone_has_no_chunks() -> None:
    assert split_text(" \n\t ", RULES, encode) == []


def _document(value: bytes) -> Document:
    record = Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=value)
    document = decode(record)
    assert isinstance(document, Document)
    return document


def test_given_chunk_over_the_limit_is_rejected_by_number() -> None:
    document = _document(b'{"chunks": [{"text": "fine"}, {"text": "' + b"word " * 100 + b'"}]}')
    result = chunk_document(document, RULES, encode)
    assert isinstance(result, Rejected)
    assert "`chunks[1]` has 102 tokens, the model takes 24" in result.message


def test_given_chunks_keep_their_text_and_have_no_offsets() -> None:
    result = chunk_document(_document(b'{"chunks": [{"text": " as it is "}]}'), RULES, encode)
    assert isinstance(result, list)
    assert (result[0].text, result[0].start, result[0].end) == (" as it is ", None, None)


def text_of(kind: str, size: int) -> str:
    """A text that has no good bounds."""
    made: dict[str, Callable[[], str]] = {
        "one word": lambda: "x" * size,
        "base64": lambda: base64.b64encode(random.Random(1).randbytes(size)).decode(),
        "no sentence": lambda: "lorem ipsum " * (size // 12 + 1),
        "dots": lambda: ". , " * (size // 4 + 1),
        "white lines": lambda: "a" + " \n" * (size // 2) + "b",
        "accents": lambda: "a" + "\u0301" * size,
        "ideographs": lambda: "漢字" * (size // 2),
    }
    return made[kind]()[:size]


@pytest.mark.parametrize("kind", ["one word", "base64", "no sentence", "dots", "white lines", "accents", "ideographs"])
def test_work_is_linear_in_the_length_of_any_text(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 MB of base64 took 33 s a MB, and one word the square of its length."""
    given_to: list[int] = []
    encoded: list[int] = []

    class Counting:
        def __init__(self, size: int, overlap: int) -> None:
            self.real = TextSplitter(size, overlap=overlap)

        def chunk_indices(self, text: str) -> list[tuple[int, str]]:
            given_to.append(len(text))
            return self.real.chunk_indices(text)

    def counting(texts: Sequence[str]) -> list[list[int]]:
        encoded.extend(map(len, texts))
        return encode(texts)

    monkeypatch.setattr(spans_module, "TextSplitter", Counting)
    size = 8 * WINDOW
    rules = SplitRules(max_chars=1000, overlap_chars=100, max_tokens=256)
    chunks = split_text(text_of(kind, size), rules, counting)
    assert sum(given_to) <= 1.2 * size
    assert max(given_to) <= WINDOW
    assert sum(encoded) <= 20 * size
    assert all(len(chunk.ids) <= 256 for chunk in chunks)


def test_windows_leave_nothing_out_and_overlap_as_chunks_do() -> None:
    text = text_of("no sentence", 5 * WINDOW)
    found = list(spans(text, 1000, 100))
    assert all(text[start : start + len(piece)] == piece for start, piece in found)
    ends = [start + len(piece) for start, piece in found]
    assert all(0 <= end - start <= 100 for (start, _), end in zip(found[1:], ends, strict=False))
    assert ends[-1] == len(text.rstrip())


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.sampled_from(["A sentence. ", "One, two and three\n", "漢字の文。", "why? ", "\n\n"]), min_size=1, max_size=8
    )
)
def test_ordinary_texts_are_split_as_a_whole(parts: list[str]) -> None:
    text = "".join(parts) * 2000
    if ordinary(text):
        assert list(spans(text, 1000, 100)) == TextSplitter(1000, overlap=100).chunk_indices(text)
    else:
        assert not any(mark in text for mark in ("\n", ". A", "。漢"))


def test_base64_is_cut_evenly_within_the_limit_of_tokens() -> None:
    rules = SplitRules(max_chars=1000, overlap_chars=0, max_tokens=64)
    chunks = split_text(text_of("base64", 5000), rules, encode)
    assert "".join(chunk.text for chunk in chunks) == text_of("base64", 5000)
    assert all(16 < len(chunk.ids) <= 64 for chunk in chunks)


def test_a_document_of_more_chunks_than_there_is_room_for_is_rejected_early() -> None:
    seen: list[str] = []

    def counting(texts: Sequence[str]) -> list[list[int]]:
        seen.extend(texts)
        return encode(texts)

    room = Room(sure=5, exact=lambda: (10, "10 (batch.max_inflight_bytes)"))
    texts = _document(b'{"text": "%b"}' % (b"word " * 100_000))
    given_chunks = _document(b'{"chunks": [%b{"text": "x"}]}' % (b'{"text": "x"},' * 1000))
    for document in (texts, given_chunks):
        result = chunk_document(document, RULES, counting, room)
        assert isinstance(result, Rejected)
        assert (result.stage, result.error) == ("split", "DocumentTooLarge")
        assert "may have 10 (batch.max_inflight_bytes)" in result.message
    assert len(seen) < 1000


def test_what_the_tokenizer_does_not_take_is_rejected() -> None:
    def refuse(_: Sequence[str]) -> list[list[int]]:
        raise EncodeError("no [UNK]")

    result = chunk_document(_document(b'{"text": "a"}'), RULES, refuse)
    assert isinstance(result, Rejected)
    assert "no [UNK]" in result.message
