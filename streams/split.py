"""Second station: a document's text becomes chunks that fit the model, with their place in the text.

First by characters (fast), at the best bound near the size asked for: paragraph, sentence, word. Then what
still exceeds the model's token limit is split again by tokens. No token is ever truncated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from semantic_text_splitter import TextSplitter

from streams.record import Document, Rejected

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Numbers of tokens of each text, the model's special tokens and prefix included, nothing cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """How to split. Part of the index contract: other rules make other chunks."""

    max_chars: int
    overlap_chars: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a document. `start` and `end` are character offsets with `document[start:end] == text`;
    both are None for a chunk that the producer split off. `tokens` counts special tokens too."""

    text: str
    tokens: int
    start: int | None
    end: int | None
    metadata: dict[str, Any]


def chunk_document(document: Document, rules: SplitRules, count: CountTokens) -> list[Chunk] | Rejected:
    """Chunks of a document, in order; none for a deletion. Pre-split chunks over the limit are rejected."""
    if document.chunks is not None:
        counts = count([chunk.text for chunk in document.chunks])
        for number, tokens in enumerate(counts):
            if tokens > rules.max_tokens:
                return Rejected(
                    record=document.record,
                    stage="split",
                    error="ChunkTooLong",
                    message=f"`chunks[{number}]` has {tokens} tokens, the model takes {rules.max_tokens}: "
                    "split it further, or send the whole `text`",
                )
        return [
            Chunk(text=given.text, tokens=tokens, start=None, end=None, metadata=given.metadata)
            for given, tokens in zip(document.chunks, counts, strict=True)
        ]
    return split_text(document.text or "", rules, count)


def split_text(text: str, rules: SplitRules, count: CountTokens) -> list[Chunk]:
    """Split one text. Every character that is not white space is in at least one chunk."""
    splitter = TextSplitter(rules.max_chars, overlap=rules.overlap_chars)
    spans = splitter.chunk_indices(text)
    counts = count([piece for _, piece in spans])
    chunks: list[Chunk] = []
    for (start, piece), tokens in zip(spans, counts, strict=True):
        if tokens <= rules.max_tokens:
            chunks.append(_chunk(start, piece, tokens))
        else:
            chunks.extend(_split_by_tokens(start, piece, rules.max_tokens, count))
    return chunks


def _split_by_tokens(offset: int, text: str, max_tokens: int, count: CountTokens) -> list[Chunk]:
    splitter = TextSplitter.from_callback(lambda piece: count([piece])[0], max_tokens)
    spans = splitter.chunk_indices(text)
    counts = count([piece for _, piece in spans])
    return [_chunk(offset + start, piece, tokens) for (start, piece), tokens in zip(spans, counts, strict=True)]


def _chunk(start: int, text: str, tokens: int) -> Chunk:
    return Chunk(text=text, tokens=tokens, start=start, end=start + len(text), metadata={})
