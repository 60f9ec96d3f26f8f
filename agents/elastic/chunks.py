"""Adapter of `streams.protocol.Chunks`: versioned writes through the write alias, vectors read back by hash."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from agents.elastic.store import Operation, Store
from agents.fail_points import FailPoints
from agents.metrics import Metrics
from streams.ids import version
from streams.plan import ChunkWrite, Conflict, Outcome, Refused, Vectors

READ_AT_ONCE = 256  # some 1 MB of vectors of 384 dims, as JSON


class ChunkIndex:
    """The chunk index behind its write alias."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        fail_points: FailPoints,
        *,
        write_alias: str,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._fail_points = fail_points
        self._alias = write_alias

    async def read(self, ids: Sequence[str], vector: str) -> dict[str, Vectors]:
        """See `Chunks`. Retries while the server is away; raises PenstockError when the index is gone."""
        found: dict[str, Vectors] = {}
        for start in range(0, len(ids), READ_AT_ONCE):
            # asked for by name: since 9.2 vectors are left out of _source otherwise
            part = ids[start : start + READ_AT_ONCE]
            for row in await self._store.get(self._alias, part, f"{vector},penstock.chunk_hash"):
                source = row.get("_source", {})
                told = source.get("penstock", {}).get("chunk_hash")
                if told and vector in source:  # not of rows that others made
                    found[told] = np.asarray(source[vector], dtype=np.float32)
        return found

    async def stubs(self, ids: Sequence[str]) -> dict[str, int]:
        """Versions by id of those that are stubs now."""
        found: dict[str, int] = {}
        for start in range(0, len(ids), READ_AT_ONCE):
            part = ids[start : start + READ_AT_ONCE]
            for row in await self._store.get(self._alias, part, "penstock.stub"):
                if row.get("_source", {}).get("penstock", {}).get("stub"):
                    found[row["_id"]] = row["_version"]
        return found

    async def origins(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Partition and version of the record that each row was made of; not of rows that others made."""
        found: dict[str, tuple[int, int]] = {}
        for start in range(0, len(ids), READ_AT_ONCE):
            for row in await self._store.get(self._alias, ids[start : start + READ_AT_ONCE], "penstock"):
                own = row.get("_source", {}).get("penstock", {})
                if own.keys() >= {"partition", "epoch", "offset"}:
                    found[row["_id"]] = own["partition"], version(own["epoch"], own["offset"])
        return found

    async def write(self, writes: Iterable[ChunkWrite]) -> list[Outcome]:
        """One outcome a write, in order; they are drawn as the server takes them.

        `require_alias`: a plain bulk re-creates a deleted index.
        """
        stubs = bytearray()
        outcomes = await self._store.send(self._alias, _operations(writes, stubs), require_alias=True)
        if outcomes:
            self._fail_points.passing("after_chunks")
        for kind, count in Counter(map(_kind, stubs, outcomes)).items():
            self._metrics.chunks.labels(kind).inc(count)
        return outcomes


def _operations(writes: Iterable[ChunkWrite], stubs: bytearray) -> Iterator[Operation]:
    """Each as it is drawn; whether it is a stub is added to `stubs`."""
    for write in writes:
        stubs.append(write.stub)
        yield Operation(
            action="index",
            meta={
                "_id": write.id,
                "version": write.version,
                "version_type": "external_gte" if write.over_equal else "external",
            },
            source=write.source,
        )


def _kind(stub: int, outcome: Outcome) -> str:
    match outcome:
        case Refused():
            return "rejected"
        case Conflict():
            return "superseded"
    return "stub" if stub else "indexed"
