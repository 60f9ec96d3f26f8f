"""The oracle: what a log says must be in the index, held against what is there. Pure; reads nothing itself.

Serves the tests, which have the whole log and the whole index in memory, and `penstock index verify`, which looks at
one document at a time (`examine`).
"""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.epochs import Epochs
from streams.flags import Flag, Verdict
from streams.form import OWN_FORM, Form
from streams.ids import chunk_id, version
from streams.plan import Space, chunk_hash, language_of
from streams.quality import judged, refusal
from streams.record import Document, Record, Rejected
from streams.registry import Entry, from_source
from streams.routes import Routing
from streams.snapshot import epoch_of
from streams.split import Chunk, Encode, SplitRules, chunk_document

Place = tuple[int, int]
"""(partition, offset)."""
Where = tuple[int | None, int | None, int | None, int | None, str | None]
"""Of a chunk in its text: start, end, page, last page, heading."""
WHERE = tuple(f"metadata.{name}" for name in ("start", "end", "page", "page_end", "heading"))
"""Fields of a row that have it."""
Told = tuple[str | None, tuple[str, ...], str | None]
"""Of a chunk's text: its language, its flags, and of the first chunk the document's signature."""
TOLD = ("metadata.language", "penstock.flags", "penstock.signature")
"""Fields of a row that have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """A document's newest valid record, as far as the index has to agree with it. One item a chunk."""

    partition: int
    version: int
    content_hash: str
    hashes: tuple[str, ...]
    places: tuple[Where, ...]
    told: tuple[Told, ...]
    model: str
    """Whose vectors its chunks have."""

    @property
    def n(self) -> int:
        """How many chunks it has."""
        return len(self.hashes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A chunk or a stub as found. `text_hash`: of the text that is there; `chunk_hash`: what it says of itself."""

    version: int
    stub: bool
    text_hash: str | None = None
    chunk_hash: str | None = None
    place: Where = (None, None, None, None, None)
    told: Told = (None, (), None)
    model: str | None = None
    partition: int | None = None
    """Of the record that it was written for; None where it does not say."""
    chunks: int | None = None
    """How many that record has."""
    made: int | None = None
    """Version of that record, as the row says; another one where somebody else wrote the row since."""

    @property
    def record_version(self) -> int:
        """Of the record that it was written for."""
        return self.version if self.made is None else self.made


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: what kind, which id or place, and what exactly."""

    kind: str
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Expected:
    """Each document's newest valid record with its chunks, by document id; and the places of the rejected records."""

    documents: dict[str, tuple[Newest, list[Chunk]]] = field(default_factory=dict)
    rejected: set[Place] = field(default_factory=set)

    def texts(self) -> dict[str, str]:
        """Texts of all chunks that must be there, by chunk id."""
        return {
            chunk_id(doc_id, number): chunk.text
            for doc_id, (_, chunks) in self.documents.items()
            for number, chunk in enumerate(chunks)
        }


def newest_of(document: Document, chunks: list[Chunk], verdict: Verdict, epoch: int, space: Space) -> Newest:
    """What the index has to hold of a document. `verdict`: on its text. `space`: where its vectors belong."""
    return Newest(
        partition=document.record.partition,
        version=version(epoch, document.record.offset),
        content_hash=document.content_hash,
        hashes=tuple(chunk_hash(chunk.text) for chunk in chunks),
        places=tuple(
            (chunk.start, chunk.end, chunk.place.page, chunk.place.page_end, chunk.place.heading) for chunk in chunks
        ),
        told=tuple(
            (language_of(document, chunk, verdict), verdict.of(number), None if number else verdict.signature)
            for number, chunk in enumerate(chunks)
        ),
        model=space.model,
    )


def row_of(source: Mapping[str, Any], found_version: int, text_field: str = "text") -> Row:
    """A row of the chunk index as `examine` takes it."""
    own, metadata = source.get("penstock") or {}, source.get("metadata") or {}  # others may have written it
    text, flags = source.get(text_field), own.get("flags")
    return Row(
        version=found_version,
        stub=bool(own.get("stub")),
        text_hash=None if text is None else chunk_hash(text),
        chunk_hash=own.get("chunk_hash"),
        place=(
            metadata.get("start"),
            metadata.get("end"),
            metadata.get("page"),
            metadata.get("page_end"),
            metadata.get("heading"),
        ),
        told=(metadata.get("language"), tuple(flags) if isinstance(flags, list | tuple) else (), own.get("signature")),
        model=own.get("model"),
        partition=own.get("partition"),
        chunks=metadata.get("chunks"),
        made=version(own["epoch"], own["offset"]) if "epoch" in own and "offset" in own else None,
    )


def examine(
    doc_id: str, newest: Newest | None, entry: Entry | None, rows: Mapping[int, Row], *, models: Collection[str] = ()
) -> Iterator[Finding]:
    """Everything that is wrong with one document. All three must be of one moment.

    `newest`: None when the log has no record of it any more; what is there must then agree with itself. `entry`:
    None without one, or when it is about another chunk index. `rows`: chunks and stubs by number. `models`: those of
    the index: one of them made the vectors of what the log has no record of; nothing is said of that without any.
    """
    alive = {number: row for number, row in rows.items() if not row.stub}
    if entry is None:
        if newest is not None and newest.n:
            yield Finding("missing entry", doc_id, "the registry does not know this document")
        else:  # a deleted document's entry may have been vacuumed
            yield from _orphans(doc_id, alive, "a chunk that no record asks for")
        return
    for number, row in rows.items():
        if row.version > entry.version:
            yield Finding(
                "version ahead", chunk_id(doc_id, number), f"version {row.version}, its registry entry {entry.version}"
            )
    if newest is not None and entry.version < newest.version:
        yield Finding("stale entry", doc_id, f"version {entry.version}, the newest record has {newest.version}")
    elif newest is not None and entry.version > newest.version:
        yield Finding("entry ahead", doc_id, f"version {entry.version}, the newest record has {newest.version}")
    elif entry.state == "writing":
        yield Finding("left writing", doc_id, "begun and never finished")
    elif entry.state == "rejected":
        yield from _orphans(doc_id, alive, "a chunk of a record that was refused")
    else:
        yield from _settled(doc_id, newest, entry, rows, [newest.model] if newest else models)


def _settled(
    doc_id: str, newest: Newest | None, entry: Entry, rows: Mapping[int, Row], models: Collection[str]
) -> Iterator[Finding]:
    if newest is not None:
        found = entry.n, entry.hi, entry.content_hash
        if found != (newest.n, newest.n, newest.content_hash):
            yield Finding("wrong entry", doc_id, f"{found[:2]} chunks, not {newest.n}, or another content hash")
    n = entry.n if newest is None else newest.n
    for number in range(n):
        row = rows.get(number)
        if row is None or row.stub:
            kind, what = ("missing chunk", "no chunk is there") if row is None else ("stubbed chunk", "an empty stub")
            yield Finding(kind, chunk_id(doc_id, number), what)
        else:
            yield from _chunk(chunk_id(doc_id, number), number, newest, entry, row, models)
    late = {number: row for number, row in rows.items() if number >= n and not row.stub}
    yield from _orphans(doc_id, late, f"the document has {n} chunks")


def _chunk(
    key: str, number: int, newest: Newest | None, entry: Entry, row: Row, models: Collection[str]
) -> Iterator[Finding]:
    if newest is not None and row.text_hash != newest.hashes[number]:
        yield Finding("wrong text", key, "another text than the record's")
    elif row.chunk_hash != row.text_hash:
        yield Finding("wrong hash", key, "a hash that is not the text's")
    elif newest is not None and row.place != newest.places[number]:
        yield Finding("wrong place", key, f"{row.place}, not {newest.places[number]}")
    elif newest is not None and row.told != newest.told[number]:
        wrong = [name for name, is_, was in zip(TOLD, row.told, newest.told[number], strict=True) if is_ != was]
        yield Finding("wrong flags", key, f"not its text's: {', '.join(wrong)}")
    elif models and row.model not in models:
        yield Finding("wrong model", key, f"made by {row.model}, not {' or '.join(models)}")
    elif entry.content_version not in (None, row.record_version) and row.record_version <= entry.version:
        yield Finding("wrong version", key, f"{row.record_version}, its content has {entry.content_version}")


def _orphans(doc_id: str, rows: Mapping[int, Row], what: str) -> Iterator[Finding]:
    for number in rows:
        yield Finding("orphan chunk", chunk_id(doc_id, number), what)


def evenly(items: Sequence[tuple[str, int]], size: int) -> list[str]:
    """So many of these, in turn from each class, in the order given: rare classes are in it as well. (Item, class)."""
    classes: dict[int, list[str]] = defaultdict(list)
    for item, number in items:
        classes[number].append(item)
    turns = itertools.zip_longest(*(classes[number] for number in sorted(classes)))
    return list(itertools.islice((item for turn in turns for item in turn if item is not None), size))


def expected_of(
    records: Sequence[Record],
    ways: Mapping[str, tuple[SplitRules, Encode]],
    routing: Routing,
    epochs: Epochs | None = None,
    form: Form = OWN_FORM,
    reject: Collection[Flag] = (),
    begun: Mapping[str, str] | None = None,
) -> Expected:
    """Of all records of a log, and rows of snapshots, in any order; within an epoch a key belongs to one partition.

    `ways`: how the texts of each model are split, by its name. `reject`: flags of texts that are not indexed. `begun`:
    content hashes that documents have in the index, by id: where a budget may choose their model, these tell it.
    """
    expected, epochs = Expected(), epochs or Epochs()
    numbers = {(record.partition, record.offset): epoch_of(record, epochs) for record in records}
    for record in sorted(records, key=lambda record: (numbers[record.partition, record.offset], record.offset)):
        document = form.decode(record)
        made: list[Chunk] | Rejected | None = None
        if not isinstance(document, Rejected):
            placed = routing.place(document)
            if placed.elsewhere.get(told := (begun or {}).get(document.id, "")):
                placed = routing.place(document, begun=told)
            document, space = placed.document, placed.space
            made = chunk_document(document, *ways[space.model])
        if isinstance(made, Rejected) or isinstance(document, Rejected) or made is None:
            expected.rejected.add((record.partition, record.offset))
            continue
        verdict = judged(document, made)
        if refusal(document, made, verdict, reject):
            expected.rejected.add((record.partition, record.offset))
        else:
            epoch = numbers[record.partition, record.offset]
            expected.documents[document.id] = newest_of(document, made, verdict, epoch, space), made
    return expected


def examine_all(
    expected: Expected,
    chunks: Mapping[str, Mapping[str, Any]],
    registry: Mapping[str, Mapping[str, Any]],
    dead: Iterable[Place],
) -> list[Finding]:
    """Everything that differs. `chunks`: source and `_version` of every row, by id; `registry`: source by entry id."""
    entries = {source["doc_id"]: from_source(source) for source in registry.values()}
    rows: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in chunks.values():
        rows[row["metadata"]["doc_id"]][row["metadata"]["chunk"]] = row_of(row, row["_version"])
    findings: list[Finding] = []
    for doc_id in sorted(expected.documents.keys() | entries.keys() | rows.keys()):
        newest, _ = expected.documents.get(doc_id, (None, []))
        entry = entries.get(doc_id)
        findings += examine(doc_id, newest, entry, rows[doc_id])
        if entry is None and newest is not None and not newest.n:
            findings.append(Finding("missing entry", doc_id, "the registry does not know that it was deleted"))
        if entry is not None and newest is None:
            findings.append(Finding("no record", doc_id, "an entry of a document that no record names"))
        if entry is not None and newest is not None and entry.state == "rejected":
            findings.append(Finding("rejected", doc_id, "a valid record was refused"))
    return [*findings, *_dead(expected, set(dead))]


def _dead(expected: Expected, dead: set[Place]) -> Iterable[Finding]:
    for place in sorted(expected.rejected - dead):
        yield Finding("dead letter missing", f"{place[0]}@{place[1]}", "a rejected record is not in the dead letters")
    for place in sorted(dead - expected.rejected):
        yield Finding("dead letter extra", f"{place[0]}@{place[1]}", "a record that should have been processed")
