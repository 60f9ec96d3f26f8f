"""Adapter of `streams.protocol.Entries`: reads and compare-and-swaps entries in Elasticsearch."""

from collections.abc import Iterable, Sequence

from agents.clock import utc_now
from agents.elastic.store import Operation, Store
from streams.errors import PenstockError
from streams.ids import entry_id
from streams.plan import Conflict, Refused, Written
from streams.registry import Entry, Stored, from_source, to_source


class Registry:
    """The registry index of one chunk index."""

    def __init__(self, store: Store, index: str) -> None:
        self._store = store
        self._index = index

    async def read(self, doc_ids: Iterable[str]) -> dict[str, Stored]:
        """Entries as they are now (`_mget` is realtime); absent ones are left out. Retries while the server is away."""
        wanted = list(dict.fromkeys(doc_ids))
        if not wanted:
            return {}
        rows = await self._store.get(self._index, [entry_id(doc_id) for doc_id in wanted])
        found = {}
        for doc_id, doc in zip(wanted, rows, strict=True):
            if doc["found"]:
                found[doc_id] = Stored(
                    entry=from_source(doc["_source"]),
                    seq_no=doc["_seq_no"],
                    primary_term=doc["_primary_term"],
                )
        return found

    async def swap(self, changes: Sequence[tuple[Entry, Stored | None]]) -> list[Stored | None]:
        """Put each entry in the place of the one that was read (None: absent then).

        Returns the new state of each, or None where another writer was faster, which may be our own write
        whose answer was lost: read again and decide again.
        """
        if not changes:
            return []
        now = utc_now()
        outcomes = await self._store.send(
            self._index, [_operation(entry, before, now) for entry, before in changes], require_alias=True
        )
        swapped: list[Stored | None] = []
        for (entry, _), outcome in zip(changes, outcomes, strict=True):
            match outcome:
                case Written(seq_no, primary_term):
                    swapped.append(Stored(entry=entry, seq_no=seq_no, primary_term=primary_term))
                case Conflict():
                    swapped.append(None)
                case Refused(error, reason):
                    raise PenstockError(f"the registry {self._index} refused an entry: {error}: {reason}")
        return swapped


def _operation(entry: Entry, before: Stored | None, now: str) -> Operation:
    meta: dict[str, object] = {"_id": entry_id(entry.doc_id)}
    if before is None:
        return Operation(action="create", meta=meta, source=to_source(entry, now))
    meta |= {"if_seq_no": before.seq_no, "if_primary_term": before.primary_term}
    return Operation(action="index", meta=meta, source=to_source(entry, now))
