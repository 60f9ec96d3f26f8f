"""A digest of what an index holds, whatever the order in which it came there, and where two of them differ.

Each document is hashed with its version, its state and its chunks. Hashes are summed modulo 2^128, so that order means
nothing (a multiset hash by addition: Clarke et al., "Incremental Multiset Hash Functions and Their Application to
Memory Integrity Checking", 2003). The sums are the leaves of a tree of ranges (Merkle, 1987): a partition, and in it
the first digits of the SHA-256 of document ids. Two trees are walked down where their sums differ.

    everything ─► partition ─► 1st digit ─► 2nd digit: `RANGES` a partition

What depends on how a document came there is left out: stubs beyond its chunks, numbers of attempts, times, the content
hash of its record, and the version of a chunk whose document came again unchanged.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

DIGITS = 2
"""Hexadecimal digits of a leaf's range."""
RANGES = 16**DIGITS
_MODULUS = 1 << 128


@dataclass(frozen=True, slots=True)
class Document:
    """One document, as its entry and its chunks tell it.

    `version`: of the newest record. `state`: of its entry. `chunks`: hashes of their texts and metadata, in order; None
    for one that is missing, or a stub.
    """

    id: str
    partition: int
    version: int
    state: str
    chunks: tuple[str | None, ...] = ()

    @property
    def place(self) -> tuple[int, str]:
        """Partition, and the digits of its range."""
        return self.partition, range_of(self.id)

    def hashed(self) -> int:
        """Of all of it, below 2^128."""
        told = [self.id, str(self.partition), str(self.version), self.state]
        told += ["-" if chunk is None else chunk for chunk in self.chunks]
        whole = b"".join(len(raw := part.encode()).to_bytes(4, "big") + raw for part in told)
        return int.from_bytes(hashlib.blake2b(whole, digest_size=16).digest(), "big")


@dataclass(frozen=True, slots=True)
class Sum:
    """Of some documents."""

    documents: int = 0
    chunks: int = 0
    hashes: int = 0

    def plus(self, other: "Sum") -> "Sum":
        """Of both."""
        return Sum(
            self.documents + other.documents, self.chunks + other.chunks, (self.hashes + other.hashes) % _MODULUS
        )

    @property
    def digest(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.hashes:032x}"


NOTHING = Sum()


@dataclass(frozen=True, slots=True)
class Difference:
    """A range of one partition where two indices differ: documents whose id's SHA-256 begins with these digits; all of
    the partition where there are none."""

    partition: int
    digits: str
    here: Sum
    there: Sum


@dataclass(slots=True)
class Tree:
    """The leaves of one index, by partition and range; those that are empty are absent."""

    leaves: dict[tuple[int, str], Sum] = field(default_factory=dict)

    def add(self, document: Document) -> None:
        """Each document once."""
        chunks = sum(chunk is not None for chunk in document.chunks)
        self.leaves[document.place] = self.leaves.get(document.place, NOTHING).plus(Sum(1, chunks, document.hashed()))

    def sum(self, partition: int | None = None, digits: str = "") -> Sum:
        """Of everything, a partition, or a range of it."""
        found = NOTHING
        for (number, leaf), one in self.leaves.items():
            if partition in (None, number) and leaf.startswith(digits):
                found = found.plus(one)
        return found

    @property
    def partitions(self) -> list[int]:
        """That have any document."""
        return sorted({number for number, _ in self.leaves})

    def differences(self, other: "Tree") -> list[Difference]:
        """The smallest ranges that differ, in order; a larger one where each of its parts does."""
        return [
            found
            for partition in sorted({*self.partitions, *other.partitions})
            for found in self._differing(other, partition, "")
        ]

    def _differing(self, other: "Tree", partition: int, digits: str) -> list[Difference]:
        here, there = self.sum(partition, digits), other.sum(partition, digits)
        if here == there:
            return []
        whole = [Difference(partition, digits, here, there)]
        if len(digits) == DIGITS:
            return whole
        parts = [self._differing(other, partition, digits + digit) for digit in "0123456789abcdef"]
        if all(len(part) == 1 and len(part[0].digits) == len(digits) + 1 for part in parts):
            return whole
        return list(chain.from_iterable(parts))

    def to_note(self) -> dict[str, Any]:
        """As JSON: `{partition: {digits: [documents, chunks, digest]}}`."""
        note: dict[str, dict[str, Any]] = {}
        for (number, digits), one in sorted(self.leaves.items()):
            note.setdefault(str(number), {})[digits] = [one.documents, one.chunks, one.digest]
        return note

    @classmethod
    def from_note(cls, note: Mapping[str, Mapping[str, Iterable[Any]]]) -> "Tree":
        """Inverse of `to_note`. Raises ValueError, TypeError or AttributeError for anything else."""
        leaves = {}
        for number, ranges in note.items():
            for digits, told in ranges.items():
                documents, chunks, digest = told
                leaves[int(number), digits] = Sum(int(documents), int(chunks), int(digest, 16))
        return cls(leaves)


def range_of(doc_id: str) -> str:
    """The digits of a document's range."""
    return hashlib.sha256(doc_id.encode(errors="surrogatepass")).hexdigest()[:DIGITS]


@dataclass(frozen=True, slots=True)
class Finding:
    """How a document differs: `what` is one of `only here`, `only there`, `version`, `state`, `chunks`."""

    id: str
    partition: int
    what: str


def findings(here: Iterable[Document], there: Iterable[Document]) -> Iterator[Finding]:
    """Documents of the same ranges that differ, in the order of their ids."""
    ours, theirs = {one.id: one for one in here}, {one.id: one for one in there}
    for name in sorted({*ours, *theirs}):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            known = one or other
            assert known is not None  # noqa: S101 - it is in one of them
            yield Finding(name, known.partition, "only there" if one is None else "only here")
        elif one != other:
            yield Finding(name, one.partition, _differs(one, other))


def _differs(one: Document, other: Document) -> str:
    if (one.partition, one.version) != (other.partition, other.version):
        return "version"
    return "chunks" if one.state == other.state else "state"
