"""Several rankings made one, by ranks alone: scores of two models, or of words and vectors, do not compare. Pure.

`fused`, for parts: each model ranks its own part of the documents, and no document is in two of them. Were the parts
cut at random, a list of the best would have from each as many as it has of all documents: so a rank counts in relation
to the size of its part. Of 9,000 and 1,000 documents the ninth of the one stands beside the first of the other.

`summed`, for rankings of the same documents, by words and by vectors, say: what is high in both is better than what is
high in one. Reciprocal rank fusion, Cormack, Clarke and Büttcher (2009).
"""

from collections.abc import Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

DAMPING = 60
"""Of reciprocal rank fusion, as its authors have it."""


def fused(rankings: Sequence[Sequence[T]], sizes: Sequence[int]) -> list[tuple[T, float]]:
    """All of them, best first, each with its score: the part of its documents that stands behind it, 0 to 1.

    `rankings`: best first, of documents or of their chunks. `sizes`: documents of the parts that these are the best of;
    chunks would not do, as a long document has many and is one. Where two are equal the first ranking's comes first.
    """
    placed = [
        ((rank + 0.5) / max(size, len(ranking)), part, found)
        for part, (ranking, size) in enumerate(zip(rankings, sizes, strict=True))
        for rank, found in enumerate(ranking)
    ]
    placed.sort(key=lambda one: one[:2])
    return [(found, 1 - place) for place, _, found in placed]


def summed(rankings: Sequence[Sequence[K]], damping: int = DAMPING) -> list[K]:
    """All that is in any of them, each once, best first; of equals that which an earlier ranking has."""
    scores: dict[K, float] = {}
    for ranking in rankings:
        for place, found in enumerate(dict.fromkeys(ranking), 1):
            scores[found] = scores.get(found, 0.0) + 1 / (damping + place)
    return sorted(scores, key=lambda found: -scores[found])
