"""What a threshold of length costs and what it does to ranking, of documents that two models have both embedded. Pure.

    length of each document ─► cuts: the short ones, or the long ones, go to the fast model
    each cut ─► tokens, seconds, money ─► cost
             ─► each model ranks the documents of its own field ─► fused by rank (`streams.fuse`) ─► nDCG@10
             ─► the first chunks of the fast one's field ranked again by the robust one ───────────► nDCG@10
    all of them ─► the frontier: what no other one beats in both ─► the cheapest that is sure to lose little enough

The models alone are the two ends. A difference to the robust model is taken question by question, so that its interval
is not that of the questions' own difficulty.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streams.fuse import fused
from streams.relevance import AT, Estimate, estimate, gains_of, ndcg

LEAST_SAVED = 0.05
"""Part of the cost that a threshold saves, below which a second model is not worth its keep."""
LEAST_QUESTIONS = 30
"""Below it the bootstrap's intervals are far too narrow: that of a single question has no width."""
STEPS = tuple(percent / 100 for percent in (1, 2, 3, *range(5, 96, 5), 97, 98, 99))
"""Of the documents that a cut gives to the fast model."""

Kind = Literal["robust", "fast", "short", "long"]
Gains = Mapping[int, float]
"""Of documents, by their place in the sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model on the sample. `tokens`, `seconds` (of a lane), `money` (0 without a price): (documents,). `scores`:
    cosine of a question to the nearest chunk, float32 (questions, documents)."""

    tokens: NDArray[np.float64]
    seconds: NDArray[np.float64]
    money: NDArray[np.float64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescoring:
    """A search that ranks the `most` chunks which the fast model finds first by the robust model's vectors of them.

    `owners`: the document of each chunk, by its place in the sample. `fast`, `robust`: cosine of a question to each of
    the fast model's chunks, by either model, float32 (questions, chunks)."""

    most: int
    owners: NDArray[np.int64]
    fast: NDArray[np.float32]
    robust: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`chars`: length of each document, (documents,). `rescoring`: None, a search does not."""

    chars: NDArray[np.int64]
    robust: Measured
    fast: Measured
    rescoring: Rescoring | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Which documents the fast model takes: none (`robust`), all (`fast`), those of at most (`short`) or at least
    (`long`) so many characters."""

    kind: Kind
    chars: int = 0

    def takes(self, chars: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each document goes to the fast model."""
        match self.kind:
            case "short":
                return chars <= self.chars
            case "long":
                return chars >= self.chars
        return np.full(len(chars), self.kind == "fast")

    @property
    def condition(self) -> str | None:
        """Of the route, in the settings; None for a model alone."""
        name = {"short": "max_chars", "long": "min_chars"}.get(self.kind)
        return f"{name} = {self.chars}" if name else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """`quality`: nDCG@10. `change`: of it, to the robust model alone, in relation to that (-0.01: one percent is
    lost)."""

    quality: Estimate
    change: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A cut. `share`: of the documents, to the fast model. `tokens`, `seconds`: of each model. `money`: of both.
    `cost`: in relation to the robust model alone; of money where there are prices, else of seconds.

    `plain`: as a search ranks them by itself; `rescored`: one that rescores, where that was tried. `best`: no other one
    costs as little and ranks as well by itself.
    """

    cut: Cut
    share: float
    tokens: tuple[int, int]
    seconds: tuple[float, float]
    money: float
    cost: float
    plain: Ranking
    rescored: Ranking | None = None
    best: bool = False


def cuts(chars: NDArray[np.int64]) -> list[Cut]:
    """The two models alone, and thresholds at quantiles of the lengths, each only once."""
    found = [Cut(kind="robust"), Cut(kind="fast")]
    ordered = np.sort(chars)
    least, greatest = (int(ordered[0]), int(ordered[-1])) if len(ordered) else (0, 0)
    for step in STEPS:
        place = round(step * len(ordered))
        if 0 < place < len(ordered):
            found.append(Cut(kind="short", chars=int(ordered[place - 1])))
            found.append(Cut(kind="long", chars=int(ordered[-place])))
    useful = (
        cut
        for cut in found
        if not (cut.kind == "short" and cut.chars == greatest) and not (cut.kind == "long" and cut.chars == least)
    )
    return list(dict.fromkeys(useful))


def agreed(robust: NDArray[np.float32]) -> list[Gains]:
    """What answers each question where nobody judged it: the robust model's own first 10."""
    return [gains_of(row.tolist()) for row in nearest(robust)]


def nearest(scores: NDArray[np.float32], most: int = AT) -> NDArray[np.int64]:
    """Places of the so many greatest of each row, the greatest first; of all, where there are fewer."""
    count = min(most, scores.shape[1])
    if not count:
        return np.empty((len(scores), 0), dtype=np.int64)
    some = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def rankings(sample: Sample, takes: NDArray[np.bool_]) -> list[list[int]]:
    """The first 10 documents of each question, as a search finds them: each field's best, fused by rank."""
    fields = (np.flatnonzero(~takes), sample.robust.scores), (np.flatnonzero(takes), sample.fast.scores)
    found = [own[nearest(scores[:, own])].tolist() for own, scores in fields]
    sizes = [len(own) for own, _ in fields]
    return [[place for place, _ in fused(rows, sizes)][:AT] for rows in zip(*found, strict=True)]


def rankings_rescored(sample: Sample, rescoring: Rescoring, takes: NDArray[np.bool_]) -> list[list[int]]:
    """The same of a search that rescores: all by the robust model's scores."""
    own, columns = np.flatnonzero(~takes), np.flatnonzero(takes[rescoring.owners])
    documents = own[nearest(sample.robust.scores[:, own])]
    chunks = columns[nearest(rescoring.fast[:, columns], rescoring.most)]
    return [
        _merged(
            {place: float(robust[place]) for place in near.tolist()},
            zip(rescoring.owners[found].tolist(), again[found].tolist(), strict=True),
        )
        for robust, near, again, found in zip(sample.robust.scores, documents, rescoring.robust, chunks, strict=True)
    ]


def _merged(scores: dict[int, float], rescored: Iterable[tuple[int, float]]) -> list[int]:
    for document, score in rescored:
        scores[document] = max(score, scores.get(document, score))
    return sorted(scores, key=lambda document: -scores[document])[:AT]


def plan(sample: Sample, gains: Sequence[Gains]) -> list[Point]:
    """Every cut, cheapest first, the frontier marked. At least one document and one question.

    `gains`: of each question, in the order of the scores.
    """
    return marked(list(points(sample, gains)))


def points(sample: Sample, gains: Sequence[Gains]) -> Iterator[Point]:
    """The same one after the other, as `cuts` has them, nothing marked. Each takes some 60 ns a question and chunk."""
    whole, chosen = _cost(sample, Cut(kind="robust")), cuts(sample.chars)
    base = _values(rankings(sample, Cut(kind="robust").takes(sample.chars)), gains)
    return (_point(sample, cut, gains, base, whole) for cut in chosen)


def _values(found: Sequence[Sequence[int]], gains: Sequence[Gains]) -> NDArray[np.float64]:
    return np.array([ndcg(ranking, judged) for ranking, judged in zip(found, gains, strict=True)])


def _ranking(values: NDArray[np.float64], base: NDArray[np.float64]) -> Ranking:
    change = (values - base) / base.mean() if base.any() else values
    return Ranking(quality=estimate(values), change=estimate(change))


def _sums(sample: Sample, cut: Cut) -> tuple[tuple[float, float], tuple[float, float]]:
    """Tokens and seconds of each model."""
    takes = cut.takes(sample.chars)
    tokens = float(sample.robust.tokens[~takes].sum()), float(sample.fast.tokens[takes].sum())
    return tokens, (float(sample.robust.seconds[~takes].sum()), float(sample.fast.seconds[takes].sum()))


def _money(sample: Sample, cut: Cut) -> float:
    takes = cut.takes(sample.chars)
    return float(sample.robust.money[~takes].sum() + sample.fast.money[takes].sum())


def _cost(sample: Sample, cut: Cut) -> float:
    priced = sample.robust.money.any() or sample.fast.money.any()
    return _money(sample, cut) if priced else sum(_sums(sample, cut)[1])


def _point(sample: Sample, cut: Cut, gains: Sequence[Gains], base: NDArray[np.float64], whole: float) -> Point:
    takes = cut.takes(sample.chars)
    tokens, seconds = _sums(sample, cut)
    again = sample.rescoring
    return Point(
        cut=cut,
        share=float(takes.mean()),
        tokens=(round(tokens[0]), round(tokens[1])),
        seconds=seconds,
        money=_money(sample, cut),
        cost=_cost(sample, cut) / whole if whole else 1.0,
        plain=_ranking(_values(rankings(sample, takes), gains), base),
        rescored=_ranking(_values(rankings_rescored(sample, again, takes), gains), base) if again else None,
    )


def marked(points: Sequence[Point]) -> list[Point]:
    """Cheapest first, the frontier marked."""
    made, reached = list[Point](), -1.0
    for point in sorted(points, key=lambda point: (point.cost, -point.plain.quality.mean)):
        best = point.plain.quality.mean > reached
        made.append(replace(point, best=best))
        reached = max(reached, point.plain.quality.mean)
    return made


def recommended(points: Sequence[Point], most_lost: float, *, questions: int, rescored: bool = False) -> Point:
    """The cheapest that loses no more than this part of the robust model's quality: that model itself, if need be, or
    where hardly anything would be saved, or so few questions tell too little.

    The lower end of the interval decides: the best of many thresholds is good by chance, too. `rescored`: for a search
    that rescores, where that was tried.
    """

    def ranked(point: Point) -> Ranking:
        return point.rescored if rescored and point.rescored else point.plain

    cheap = [point for point in points if point.cost <= 1 - LEAST_SAVED and ranked(point).change.low >= -most_lost]
    if not cheap or questions < LEAST_QUESTIONS:
        return next(point for point in points if point.cut.kind == "robust")
    return min(cheap, key=lambda point: (point.cost, -ranked(point).quality.mean))
