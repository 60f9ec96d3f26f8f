"""Documents in groups, so that what is read of them together is bounded."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
CHUNKS = 2048
"""Chunks that are in memory together, but for a document that has more."""


def groups(items: Iterable[T], chunks_of: Callable[[T], int], *, most: int | None = None) -> Iterator[list[T]]:
    """In order; each of at most `CHUNKS` chunks and `most` items, or of a single item."""
    group, chunks = list[T](), 0
    for item in items:
        more = chunks_of(item)
        if group and (len(group) == most or chunks + more > CHUNKS):
            yield group
            group, chunks = [], 0
        group.append(item)
        chunks += more
    if group:
        yield group
