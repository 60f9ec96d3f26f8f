"""A registry that takes every change, and writes none: for a dry run, and where no index is."""

from collections.abc import Iterable, Sequence

from streams.ports import Entries
from streams.registry import Entry, Stored


class Unwritten:
    """`Entries`: as the real one has them; without it every document is new."""

    def __init__(self, real: Entries | None = None) -> None:
        self._real = real

    async def read(self, doc_ids: Iterable[str]) -> dict[str, Stored]:
        """See `Entries`."""
        return await self._real.read(doc_ids) if self._real else {}

    async def swap(self, changes: Sequence[tuple[Entry, Stored | None]]) -> list[Stored | None]:
        """Each succeeds."""
        return [Stored(entry=entry, seq_no=0, primary_term=0) for entry, _ in changes]
