"""Which documents are nearly the same: a MinHash signature of each, and the clusters that signatures make. Pure.

A document is the set of its runs of `WIDTH` bytes, without case and white space. Of two sets the signatures agree at as
many places as the sets have in common (their Jaccard similarity, J), give or take: `PLACES` of them make a standard
error of sqrt(J (1 - J) / PLACES), 0.035 at 0.8. (A. Broder, 1997.) Candidates agree in a whole band: at 0.8 all but
one in a million pairs do, at 0.3 a quarter, which the signatures then tell apart.
"""

from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

Signatures = NDArray[np.uint16]
"""A row each, of `PLACES`."""

WIDTH = 8
PLACES = 128
BANDS = 32
SEED = 1
BLOCK = 64 * 1024
"""Characters at once: eight times as many bytes are in memory for them. Runs over its end are left out."""
GROUP = 32 * 1024
"""Bytes of several documents at once; a document that has more is alone."""
MARGIN = 0.07
"""Below the similarity asked for an estimate still counts: two standard errors at 0.8."""
AT_ONCE = 4096
"""Pairs that are compared together: 2 MB."""
_BLANK = b" \t\n\v\f\r"
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_Digest = NDArray[np.uint32]


def signature_of(texts: Sequence[str]) -> str | None:
    """Of one document, in base64, 16 bits a place; None where there is too little text to compare."""
    return signatures_of([texts])[0]


def signatures_of(documents: Sequence[Sequence[str]]) -> list[str | None]:
    """Of the texts of several documents, as `signature_of`: together they take half of the time."""
    least: list[_Digest | None] = [None] * len(documents)
    for group in _groups(documents):
        for (place, _), digest in zip(group, _digests([data for _, data in group]), strict=True):
            before = least[place]
            least[place] = digest if before is None else np.minimum(before, digest)
    return [None if found is None else b64encode(found.astype("<u2").tobytes()).decode() for found in least]


def _digests(parts: Sequence[bytes]) -> Iterable[_Digest]:
    """Of the runs of each."""
    ends = list(accumulate((len(data) - WIDTH + 1 for data in parts), initial=0))
    runs = np.empty(ends[-1], dtype=np.uint64)
    for data, start, end in zip(parts, ends, ends[1:], strict=False):
        runs[start:end] = np.ndarray((end - start,), "<u8", data, strides=(1,))
    runs *= _SPREAD
    runs ^= runs >> _HALF
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(runs, ends, PLACES, SEED)
    return np.asarray(matrix.to_rows(), dtype=np.uint32)


def _groups(documents: Sequence[Sequence[str]]) -> Iterator[list[tuple[int, bytes]]]:
    """What runs are made of, with its document's place: so much of it that a processor has it at hand."""
    group: list[tuple[int, bytes]] = []
    size = 0
    for place, texts in enumerate(documents):
        for block in _blocks(texts):
            data = block.lower().encode().translate(None, _BLANK)
            if len(data) < WIDTH:
                continue
            if group and size + len(data) > GROUP:
                yield group
                group, size = [], 0
            group.append((place, data))
            size += len(data)
    if group:
        yield group


def _blocks(texts: Sequence[str]) -> Iterator[str]:
    """Short parts of a document are one."""
    if sum(map(len, texts)) <= BLOCK:
        yield "".join(texts)
        return
    for text in texts:
        yield from (text[start : start + BLOCK] for start in range(0, len(text), BLOCK))


def read(signature: str) -> NDArray[np.uint16]:
    """A row of `Signatures`. Raises ValueError for what is none."""
    return np.frombuffer(b64decode(signature, validate=True), "<u2", PLACES)


def similarity(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> float:
    """Estimated share of what two documents have in common, of all that either has."""
    return float((first == second).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Documents that are nearly the same, by row, in their order. `similarity`: of the first to the least like it."""

    members: tuple[int, ...]
    similarity: float


def clusters(signatures: Signatures, least: float) -> list[Cluster]:
    """Groups in which each is at least so similar to another, largest first; what is like nothing is in none.

    Takes the time of sorting all rows `BANDS` times.
    """
    group = list(range(len(signatures)))
    for first, second in _pairs(signatures):
        for at in range(0, len(first), AT_ONCE):
            left, right = first[at : at + AT_ONCE], second[at : at + AT_ONCE]
            alike = (signatures[left] == signatures[right]).mean(axis=1) >= least - MARGIN
            for one, other in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
                roots = sorted((_root(group, one), _root(group, other)))
                group[roots[1]] = roots[0]
    found: dict[int, list[int]] = defaultdict(list)
    for row in range(len(group)):
        found[_root(group, row)].append(row)
    made = [
        Cluster(
            members=tuple(rows), similarity=float((signatures[rows] == signatures[rows[0]]).mean(axis=1).min().item())
        )
        for rows in found.values()
        if len(rows) > 1
    ]
    return sorted(made, key=lambda one: -len(one.members))


def _pairs(signatures: Signatures) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows that agree in a band: of those with equal values there, each with the one before, and with the first."""
    width = PLACES // BANDS
    for band in range(BANDS):
        keys = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width]).view(np.uint64)[:, 0]
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        if not len(same):
            continue
        yield order[same], order[same + 1]
        begins = np.r_[True, np.diff(same) > 1]
        firsts = same[np.maximum.accumulate(np.where(begins, np.arange(len(same)), 0))]
        apart = firsts != same
        yield order[firsts[apart]], order[same[apart] + 1]


def _root(group: list[int], row: int) -> int:
    while group[row] != row:
        group[row] = group[group[row]]
        row = group[row]
    return row
