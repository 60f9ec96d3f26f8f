"""What a document takes: in memory while it is on its way, and in what is written of it."""

from collections.abc import Iterable
from typing import Any

import orjson

from streams.record import Document
from streams.split import Room

COPIES = 2
"""A record is there as it came, and as the texts that are made of it."""
CHUNK_BYTES = 2 * 1024
"""Of a chunk beside its text and its vector: objects, tokens, outcome. 0.3 KB with 8 tokens and 1.3 KB with 256; the
rest is for what the allocator cannot give back."""
VALUE_BYTES = 96
"""Of a value in metadata, with its name, beside its text: an empty list has 64."""


def made_bytes(document: Document, chunks: int, dims: int) -> int:
    """Bytes of what is made of a document beside its texts, of which there are `COPIES`."""
    return chunks * (CHUNK_BYTES + 4 * dims) + VALUE_BYTES * _values(document)


def room(document: Document, dims: int, limit: int) -> Room:
    """How many chunks it may have: what is in memory of it, and what is written of it, is at most `limit` bytes."""
    left = limit - COPIES * document.record.size_bytes - made_bytes(document, 0, dims)
    shared = len(orjson.dumps((document.title, document.url, document.author, document.metadata)))
    held, written = max(0, left // (CHUNK_BYTES + 4 * dims)), max(1, limit // shared)

    def why(chunks: int) -> str:
        each = f", as each is written with {shared} bytes of metadata" if written < held else ""
        return (
            f"{chunks}{each}: what is made of a document fits batch.max_inflight_bytes ({limit}): raise that, or "
            "divide the document"
        )

    return Room(chunks=min(held, written), why=why)


def _values(document: Document) -> int:
    """How many values its metadata and that of its given chunks have."""
    if not document.metadata and not document.chunks:
        return 0
    waiting: list[Any] = [document.metadata, *(chunk.metadata for chunk in document.chunks or () if chunk.metadata)]
    count = 0
    while waiting:
        node: Iterable[Any] = waiting.pop()
        for value in node.values() if isinstance(node, dict) else node:
            count += 1
            if isinstance(value, dict | list):
                waiting.append(value)
    return count
