"""How the vectors that a model makes are spread, and how that moves away from what an index began with. Pure.

    vectors of a batch ─► moments ─┬─► profile of all so far, which becomes the index's baseline
                                   └─► profile of the last some thousand, held against it: the drift

Four statistics, each of which another cause moves:

    centroid     other subjects, languages or inputs than before; or another model
    spread       everything becomes alike, or falls apart: how far two chunks are from each other on average
    neighbours   chunks that follow each other in a document have less, or more, to do with each other: splitting, order
    identical    the same page again and again: a login form, an error, an empty template
"""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.plan import Vectors

STATISTICS = ("centroid", "spread", "neighbours", "identical")
HORIZON = 2000
"""Chunks: what came so long ago counts for 1/e of what comes now."""
ENOUGH = 1000
"""Chunks that a profile needs: sampling moves its statistics by some hundredths then."""
ENOUGH_PAIRS = 100
LOOKED_AT = 64
"""Chunks of a batch at most: a model that makes more of them in a moment has no less to tell by these."""
KEPT = 256
"""Documents, each by one chunk, that those of a batch are held against."""
IDENTICAL = 0.99
"""Cosine of vectors that are called identical: a page that differs in a name or a date."""

Sums = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """Statistics over so many `chunks`.

    `centroid`: mean of the unit vectors, float32 (dims,). `neighbours`: mean cosine of chunk n and n + 1 of a document;
    `identical`: share of documents with a chunk that one of the 256 documents before has, too. None: too few were seen.
    """

    chunks: int
    centroid: Vectors
    neighbours: float | None
    identical: float | None

    @property
    def spread(self) -> float:
        """Mean of 1 - cosine over all pairs of chunks: 0 where all are alike."""
        return float(1 - self.centroid.astype(np.float64) @ self.centroid)

    def to_note(self) -> dict[str, Any]:
        """As stored, in JSON: a thousand bytes for 384 dims."""
        return {
            "chunks": self.chunks,
            "centroid": base64.b64encode(self.centroid.astype("<f2").tobytes()).decode(),
            "neighbours": self.neighbours,
            "identical": self.identical,
        }


def from_note(note: Mapping[str, Any], dims: int) -> Profile | None:
    """Inverse of `to_note`; None where it is not a profile of vectors of this width."""
    try:
        centroid = np.frombuffer(base64.b64decode(note["centroid"], validate=True), "<f2").astype(np.float32)
        found = Profile(
            chunks=int(note["chunks"]),
            centroid=centroid,
            neighbours=_number(note["neighbours"]),
            identical=_number(note["identical"]),
        )
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    return found if centroid.shape == (dims,) and np.isfinite(centroid).all() else None


def drift(baseline: Profile, now: Profile) -> dict[str, float]:
    """By statistic: the distance of the centroids, and the differences of the others, which have signs.

    What one of the two does not tell is left out.
    """
    found = {
        "centroid": float(np.linalg.norm(now.centroid - baseline.centroid)),
        "spread": now.spread - baseline.spread,
    }
    for name in ("neighbours", "identical"):
        before, after = getattr(baseline, name), getattr(now, name)
        if before is not None and after is not None:
            found[name] = after - before
    return found


@dataclass(slots=True)
class _Totals:
    """Sums over chunks, pairs of neighbours and sampled documents, and how many of each; fading or not."""

    chunks: float = 0.0
    vectors: Sums | None = None
    pairs: float = 0.0
    cosines: float = 0.0
    sampled: float = 0.0
    twins: float = 0.0

    def fade(self, factor: float) -> None:
        self.chunks *= factor
        self.vectors = None if self.vectors is None else self.vectors * factor
        self.pairs *= factor
        self.cosines *= factor
        self.sampled *= factor
        self.twins *= factor

    def add(self, rows: Vectors, pairs: int, cosines: float, sampled: int, twins: int) -> None:
        total = rows.sum(axis=0, dtype=np.float64)
        self.chunks += len(rows)
        self.vectors = total if self.vectors is None else self.vectors + total
        self.pairs += pairs
        self.cosines += cosines
        self.sampled += sampled
        self.twins += twins

    def profile(self) -> Profile | None:
        if self.vectors is None or self.chunks < ENOUGH:
            return None
        return Profile(
            chunks=round(self.chunks),
            centroid=np.asarray(self.vectors / self.chunks, dtype=np.float32),
            neighbours=self.cosines / self.pairs if self.pairs >= ENOUGH_PAIRS else None,
            identical=self.twins / self.sampled if self.sampled >= ENOUGH_PAIRS else None,
        )


@dataclass(slots=True)
class Moments:
    """What is remembered of the vectors that were made: sums, and one vector of each of the last documents."""

    _all: _Totals = field(default_factory=_Totals)
    _recent: _Totals = field(default_factory=_Totals)
    _kept: Vectors | None = None
    _of: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Documents of what is kept."""

    @property
    def all(self) -> Profile | None:
        """Of everything since the start; None while that is not enough."""
        return self._all.profile()

    @property
    def recent(self) -> Profile | None:
        """Of the last some thousand chunks; None while there are not enough."""
        return self._recent.profile()

    def restart(self) -> None:
        """From now on `all` is what comes from here."""
        self._all = _Totals()

    def add(self, vectors: Vectors, places: Sequence[tuple[int, int]]) -> None:
        """Of a batch, float32 (chunks, dims); rows that are zero or not finite are left out.

        `places`: document, as any number, and chunk number. A document's chunks stand together, in order.
        """
        lengths = np.linalg.norm(vectors, axis=1)
        made = (lengths > 0) & np.isfinite(lengths)
        if not made.any():
            return
        rows = np.asarray(vectors[made] / lengths[made, None], dtype=np.float32)
        documents, numbers = np.asarray(places, dtype=np.int64)[made].T
        follows = (documents[1:] == documents[:-1]) & (numbers[1:] == numbers[:-1] + 1)
        cosines = float(np.einsum("ij,ij->i", rows[1:], rows[:-1])[follows].sum())
        sampled, twins = self._twins(rows, documents)
        self._recent.fade(math.exp(-len(rows) / HORIZON))
        for totals in (self._all, self._recent):
            totals.add(rows, int(follows.sum()), cosines, sampled, twins)

    def _twins(self, rows: Vectors, documents: NDArray[np.int64]) -> tuple[int, int]:
        """How many documents were looked at, each by the first of these chunks; how many have a twin before them."""
        first = np.flatnonzero(np.append(True, documents[1:] != documents[:-1]))
        new, of = rows[first], documents[first]
        before = new if self._kept is None else np.concatenate([self._kept, new])
        of_before = np.concatenate([self._of, of])
        alike = (new @ before.T >= IDENTICAL) & (of[:, None] != of_before)
        earlier = np.arange(len(before)) < np.arange(len(before) - len(new), len(before))[:, None]
        self._kept, self._of = before[-KEPT:], of_before[-KEPT:]
        return len(first), int((alike & earlier).any(axis=1).sum())


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
