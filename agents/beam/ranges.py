"""What is scattered: ranges of offsets, or of the bytes of files; never documents. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from streams.snapshot import File

LEAST, MOST = 200, 20_000
"""Offsets of one range: what is lost when a process dies, and what a look at the registry is worth."""
LEAST_BYTES, MOST_BYTES = 256 * 1024, 64 * 1024**2
"""Of a file that can be read from anywhere."""
EACH = 8
"""Ranges for each process at least, so that they end at about the same time."""
TOGETHER = 1000
"""Small files that are read one after the other."""
DIVIDED = (".jsonl", ".ndjson", ".parquet")
"""Files that can be read from anywhere: by lines that begin there, or by groups of rows."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets of a partition, from `start` up to, and without, `end`."""

    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What begins in these bytes of a file, from `start` up to, and without, `end`."""

    path: str
    start: int
    end: int


def scattered(ranges: Mapping[int, range], processes: int) -> list[Range]:
    """All of them in parts, one of each partition in turn: each offset exactly once."""
    size = _size(sum(map(len, ranges.values())), processes, LEAST, MOST)
    return _in_turn(
        [
            [Range(number, start, min(start + size, one.stop)) for start in range(one.start, one.stop, size)]
            for number, one in sorted(ranges.items())
        ]
    )


def pieces(files: Sequence[File], processes: int) -> list[tuple[Piece, ...]]:
    """All of them in parts, one of each file in turn, small ones together: each byte exactly once."""
    size = _size(sum(file.size for file in files), processes, LEAST_BYTES, MOST_BYTES)
    groups, held = list[tuple[Piece, ...]](), 0
    for piece in _in_turn([list(_pieces(file, size)) for file in files]):
        length = piece.end - piece.start
        if not groups or held + length > size or len(groups[-1]) == TOGETHER:
            groups, held = [*groups, ()], 0
        groups[-1] += (piece,)
        held += length
    return groups


def _pieces(file: File, size: int) -> Iterator[Piece]:
    if not file.path.lower().endswith(DIVIDED):
        yield Piece(file.path, 0, file.size)
        return
    for start in range(0, file.size, size):
        yield Piece(file.path, start, min(start + size, file.size))


def _size(total: int, processes: int, least: int, most: int) -> int:
    return max(least, min(most, total // (EACH * processes)))


def _in_turn(parts: Sequence[Sequence[T]]) -> list[T]:
    return [part for row in zip_longest(*parts) for part in row if part is not None]
