"""Rows of a snapshot: files with documents as they were at one time, of which no log has a record.

A row stands for a record on partition -1, in epoch 0, and its offset is the snapshot's time in milliseconds. So the
versions that are made of it are below those of every record of the log, whenever that is written; of two snapshots
the newer one wins, and the same one again changes nothing.

All rows of one snapshot have one version. A second row of a document that says something else is refused, for nobody
can tell which of the two is right: see `streams.registry`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.epochs import Epochs
from streams.record import Record

SNAPSHOT = -1
"""The partition of rows."""
EPOCH = 0
TWICE = "TwiceInSnapshot"
"""The error of a row whose document is there from another one."""
ORIGIN_HEADER = "penstock.snapshot"
"""Which row of which file it is: the place is the same for all rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """`size`: bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`at_ms`: when documents were as they are in these files, epoch milliseconds. `pattern`: of the files; `tag`: of
    this very set of them."""

    at_ms: int
    files: tuple[File, ...]
    pattern: str = ""
    tag: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def time_of(snapshot: Snapshot, noted: tuple[str, int] | None, now_ms: int) -> int:
    """When a snapshot is of, where nobody says so. `noted`: tag and time of the last one of the same pattern.

    As its newest file; but a set of files that changed since, and has no file that is newer, is of now: one went, or
    was replaced by an older one.
    """
    if noted and noted[0] == snapshot.tag:
        return noted[1]
    return snapshot.at_ms if noted is None or snapshot.at_ms > noted[1] else now_ms


def record_of(
    topic: str,
    at_ms: int,
    origin: str,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> Record:
    """A row as a record. `topic`: whose index it is for; `at_ms`: of the snapshot; `origin`: for people."""
    return Record(
        topic=topic,
        partition=SNAPSHOT,
        offset=at_ms,
        timestamp_ms=at_ms,
        key=key,
        value=value,
        headers=(*headers, (ORIGIN_HEADER, origin.encode(errors="replace"))),
    )


def is_row(record: Record) -> bool:
    """Whether it is from a snapshot."""
    return record.partition == SNAPSHOT and record.offset >= 0


def epoch_of(record: Record, epochs: Epochs) -> int:
    """The one that a record belongs to that is in the log now, or a row of a snapshot."""
    return EPOCH if is_row(record) else epochs.of(record.partition, record.offset)


def origin_of(record: Record) -> str:
    """File and row; empty where it does not say."""
    return (dict(record.headers).get(ORIGIN_HEADER) or b"").decode(errors="replace")
