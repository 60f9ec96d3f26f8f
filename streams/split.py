"""Second station: a document's text becomes chunks that fit the model, with their place in the text.

First by characters (fast), at the best bound near the size asked for: paragraph, sentence, word. Then what
still exceeds the model's token limit is split again by tokens. No token is ever truncated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter

from streams.record import Document, Rejected

TokenIds = Sequence[int] | NDArray[np.int32]
Encode = Callable[[Sequence[str]], Sequence[TokenIds]]
"""Token ids of each text, the model's special tokens and prefix included, nothing cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """How to split. Part of the index contract: other rules make other chunks."""

    max_chars: int
    overlap_chars: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a document. `start` and `end` are character offsets with `document[start:end] == text`;
    both are None for a chunk that the producer split off. `ids`: its tokens, as the model gets them."""

    text: str
    ids: TokenIds = field(repr=False, compare=False)
    start: int | None
    end: int | None
    metadata: dict[str, Any]


def chunk_document(document: Document, rules: SplitRules, encode: Encode) -> list[Chunk] | Rejected:
    """Chunks of a document, in order; none for a deletion. Pre-split chunks over the limit are rejected."""
    if document.chunks is not None:
        encoded = encode([chunk.text for chunk in document.chunks])
        for number, ids in enumerate(encoded):
            if len(ids) > rules.max_tokens:
                return Rejected(
                    record=document.record,
                    stage="split",
                    error="ChunkTooLong",
                    message=f"`chunks[{number}]` has {len(ids)} tokens, the model takes {rules.max_tokens}: "
                    "split it further, or send the whole `text`",
                )
        return [
            Chunk(text=given.text, ids=ids, start=None, end=None, metadata=given.metadata)
            for given, ids in zip(document.chunks, encoded, strict=True)
        ]
    return split_text(document.text or "", rules, encode)


def split_text(text: str, rules: SplitRules, encode: Encode) -> list[Chunk]:
    """Split one text. Every character that is not white space is in at least one chunk."""
    splitter = TextSplitter(rules.max_chars, overlap=rules.overlap_chars)
    spans = splitter.chunk_indices(text)
    chunks: list[Chunk] = []
    for (start, piece), ids in zip(spans, encode([piece for _, piece in spans]), strict=True):
        if len(ids) <= rules.max_tokens:
            chunks.append(_chunk(start, piece, ids))
        else:
            chunks.extend(_split_by_tokens(start, piece, rules.max_tokens, encode))
    return chunks


def _split_by_tokens(offset: int, text: str, max_tokens: int, encode: Encode) -> list[Chunk]:
    splitter = TextSplitter.from_callback(lambda piece: len(encode([piece])[0]), max_tokens)
    spans = splitter.chunk_indices(text)
    encoded = encode([piece for _, piece in spans])
    return [_chunk(offset + start, piece, ids) for (start, piece), ids in zip(spans, encoded, strict=True)]


def _chunk(start: int, text: str, ids: TokenIds) -> Chunk:
    return Chunk(text=text, ids=ids, start=start, end=start + len(text), metadata={})
