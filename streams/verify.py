"""The oracle: what a log says must be in the index, held against what is there. Pure; reads nothing itself.

Serves the tests, and is meant for `penstock index verify`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.identity import chunk_id, entry_id, version
from streams.plan import chunk_hash
from streams.record import Record, Rejected, decode
from streams.split import Chunk, CountTokens, SplitRules, chunk_document

Place = tuple[int, int]
"""(partition, offset)."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Each document's newest valid record with its chunks, by document id; and the places of the rejected records."""

    documents: dict[str, tuple[Record, list[Chunk]]] = field(default_factory=dict)
    rejected: set[Place] = field(default_factory=set)

    def texts(self) -> dict[str, str]:
        """Texts of all chunks that must be there, by chunk id."""
        return {
            chunk_id(doc_id, number): chunk.text
            for doc_id, (_, chunks) in self.documents.items()
            for number, chunk in enumerate(chunks)
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: what kind, which id or place, and what exactly."""

    kind: str
    where: str
    what: str


def expected_of(records: Iterable[Record], rules: SplitRules, count: CountTokens) -> Expected:
    """Of all records of a log, in any order; a key belongs to one partition."""
    expected = Expected()
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        document = decode(record)
        made = document if isinstance(document, Rejected) else chunk_document(document, rules, count)
        if isinstance(made, Rejected) or isinstance(document, Rejected):
            expected.rejected.add((record.partition, record.offset))
        else:
            expected.documents[document.id] = record, made
    return expected


def compare(
    expected: Expected,
    chunks: Mapping[str, Mapping[str, Any]],
    registry: Mapping[str, Mapping[str, Any]],
    dead: Iterable[Place],
    *,
    epoch: int = 0,
) -> list[Finding]:
    """Everything that differs. `chunks`: source and `_version` of every row, by id; `registry`: source by entry id."""
    return [
        *_chunks(expected, chunks),
        *_entries(expected, registry, epoch),
        *_versions(chunks, registry),
        *_dead(expected, set(dead)),
    ]


def _chunks(expected: Expected, found: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
    wanted = {
        chunk_id(doc_id, number): chunk
        for doc_id, (_, chunks) in expected.documents.items()
        for number, chunk in enumerate(chunks)
    }
    alive = {key: row for key, row in found.items() if not row["penstock"]["stub"]}
    for key in sorted(alive.keys() - wanted.keys()):
        yield Finding("orphan", key, "a chunk that no record asks for")
    for key, chunk in wanted.items():
        row = alive.get(key)
        if row is None:
            yield Finding("missing", key, "no chunk is there")
        elif row["text"] != chunk.text:
            yield Finding("stale", key, "another text")
        elif row["penstock"]["chunk_hash"] != chunk_hash(chunk.text):
            yield Finding("hash", key, "a hash that is not the text's")
        elif (row["metadata"].get("start"), row["metadata"].get("end")) != (chunk.start, chunk.end):
            yield Finding("offsets", key, "other offsets into the document")


def _entries(expected: Expected, registry: Mapping[str, Mapping[str, Any]], epoch: int) -> Iterable[Finding]:
    for doc_id, (record, chunks) in expected.documents.items():
        entry = registry.get(entry_id(doc_id))
        want = "done", len(chunks), len(chunks), version(epoch, record.offset)
        found = entry and (entry["state"], entry["n"], entry["hi"], entry["version"])
        if found != want:
            yield Finding("entry", doc_id, f"{found}, not {want}")


def _versions(chunks: Mapping[str, Mapping[str, Any]], registry: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
    for key, row in chunks.items():
        entry = registry.get(entry_id(row["metadata"]["doc_id"]))
        if entry is None or row["_version"] > entry["version"]:
            yield Finding("version", key, f"{row['_version']} is above its registry entry's")


def _dead(expected: Expected, dead: set[Place]) -> Iterable[Finding]:
    for place in sorted(expected.rejected - dead):
        yield Finding("dead letter missing", f"{place[0]}@{place[1]}", "a rejected record is not in the dead letters")
    for place in sorted(dead - expected.rejected):
        yield Finding("dead letter extra", f"{place[0]}@{place[1]}", "a record that should have been processed")
