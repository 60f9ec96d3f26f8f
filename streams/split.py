"""Second stage: a document's text becomes chunks that fit the model, with their place in the text.

First by its sections, where it has any (`streams.sections`), and each of them by characters (`streams.spans`, fast),
at the best bound near the size asked for: paragraph, sentence, word. Then what still exceeds the model's token limit is
split again by tokens. No token is ever truncated.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter

from streams.record import TOO_LARGE, Document, GivenChunk, Rejected
from streams.sections import NOWHERE, Place, place_of, ranges
from streams.spans import spans

TokenIds = Sequence[int] | NDArray[np.int32]
Input = Sized
"""What a model is given of a text, prefix included and nothing cut off: its token ids, or, where it is a service, the
text. As long as that has tokens, special ones included."""
Encode = Callable[[Sequence[str]], Sequence[Input]]


Chunks = list["Chunk"] | Rejected

ENCODED_AT_ONCE = 256
HEAD_CHARS = 16
"""Characters a token, beyond which a text is looked at by its beginning."""


class EncodeError(ValueError):
    """Raised by an `Encode`: the model's vocabulary has no tokens for a text."""


class _TooLongError(ValueError):
    """A pre-split chunk is over the limit, inside this module only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many chunks a document may have.

    `sure`: so many in any case, `exact`: so many and no more, and the text that says so, with the setting. It takes
    time, and is asked for documents of more than `sure` chunks only.
    """

    sure: int
    exact: Callable[[], tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """How to split. Part of the index contract: other rules make other chunks."""

    max_chars: int
    overlap_chars: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a document. `start` and `end` are character offsets with `document[start:end] == text`;
    both are None for a chunk that the producer split off. `place`: in which sections that is. `ids`: what the model is
    given of it."""

    text: str
    ids: Input = field(repr=False, compare=False)
    start: int | None
    end: int | None
    place: Place = NOWHERE
    metadata: dict[str, Any]


def chunk_document(document: Document, rules: SplitRules, encode: Encode, room: Room | None = None) -> Chunks:
    """Chunks of a document, in order; none for a deletion.

    Rejected are pre-split chunks over the model's limit, texts that the tokenizer cannot take, and documents of more
    chunks than there is room for: found before they are made.
    """
    try:
        if document.chunks is None:
            return _within(_split_by_sections(document, rules, encode), document, room)
        if room and (count := len(document.chunks)) > room.sure:
            most, why = room.exact()
            if count > most:
                return _too_large(document, count, why)
        return _given(document.chunks, rules, encode)
    except EncodeError as exc:
        return _rejected(document, "TokenizerFailed", f"the model's tokenizer does not take it: {exc}")
    except _TooLongError as exc:
        return _rejected(document, "ChunkTooLong", str(exc))


def split_text(text: str, rules: SplitRules, encode: Encode) -> list[Chunk]:
    """Split one text. Every character that is not white space is in at least one chunk.

    The time is linear in the length of the text, whatever it is made of: `encode` is given at most some twenty times
    its characters. Raises EncodeError.
    """
    return list(_split(text, rules, encode))


def _within(chunks: Iterable[Chunk], document: Document, room: Room | None) -> Chunks:
    made: list[Chunk] = []
    most = room.sure if room else math.inf
    for chunk in chunks:
        if room and len(made) >= most:
            most, why = room.exact()
            if len(made) >= most:
                return _too_large(document, len(made) + 1, why)
        made.append(chunk)
    return made


def _given(given: Sequence[GivenChunk], rules: SplitRules, encode: Encode) -> list[Chunk]:
    made: list[Chunk] = []
    for first in range(0, len(given), ENCODED_AT_ONCE):
        part = given[first : first + ENCODED_AT_ONCE]
        for chunk, ids in zip(part, encode([chunk.text for chunk in part]), strict=True):
            if len(ids) > rules.max_tokens:
                raise _TooLongError(
                    f"`chunks[{len(made)}]` has {len(ids)} tokens, the model takes {rules.max_tokens}: split it "
                    "further, or send the whole `text`"
                )
            made.append(Chunk(text=chunk.text, ids=ids, start=None, end=None, metadata=chunk.metadata))
    return made


def _split_by_sections(document: Document, rules: SplitRules, encode: Encode) -> Iterator[Chunk]:
    text, sections = document.text or "", document.sections
    if not sections:
        yield from _split(text, rules, encode)
        return
    for first, last in ranges(len(text), sections, rules.max_chars):
        for chunk in _split(text[first:last], rules, encode):
            start, end = first + (chunk.start or 0), first + (chunk.end or 0)
            yield replace(chunk, start=start, end=end, place=place_of(start, end, sections))


def _split(text: str, rules: SplitRules, encode: Encode) -> Iterator[Chunk]:
    for start, piece, ids in _encoded(spans(text, rules.max_chars, rules.overlap_chars), encode):
        if len(ids) <= rules.max_tokens:
            yield _chunk(start, piece, ids)
        else:
            yield from _split_by_tokens(start, piece, ids, rules.max_tokens, encode)


def _split_by_tokens(start: int, text: str, ids: Input, max_tokens: int, encode: Encode) -> Iterator[Chunk]:
    if text.isascii() and len(text.split()) == 1:
        yield from _split_evenly(start, text, ids, max_tokens, encode)  # base64 and its like have no better bounds
        return
    splitter = TextSplitter.from_callback(lambda piece: _count(piece, max_tokens, encode), max_tokens)
    for inner, piece, ids in _encoded(splitter.chunk_indices(text), encode):
        if len(ids) <= max_tokens:
            yield _chunk(start + inner, piece, ids)
        else:
            yield from _split_evenly(start + inner, piece, ids, max_tokens, encode)


def _split_evenly(start: int, text: str, ids: Input, max_tokens: int, encode: Encode) -> Iterator[Chunk]:
    """Parts of one length, and again those that are still too long: a part may have more tokens than it had inside."""
    if len(text) == 1:
        raise EncodeError(f"one character has {len(ids)} tokens, the model takes {max_tokens}")
    count = min(len(text), max(2, -(-len(ids) * 5 // (max_tokens * 4))))
    bounds = [len(text) * number // count for number in range(count + 1)]
    parts = ((at, text[at:end]) for at, end in pairwise(bounds))
    for inner, piece, ids in _encoded(parts, encode):
        if len(ids) > max_tokens:
            yield from _split_evenly(start + inner, piece, ids, max_tokens, encode)
        elif not piece.isspace():
            yield _chunk(start + inner, piece, ids)


def _count(text: str, max_tokens: int, encode: Encode) -> int:
    """Tokens of a text; of one that is far too long those of its beginning, when these are too many already."""
    head = text[: max_tokens * HEAD_CHARS]
    count = len(encode([head])[0])
    return count if count > max_tokens or len(head) == len(text) else len(encode([text])[0])


def _encoded(pieces: Iterable[tuple[int, str]], encode: Encode) -> Iterator[tuple[int, str, Input]]:
    """With their tokens, so many at a time: what a tokenizer returns takes far more memory than the tokens."""
    waiting = iter(pieces)
    while part := list(islice(waiting, ENCODED_AT_ONCE)):
        for (start, piece), ids in zip(part, encode([piece for _, piece in part]), strict=True):
            yield start, piece, ids


def _chunk(start: int, text: str, ids: Input) -> Chunk:
    return Chunk(text=text, ids=ids, start=start, end=start + len(text), metadata={})


def _too_large(document: Document, chunks: int, why: str) -> Rejected:
    return _rejected(document, TOO_LARGE, f"it has {chunks} chunks or more, and may have {why}")


def _rejected(document: Document, error: str, message: str) -> Rejected:
    return Rejected(record=document.record, stage="split", error=error, message=message)
