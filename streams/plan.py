"""What is written to the chunk index for one version of a document: chunks, and stubs over the old rest."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.document_vector import document_vector
from streams.flags import Verdict
from streams.ids import chunk_id, version
from streams.record import Document
from streams.split import Chunk

Vectors = NDArray[np.float32]
METADATA = frozenset(
    {"source", "title", "author", "timestamp", "doc_id", "chunk", "chunks", "custom"}
    | {"start", "end", "page", "page_end", "heading", "language"}
)
"""Fields that every chunk's `metadata` may have; a producer's own typed fields have other names."""
MAX_LANGUAGE = 35
"""Characters of a language's tag (BCP 47): what is longer is no tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNames:
    """Configurable names of the two fields that readers need, and the producer's own that have a type, by name.

    `document`: of the document's own vector, on its first chunk; None: it has none.
    """

    text: str = "text"
    vector: str = "vector"
    document: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Whose vectors go where: those of one model, into fields of their own. `dims`: width of a vector."""

    model: str
    dims: int
    names: FieldNames


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWrite:
    """One versioned write. Replays are harmless: the same id, version and source every time.

    It wins over lower versions. A stub also wins over its own version (`over_equal`), content does not: where a
    record was refused halfway, its stubs stay, however late a copy of its content arrives. Only content of a
    record that is taken up again from the dead letters replaces the stubs of its own refusal.
    """

    id: str
    version: int
    source: dict[str, Any]
    over_equal: bool

    @property
    def stub(self) -> bool:
        """Whether it stands in place of a chunk that must go."""
        return bool(self.source["penstock"]["stub"])


@dataclass(frozen=True, slots=True)
class Written:
    """Durable, with what a later compare-and-swap needs."""

    seq_no: int
    primary_term: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A newer version is there, or a compare-and-swap lost."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The item can never be written as it is."""

    error: str
    reason: str


Outcome = Written | Conflict | Refused


def chunk_hash(text: str) -> str:
    """Of what the model is given for a chunk: equal hashes under one contract have equal vectors."""
    return hashlib.sha256(text.encode()).hexdigest()


def language_of(document: Document, chunk: Chunk, verdict: Verdict) -> str | None:
    """Of a chunk: what the producer says in `metadata.language`, else what the text looks like."""
    return told_language({**document.metadata, **chunk.metadata}) or verdict.language


def told_language(metadata: Mapping[str, Any]) -> str | None:
    """What a producer says; None for what is no tag."""
    told = metadata.get("language")
    return told if isinstance(told, str) and 0 < len(told) <= MAX_LANGUAGE else None


def content_writes(
    document: Document,
    chunks: list[Chunk],
    vectors: Vectors,
    *,
    epoch: int,
    space: Space,
    indexed_at: str,
    verdict: Verdict,
    route: str | None = None,
    over_equal: bool = False,
) -> Iterator[ChunkWrite]:
    """Writes of all chunks of a document. `vectors`: float32 (len(chunks), dims), finite, unit length, of this space.

    `verdict`: on it and its chunks. `route`: by which it came there, where there are any. `over_equal`: also over stubs
    of this very version.

    Raises ValueError for a zero or non-finite vector; the caller rejects the record before any write.
    """
    if (bad := first_bad_vector(vectors)) is not None:
        raise ValueError(f"the model gave a zero or non-finite vector for chunk {bad}")
    placed = version(epoch, document.record.offset)
    names, provenance = space.names, _provenance(document, epoch, space.model, indexed_at)
    provenance |= {"route": route} if route else {}
    fields = {
        "source": document.url,
        "title": document.title,
        "author": document.author,
        "timestamp": document.timestamp,
        "doc_id": document.id,
        "chunks": len(chunks),
    }
    shared = {name: value for name, value in fields.items() if value is not None}
    for number, (chunk, vector) in enumerate(zip(chunks, vectors, strict=True)):
        metadata: dict[str, Any] = {**shared, "chunk": number}
        if chunk.start is not None:
            metadata |= {"start": chunk.start, "end": chunk.end}
        place = {"page": chunk.place.page, "page_end": chunk.place.page_end, "heading": chunk.place.heading}
        metadata |= {name: value for name, value in place.items() if value is not None}
        if language := language_of(document, chunk, verdict):
            metadata["language"] = language
        custom = {**document.metadata, **chunk.metadata}
        metadata |= {name: custom.pop(name) for name in names.metadata if name in custom}
        if custom:
            metadata["custom"] = custom
        own = {**provenance, "chunk_hash": chunk_hash(chunk.text), "stub": False}
        if flags := verdict.of(number):
            own["flags"] = flags
        if number == 0 and verdict.signature is not None:
            own["signature"] = verdict.signature
        source = {names.text: chunk.text, names.vector: vector, "metadata": metadata, "penstock": own}
        if names.document and number == 0:
            mean = document_vector(vectors, [len(chunk.ids) for chunk in chunks])
            source |= {} if mean is None else {names.document: mean}
        yield ChunkWrite(id=chunk_id(document.id, number), version=placed, source=source, over_equal=over_equal)


def stub_writes(document: Document, numbers: range, *, epoch: int, model: str, indexed_at: str) -> Iterator[ChunkWrite]:
    """Empty stubs in place of chunks that must go: Elasticsearch forgets the version of a deleted id."""
    for number in numbers:
        yield ChunkWrite(
            id=chunk_id(document.id, number),
            version=version(epoch, document.record.offset),
            source={
                "metadata": {"doc_id": document.id, "chunk": number},
                "penstock": _provenance(document, epoch, model, indexed_at) | {"stub": True},
            },
            over_equal=True,
        )


def first_bad_vector(vectors: Vectors) -> int | None:
    """Row of the first vector that is zero or not finite, or None."""
    if all(0 < square < math.inf for square in np.vecdot(vectors, vectors).tolist()):
        return None  # nearly always, at half the price; the squares of very small or large numbers say nothing
    bad = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    return int(bad.argmax()) if bad.any() else None


def fits(vector: Vectors, space: Space) -> bool:
    """Whether it may stand in for one that is made now: neither damaged, nor of another width."""
    return vector.shape == (space.dims,) and first_bad_vector(vector[None]) is None


def _provenance(document: Document, epoch: int, model: str, indexed_at: str) -> dict[str, Any]:
    record = document.record
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "epoch": epoch,
        "model": model,
        "indexed_at": indexed_at,
    }
