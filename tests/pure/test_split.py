"""Splitting: offsets slice back, nothing is lost, no chunk is over the limit."""

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streams.record import Document, Record, Rejected, decode
from streams.split import SplitRules, chunk_document, split_text

RULES = SplitRules(max_chars=80, overlap_chars=10, max_tokens=24)


def encode(texts: Sequence[str]) -> list[list[int]]:
    """A tokenizer of the same kind as the real ones: a token for each 4 characters of a word, and 2 special ones."""
    return [[1] * (2 + sum(-(-len(word) // 4) for word in re.findall(r"\w+|\S", text))) for text in texts]


texts = st.text(max_size=600) | st.lists(
    st.sampled_from(["word ", "Sentence. ", "\n\n", "ü", "🙂", "x" * 90]), max_size=60
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
        assert list(chunk.ids) == encode([chunk.text])[0]
        assert len(chunk.ids) <= RULES.max_tokens
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))
    assert [chunk.start for chunk in chunks] == sorted(chunk.start or 0 for chunk in chunks)


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
