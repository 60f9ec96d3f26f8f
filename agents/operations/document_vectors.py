"""Documents' own vectors held against the means of their chunks' vectors, where an index has any.

Every first chunk is asked whether it has one; whether that is right, for a sample of documents. A document whose rows
are of several records is being replaced, or damaged in another way: nothing is said of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.elastic.requests import scan
from agents.indexing.assembly import Assembly
from agents.indexing.preflight import Checked
from agents.operations.vectors import alive_of, cosine_of
from agents.progress import Report
from streams.document_vector import of_sum
from streams.examine import Finding
from streams.ids import chunk_id
from streams.plan import ChunkWrite, Vectors

READ_AT_ONCE = 256
NEEDED = 0.9999
"""Least cosine: the same sums in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Of one document at one moment: its own vector as stored, and as it has to be; None: there is none.

    `vector`: that of its first chunk.
    """

    stored: Vectors | None
    wanted: Vectors | None
    vector: Vectors

    @property
    def cosine(self) -> float:
        """Of the two; 1 where there is none, and has to be none."""
        if self.stored is None and self.wanted is None:
            return 1.0
        return cosine_of(
            [] if self.stored is None else self.stored, self.vector if self.wanted is None else self.wanted
        )

    @property
    def is_wrong(self) -> bool:
        """Whether it has to be written again."""
        return self.cosine < NEEDED or (self.stored is not None and self.wanted is None)


class DocumentVectors:
    """Of one index and one model in it. `seen`: documents whose vector was held against the mean."""

    def __init__(self, checked: Checked, assembly: Assembly, number: int) -> None:
        """`number`: of the model among those of the index."""
        self._checked = checked
        self._assembly = assembly
        self._way = assembly.parts.ways[number]
        self._names = self._way.space.names
        self._field = self._names.document or ""
        self.seen = 0
        self.damaged: set[str] = set()
        """Documents with a wrong one."""

    async def check(self, report: Report, sample: Iterable[str]) -> None:
        """These documents, and all that have none. Nothing where the index has no vectors of documents."""
        if self._names.document is None:
            return
        found, alone = set(sample), len(self._assembly.parts.ways) == 1
        alive = alive_of(self._way.space, alone=alone)["bool"]
        without = {
            "bool": {
                "filter": [*alive["filter"], {"term": {"metadata.chunk": 0}}],
                "must_not": [alive["must_not"], {"exists": {"field": self._field}}],
            }
        }
        async for hits, _ in scan(self._assembly.client, self._checked.identity.index, without, ["metadata.doc_id"]):
            found |= {hit["_source"]["metadata"]["doc_id"] for hit in hits}
        for doc in sorted(found):
            means = await self._means(doc)
            self.seen += means is not None
            if means and means.is_wrong:
                self.damaged.add(doc)
            report("looking at vectors of documents", self.seen, len(found))

    async def still_wrong(self) -> list[Finding]:
        """What was found wrong and still is, read again."""
        findings = []
        for doc in sorted(self.damaged):
            if (means := await self._means(doc)) and means.is_wrong:
                what = f"not the mean of its chunks': cosine {means.cosine:.3f}, needed {NEEDED}"
                what = "there is none" if means.stored is None else what
                findings.append(Finding("wrong document vector", chunk_id(doc, 0), what))
        return findings

    async def mend(self, docs: Iterable[str]) -> None:
        """Make them of the chunks as they are: for when no record has their texts. Twice is harmless."""
        if self._names.document is None:
            return
        for doc in docs:
            means = await self._means(doc)
            (row,) = await self._assembly.store.get(self._checked.identity.write_alias, [chunk_id(doc, 0)])
            if means is None or not row["found"]:
                continue
            source = {**row["_source"], self._names.vector: means.vector}  # vectors are not always in it
            source.pop(self._field, None)
            source |= {} if means.wanted is None else {self._field: means.wanted}
            write = ChunkWrite(id=row["_id"], version=row["_version"], source=source, over_equal=True)
            await self._assembly.chunks.write([write])

    async def _means(self, doc: str) -> Means | None:
        """None where it is not one whole record's."""
        (first,) = await self._rows(doc, range(1))
        if not self._is_whole(first):
            return None
        n, total, weight = first["metadata"]["chunks"], np.zeros(self._way.space.dims), 0.0
        for start in range(0, n, READ_AT_ONCE):
            rows = await self._rows(doc, range(start, min(n, start + READ_AT_ONCE)))
            if any(not self._is_whole(row) or _record(row) != _record(first) for row in rows):
                return None
            tokens = np.asarray(await self._tokens([row[self._names.text] for row in rows]), dtype=np.float64)
            total += tokens @ np.asarray([row[self._names.vector] for row in rows], dtype=np.float64)
            weight += float(tokens.sum())
        stored = first.get(self._field)
        return Means(
            stored=None if stored is None else np.asarray(stored, dtype=np.float32),
            wanted=of_sum(total, weight),
            vector=np.asarray(first[self._names.vector], dtype=np.float32),
        )

    async def _rows(self, doc: str, numbers: range) -> list[Mapping[str, Any]]:
        """Sources of these chunks; empty where there is none."""
        names = self._names
        fields = f"{names.text},{names.vector},{self._field},metadata.chunks,penstock.epoch,penstock.offset"
        ids = [chunk_id(doc, number) for number in numbers]
        found = await self._assembly.store.get(self._checked.identity.write_alias, ids, fields)
        return [row.get("_source", {}) for row in found]

    def _is_whole(self, row: Mapping[str, Any]) -> bool:
        """Whether it is a chunk with a vector of the model's length."""
        vector = row.get(self._names.vector, ())
        return self._names.text in row and len(vector) == self._way.space.dims and "chunks" in row.get("metadata", {})

    async def _tokens(self, texts: Sequence[str]) -> list[int]:
        embedder = self._way.embedder
        return await embedder.on_tokenizers(lambda text: len(embedder.encode([text])[0]), texts)


def _record(row: Mapping[str, Any]) -> Any:
    """Of which record it is."""
    return row["metadata"]["chunks"], row.get("penstock")
