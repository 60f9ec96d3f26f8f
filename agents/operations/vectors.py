"""Stored vectors held against those of their texts: a sample of all widths, and all of the widths that are wrong."""

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.clock import utc_now
from agents.elastic.requests import PAGE, scan
from agents.indexing.assembly import Assembly
from agents.indexing.preflight import Checked
from agents.progress import Report
from models.cosines import IN_ONE_INDEX, cosines
from models.onnx.widths import bounds_up_to
from streams.examine import Finding, evenly
from streams.plan import ChunkWrite, Space
from streams.split import Input

STUB, OURS = {"term": {"penstock.stub": True}}, {"exists": {"field": "penstock.chunk_hash"}}
ALIVE = {"bool": {"filter": OURS, "must_not": STUB}}
"""Chunks, no stubs, and nothing that somebody else put beside them."""
WITH_STUBS = {"bool": {"should": [OURS, STUB], "minimum_should_match": 1}}
OF_OTHERS = {"bool": {"must_not": [OURS, STUB]}}


def alive_of(space: Space, *, alone: bool) -> dict[str, Any]:
    """Chunks with vectors of this model. `alone`: the index has no others."""
    own = [] if alone else [{"term": {"penstock.model": space.model}}]
    return {"bool": {"filter": [OURS, *own], "must_not": STUB}}


POOL, MOST = 8, 10_000
"""The sample is taken from so many times as many chunks, at random, and at most so many: rare widths are in it."""
NO_VECTOR = -1.0
"""Its cosine; also of a text that is longer than the model takes, which is not ours, and nor is its vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A stored vector held against its text's. `tokens`: of the text."""

    doc: str
    tokens: int
    cosine: float


class StoredVectors:
    """Of one index and one model in it, whose own runs are proved. `seen`: chunks that were embedded again.

    `documents`: those of the sample. `widths`: of the chunks, by tokens of their class at most: how many, and how many
    had a wrong vector.
    """

    def __init__(self, checked: Checked, assembly: Assembly, number: int) -> None:
        """`number`: of the model among those of the index."""
        manifest = checked.models[number].manifest
        self._checked = checked
        self._assembly = assembly
        self._way = assembly.parts.ways[number]
        self._others = [way.space for way in assembly.parts.ways if way is not self._way]
        self._alive = alive_of(self._way.space, alone=not self._others)
        self._bounds = bounds_up_to(manifest.max_tokens)
        self._limit = manifest.max_tokens
        self._needed = IN_ONE_INDEX[manifest.contract()["precision"]]
        self._wrong: dict[str, Vector] = {}
        self.seen = 0
        self.documents: set[str] = set()
        self.widths: dict[int, tuple[int, int]] = {}

    @property
    def damaged(self) -> set[str]:
        """Documents with a wrong vector."""
        return {vector.doc for vector in self._wrong.values()}

    def wrong_of(self, doc: str) -> set[str]:
        """Ids of a document's chunks with a wrong vector."""
        return {key for key, vector in self._wrong.items() if vector.doc == doc}

    async def mend(self, ids: Sequence[str]) -> None:
        """Embed those of these chunks that are this model's again as they are, in their places: for when no record has
        their text. Those that no model of the index made become the default one's. Twice is harmless.

        A text that the model does not take stays as it was.
        """
        names, embedder = self._way.space.names, self._way.embedder
        for start in range(0, len(ids), PAGE):
            rows = await self._assembly.store.get(self._checked.identity.write_alias, ids[start : start + PAGE])
            rows = [row for row in rows if names.text in row.get("_source", {}) and self._is_own(row["_source"])]
            inputs = await self._inputs([row["_source"][names.text] for row in rows])
            rows = [row for row, one in zip(rows, inputs, strict=True) if self._is_taken(one)]
            made = await embedder.embed([one for one in inputs if self._is_taken(one)])
            writes = []
            for place, (row, vector) in enumerate(zip(rows, made.vectors, strict=True)):
                own = {**row["_source"]["penstock"], "model": self._way.space.model, "indexed_at": utc_now()}
                source = {**row["_source"], names.vector: vector, "penstock": own}
                for other in self._others:
                    source.pop(other.names.vector, None)
                if place not in made.failed:
                    writes.append(ChunkWrite(id=row["_id"], version=row["_version"], source=source, over_equal=True))
            await self._assembly.chunks.write(writes)

    def _is_own(self, source: dict[str, Any]) -> bool:
        model = source.get("penstock", {}).get("model")
        default = self._way is self._assembly.parts.ways[0]
        return model == self._way.space.model or (default and model not in [other.model for other in self._others])

    async def still_wrong(self) -> list[Finding]:
        """What was found wrong and still is, read again."""
        wrong, findings = list(self._wrong), list[Finding]()
        for start in range(0, len(wrong), PAGE):
            findings += [
                Finding("wrong vector", key, self._what(vector))
                for key, vector in (await self._vectors(wrong[start : start + PAGE])).items()
                if self._is_wrong(vector)
            ]
        return findings

    def _what(self, vector: Vector) -> str:
        if vector.tokens > (limit := self._limit):
            return f"its text has {vector.tokens} tokens, and the model takes {limit}"
        if vector.cosine == NO_VECTOR:
            return "there is none, or it has not the model's length"
        return f"not its text's: cosine {vector.cosine:.3f}, needed {self._needed}, at {vector.tokens} tokens"

    async def check(self, report: Report, sample: int) -> None:
        """Of a random sample of chunks, text and vector of the same row; then of all in the classes with wrong ones."""
        if not sample:
            return
        ids = evenly([(key, self._class(tokens)) for key, tokens in (await self._pool(POOL * sample)).items()], sample)
        for start in range(0, len(ids), PAGE):
            self.documents |= await self._hold(ids[start : start + PAGE])
            report("embedding a sample again", min(len(ids), start + PAGE), len(ids))
        suspicious = {bound for bound, (_, wrong) in self.widths.items() if wrong}
        if suspicious:
            await self._check_classes(suspicious, set(ids), report)

    async def _check_classes(self, classes: set[int], seen: set[str], report: Report) -> None:
        """A kernel that is wrong for one width is wrong for all texts of it."""
        names = self._way.space.names
        passed = 0
        async for hits, total in scan(self._assembly.client, self._checked.identity.index, self._alive, [names.text]):
            inputs = await self._inputs([hit["_source"][names.text] for hit in hits])
            found = [hit["_id"] for hit, one in zip(hits, inputs, strict=True) if self._class(len(one)) in classes]
            await self._hold([key for key in found if key not in seen])
            passed += len(hits)
            report("embedding all chunks of the widths that are wrong", passed, total)

    async def _hold(self, ids: Sequence[str]) -> set[str]:
        """Remember which vectors are wrong. Returns their documents."""
        found = await self._vectors(ids) if ids else {}
        for key, vector in found.items():
            bound = self._class(vector.tokens)
            count, wrong = self.widths.get(bound, (0, 0))
            self.widths[bound] = count + 1, wrong + self._is_wrong(vector)
            self.seen += 1
            if self._is_wrong(vector):
                self._wrong[key] = vector
        return {vector.doc for vector in found.values()}

    async def _vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        """Stored vectors held against those of their texts, by chunk id; of what is there."""
        names = self._way.space.names
        fields = f"{names.text},{names.vector},metadata.doc_id"
        alias = self._checked.identity.write_alias
        found = await self._assembly.store.get(alias, ids, fields)
        rows = [row for row in found if names.text in row.get("_source", {})]
        inputs = await self._inputs([row["_source"][names.text] for row in rows])
        vectors = iter((await self._way.embedder.embed([one for one in inputs if self._is_taken(one)])).vectors)
        return {
            row["_id"]: Vector(
                doc=row["_source"]["metadata"]["doc_id"],
                tokens=len(one),
                cosine=cosine_of(row["_source"].get(names.vector, []), next(vectors))
                if self._is_taken(one)
                else NO_VECTOR,
            )
            for row, one in zip(rows, inputs, strict=True)
        }

    def _is_taken(self, text: Input) -> bool:
        return len(text) <= self._limit

    async def _inputs(self, texts: Sequence[str]) -> list[Input]:
        """What the model is given of them."""
        embedder = self._way.embedder
        return await embedder.on_tokenizers(lambda text: embedder.encode([text])[0], texts)

    def _class(self, tokens: int) -> int:
        """A text over the limit, which nobody but others can have written, is of the last class."""
        bounds = self._bounds
        return bounds[min(bisect.bisect_left(bounds, tokens), len(bounds) - 1)]

    def _is_wrong(self, vector: Vector) -> bool:
        return vector.cosine < self._needed

    async def _pool(self, size: int) -> dict[str, int]:
        """Tokens by id of so many chunks, at random."""
        text = self._way.space.names.text
        seed = random.randrange(2**31)  # noqa: S311 - a sample
        query = {"function_score": {"query": self._alive, "random_score": {"seed": seed, "field": "_seq_no"}}}
        answer = await self._assembly.client.search(
            index=self._checked.identity.index, query=query, size=min(size, MOST), source={"includes": [text]}
        )
        hits = answer["hits"]["hits"]
        inputs = await self._inputs([hit["_source"][text] for hit in hits])
        return {hit["_id"]: len(one) for hit, one in zip(hits, inputs, strict=True)}


def cosine_of(stored: Sequence[float] | np.ndarray[Any, Any], again: np.ndarray[Any, Any]) -> float:
    """Of a stored vector to another one; `NO_VECTOR` where it has not its length."""
    found = np.asarray(stored, dtype=np.float32)
    return float(cosines(found, again)) if found.shape == again.shape else NO_VECTOR
