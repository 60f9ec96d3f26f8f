"""`penstock index digest`: proof that two indices hold the same, however each was filled."""

import hashlib
import heapq
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from agents.elastic.client import Client
from agents.elastic.errors import translated
from agents.elastic.index import Index
from agents.elastic.requests import PAGE, scan
from agents.operations.groups import groups
from agents.operations.vectors import NO_VECTOR, cosine_of
from agents.progress import Report
from agents.settings import Settings
from streams.contract import differences, spaces_of
from streams.digest import Difference, Document, Finding, Tree, findings
from streams.errors import ConfigError
from streams.generations import Generation
from streams.ids import chunk_id
from streams.registry import Entry, from_source

SAMPLE = 100
"""Documents whose vectors are compared: those with the least hashes, so that it is the same ones everywhere."""
MOST_LOOKED_AT = 200_000
"""Documents of ranges that differ: of more than that none is named."""


@dataclass(slots=True)
class Digest:
    """Of one index. `contract`: what it was made with. `unfinished`: documents that are being written, or were left so.
    `loose`: chunks that no entry names: `penstock index verify` tells which."""

    index: str
    contract: Mapping[str, Any]
    tree: Tree = field(default_factory=Tree)
    unfinished: int = 0
    loose: int = 0
    sample: list[Document] = field(default_factory=list)

    def to_note(self) -> dict[str, Any]:
        """The manifest, as JSON: what another cluster's index can be held against."""
        whole = self.tree.sum()
        return {
            "index": self.index,
            "contract": self.contract,
            "documents": whole.documents,
            "chunks": whole.chunks,
            "digest": whole.digest,
            "unfinished": self.unfinished,
            "loose_chunks": self.loose,
            "ranges": self.tree.to_note(),
        }

    @classmethod
    def read(cls, path: Path) -> "Digest":
        """A manifest. Raises ConfigError for anything else."""
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            made = cls(note["index"], note["contract"], Tree.from_note(note["ranges"]), note["unfinished"])
            whole = made.tree.sum()
            if (whole.digest, whole.documents) != (note["digest"], note["documents"]):
                raise ValueError("its ranges do not add up to its digest")
        except OSError as exc:
            raise ConfigError(f"--against {path} cannot be read: {exc.strerror}") from exc
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ConfigError(
                f"--against {path} is no manifest, as `penstock index digest --json` writes it ({exc})"
            ) from exc
        return made


@dataclass(slots=True)
class Compared:
    """`contract`: names of fields that differ. `found`: documents that do; None where nobody looked: too many, or of a
    manifest. `vectors`: how many were compared; `least`: the least cosine of two."""

    other: Digest
    differing: list[Difference]
    contract: list[str]
    found: list[Finding] | None = None
    vectors: int = 0
    least: float | None = None


async def digest_of(client: Client, settings: Settings, generation: Generation, report: Report) -> Digest:
    """All documents of a generation, by their entries; memory does not grow with them.

    True of a moment only while nothing is written; then two of them tell whether the indices hold the same. Raises
    PenstockError when Elasticsearch does not answer.
    """
    made = Digest(generation.index, generation.contract)
    least: list[tuple[int, Document]] = []
    passed = 0
    async for documents, total in _documents(client, settings, generation):
        for one in documents:
            made.tree.add(one)
            made.unfinished += one.state == "writing"
            if one.state == "done" and one.chunks:
                heapq.heappush(least, (-one.hashed(), one))
                if len(least) > SAMPLE:
                    heapq.heappop(least)
        passed += len(documents)
        report(f"reading {generation.index}", passed, total)
    counts = await Index(client, settings).counts(generation.index)
    made.loose = max(0, counts["chunks"] - made.tree.sum().chunks)
    made.sample = [one for _, one in sorted(least, key=lambda row: -row[0])]
    return made


async def compare_digests(
    client: Client, settings: Settings, here: Digest, there: Digest, generations: Sequence[Generation], report: Report
) -> Compared:
    """Where they differ. `generations`: of both; of the first alone, where the other one is a manifest."""
    result = Compared(
        other=there,
        differing=here.tree.differences(there.tree),
        contract=[row.partition(": ")[0] for row in differences(dict(there.contract), dict(here.contract))],
    )
    if len(generations) < 2:
        return result
    size = sum(max(one.here.documents, one.there.documents) for one in result.differing)
    if size <= MOST_LOOKED_AT:
        sides = [await _within(client, settings, one, result.differing, report) for one in generations]
        result.found = list(findings(*sides)) if result.differing else []
    different = {one.id for one in result.found or ()}
    if result.found is not None:
        same = [one for one in here.sample if one.id not in different]
        result.vectors, result.least = await _least_cosine(client, settings, generations, same)
    return result


async def _documents(
    client: Client, settings: Settings, generation: Generation, partitions: Iterable[int] | None = None
) -> AsyncIterator[tuple[list[Document], int]]:
    """Pages of documents, and how many there are in all."""
    uuid = (await Index(client, settings).identity(generation, opened=False)).chunk_index_uuid
    query: dict[str, Any] = {"match_all": {}} if partitions is None else {"terms": {"partition": sorted(partitions)}}
    with translated(settings.elasticsearch.url, "; try again"):
        async for hits, total in scan(client, f"{generation.index}-registry", query):
            entries = [from_source(hit["_source"]) for hit in hits]
            entries = [entry for entry in entries if entry.chunk_index_uuid == uuid]
            documents: list[Document] = []
            for part in groups(entries, lambda entry: entry.n, most=PAGE):
                documents += await _with_chunks(client, generation, part)
            yield documents, total


async def _with_chunks(client: Client, generation: Generation, entries: Sequence[Entry]) -> list[Document]:
    ids = [chunk_id(entry.doc_id, number) for entry in entries for number in range(entry.n)]
    rows: list[Any] = []
    for start in range(0, len(ids), PAGE):
        answer = await client.mget(
            index=generation.index,
            ids=ids[start : start + PAGE],
            source_includes=["penstock.chunk_hash", "metadata"],
        )
        rows += answer["docs"]
    sources = (row.get("_source", {}) for row in rows)
    return [
        Document(
            id=entry.doc_id,
            partition=entry.partition,
            version=entry.version,
            state=entry.state,
            chunks=tuple(_hashed(next(sources)) for _ in range(entry.n)),
        )
        for entry in entries
    ]


def _hashed(source: Mapping[str, Any]) -> str | None:
    text = source.get("penstock", {}).get("chunk_hash")  # a stub has none
    if text is None:
        return None
    metadata = orjson.dumps(source.get("metadata"), option=orjson.OPT_SORT_KEYS)
    return f"{text} {hashlib.blake2b(metadata, digest_size=16).hexdigest()}"


async def _within(
    client: Client, settings: Settings, generation: Generation, ranges: Sequence[Difference], report: Report
) -> list[Document]:
    """Documents of these ranges."""
    places = {(one.partition, one.digits) for one in ranges}
    found: list[Document] = []
    passed = 0
    if not places:
        return found
    async for documents, total in _documents(client, settings, generation, {number for number, _ in places}):
        for one in documents:
            number, digits = one.place
            if any((number, digits[:length]) in places for length in range(len(digits) + 1)):
                found.append(one)
        passed += len(documents)
        report(f"looking for differences in {generation.index}", passed, total)
    return found


async def _least_cosine(
    client: Client, settings: Settings, generations: Sequence[Generation], sample: Sequence[Document]
) -> tuple[int, float | None]:
    """How many vectors were compared, and the least cosine; of fields that both have."""
    ids = [chunk_id(one.id, number) for one in sample for number in range(len(one.chunks))]
    spaces = [spaces_of(generation.contract) for generation in generations]
    names = [{name for space in side for name in (space.names.vector, space.names.document) if name} for side in spaces]
    wanted = sorted(names[0] & names[1])
    count, least = 0, 1.0
    with translated(settings.elasticsearch.url, "; try again"):
        for start in range(0, len(ids), PAGE):
            part = ids[start : start + PAGE]
            answers = [
                await client.mget(index=generation.index, ids=part, source_includes=wanted)
                for generation in generations
            ]
            for one, other in zip(answers[0]["docs"], answers[1]["docs"], strict=True):
                for name in wanted:
                    ours, theirs = (row.get("_source", {}).get(name) for row in (one, other))
                    if ours is None and theirs is None:
                        continue
                    count += 1
                    both = ours is not None and theirs is not None
                    least = min(least, cosine_of(ours, np.asarray(theirs, np.float32)) if both else NO_VECTOR)
    return count, least if count else None
