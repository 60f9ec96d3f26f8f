"""What is scattered: ranges of offsets, never documents. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

LEAST, MOST = 200, 20_000
"""Offsets of one range: what is lost when a process dies, and what a look at the registry is worth."""
EACH = 8
"""Ranges for each process at least, so that they end at about the same time."""


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets of a partition, from `start` up to, and without, `end`."""

    partition: int
    start: int
    end: int


def scattered(ranges: Mapping[int, range], processes: int) -> list[Range]:
    """All of them in parts, one of each partition in turn: each offset exactly once."""
    total = sum(map(len, ranges.values()))
    size = max(LEAST, min(MOST, total // (EACH * processes)))
    parts = [list(_parts(number, one, size)) for number, one in sorted(ranges.items())]
    return [part for row in zip_longest(*parts) for part in row if part is not None]


def _parts(number: int, one: range, size: int) -> Iterator[Range]:
    for start in range(one.start, one.stop, size):
        yield Range(number, start, min(start + size, one.stop))
