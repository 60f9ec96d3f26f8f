"""A worker that neither reads nor writes the registry: what `make bench` measures the cost of the protocol against.

For the benchmark only: such a worker leaves stale chunks behind.
"""

import sys
from collections.abc import Iterable, Sequence

from agents.commands import main
from agents.registry import Registry
from streams.registry import Entry, Stored


async def _read(_: Registry, __: Iterable[str]) -> dict[str, Stored]:
    return {}


async def _swap(_: Registry, changes: Sequence[tuple[Entry, Stored | None]]) -> list[Stored | None]:
    return [Stored(entry=entry, seq_no=0, primary_term=1) for entry, _ in changes]


if __name__ == "__main__":
    Registry.read = _read  # type: ignore[method-assign, assignment]
    Registry.swap = _swap  # type: ignore[method-assign, assignment]
    sys.argv = ["penstock", "worker"]
    main()
