"""Elasticsearch in memory, with its true rules: versions, compare-and-swap, deletions that are forgotten."""

from dataclasses import dataclass, field
from typing import Any

Answer = dict[str, Any]


@dataclass(slots=True)
class Row:
    """A document, or the memory of a deleted one (`source` None), which fades."""

    version: int
    seq_no: int
    primary_term: int
    source: dict[str, Any] | None


@dataclass
class MemoryIndex:
    """One shard of one index. Every operation is atomic and seen at once (`_mget` is realtime)."""

    name: str
    uuid: str
    rows: dict[str, Row] = field(default_factory=dict)
    seq_no: int = 0
    primary_term: int = 1
    mended: bool = False
    """Whether it takes now what it refused before."""

    def apply(self, action: str, meta: dict[str, Any], source: dict[str, Any] | None) -> Answer:
        """One item of a bulk, with the part of the answer that Penstock looks at."""
        if source is not None and (error := self.refusal(source)):
            return {"status": 400, "error": {"type": "document_parsing_exception", "reason": error}}
        row = self.rows.get(meta["_id"])
        alive = row if row is not None and row.source is not None else None
        if action == "create" and alive:
            return _conflict()
        if "if_seq_no" in meta and not (
            alive and (alive.seq_no, alive.primary_term) == (meta["if_seq_no"], meta["if_primary_term"])
        ):
            return _conflict()
        version = (row.version if row else 0) + 1
        if "version" in meta:
            version = meta["version"]
            if row and (version < row.version or (meta["version_type"] == "external" and version == row.version)):
                return _conflict()
        self.rows[meta["_id"]] = Row(version, self.seq_no, self.primary_term, source)
        self.seq_no += 1
        missing = 404 if source is None else 201
        return {
            "status": 200 if alive else missing,
            "_seq_no": self.seq_no - 1,
            "_primary_term": self.primary_term,
        }

    def refusal(self, source: dict[str, Any]) -> str | None:
        """Why the mapping does not take it: found before any version is looked at."""
        return "scripted" if source.get("text") == REFUSED and not self.mended else None

    def get(self, key: str) -> Answer:
        """One row of an `_mget`."""
        row = self.rows.get(key)
        if row is None or row.source is None:
            return {"_id": key, "found": False}
        return {
            "_id": key,
            "_version": row.version,
            "found": True,
            "_source": row.source,
            "_seq_no": row.seq_no,
            "_primary_term": row.primary_term,
        }

    def reopen(self) -> None:
        """A restart, a relocation, or the index closed and opened: a new primary term, and deletions are forgotten."""
        self.primary_term += 1
        self.forget_deletions()

    def forget_deletions(self) -> None:
        """What `index.gc_deletes` does after a minute."""
        self.rows = {key: row for key, row in self.rows.items() if row.source is not None}


REFUSED = "REFUSED"
"""A chunk with this text stands for whatever the server would not take and validation let through."""


def _conflict() -> Answer:
    return {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "conflict"}}
