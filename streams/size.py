"""What a document takes: in memory while it is on its way, and in what is written of it."""

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
EMPTY_BYTES = 20
"""Of what is shared by a document's chunks, as JSON, when it has nothing of it."""


def made_bytes(document: Document, chunks: int, dims: int) -> int:
    """Bytes of what is made of a document beside its texts, of which there are `COPIES`."""
    return chunks * (CHUNK_BYTES + 4 * dims) + VALUE_BYTES * document.values


def room(document: Document, dims: int, limit: int) -> Room:
    """How many chunks it may have: what is in memory of it, and what is written of it, is at most `limit` bytes."""
    left = limit - COPIES * document.record.size_bytes - made_bytes(document, 0, dims)
    held = max(0, left // (CHUNK_BYTES + 4 * dims))
    name = len(orjson.dumps(document.id))

    def exact() -> tuple[int, str]:
        shared = name + len(orjson.dumps((document.title, document.url, document.author, document.metadata)))
        shared += max((len((section.heading or "").encode()) for section in document.sections), default=0)
        written = max(1, limit // shared)
        each = f", as each is written with {shared} bytes of id and metadata" if written < held else ""
        return (chunks := min(held, written)), (
            f"{chunks}{each}: what is made of a document fits batch.max_inflight_bytes ({limit}): raise that, or "
            "divide the document"
        )

    return Room(sure=min(held, limit // (name + document.json_bytes + EMPTY_BYTES)), exact=exact)
