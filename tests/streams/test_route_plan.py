"""What a threshold costs and does: its ends are the models themselves, and the frontier is one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.relevance import Estimate
from streams.route_plan import (
    LEAST_SAVED,
    Cut,
    Measured,
    Point,
    Ranking,
    Rescoring,
    Sample,
    agreed,
    cuts,
    marked,
    nearest,
    plan,
    rankings_rescored,
    recommended,
)

lengths = st.lists(st.integers(0, 3000), min_size=1, max_size=40).map(lambda found: np.array(found, dtype=np.int64))


@st.composite
def samples(draw: st.DrawFn, price: int = 0) -> Sample:
    chars = draw(lengths)
    chosen = np.random.default_rng(draw(st.integers(0, 1000)))
    questions = draw(st.integers(1, 5))

    def measured(slower: float) -> Measured:
        tokens = chars.astype(np.float64) / 4 + 2
        return Measured(
            tokens=tokens,
            seconds=tokens * slower,
            scores=chosen.normal(size=(questions, len(chars))).astype(np.float32),
            money=tokens * slower * price,
        )

    robust, fast = measured(0.1), measured(0.001)
    chunks = Rescoring(
        most=draw(st.integers(1, 50)), owners=np.arange(len(chars)), fast=fast.scores, robust=robust.scores
    )
    return Sample(chars=chars, robust=robust, fast=fast, rescoring=draw(st.sampled_from([None, chunks])))


@given(lengths)
def test_a_cut_takes_some_documents_and_leaves_some(chars: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> None:
    found = cuts(chars)
    assert len(set(found)) == len(found)
    for cut in found:
        taken = cut.takes(chars).sum()
        assert taken == {"robust": 0, "fast": len(chars)}.get(cut.kind, taken)
        assert cut.condition is None or 0 < taken < len(chars)
        if cut.kind == "short":
            assert chars[cut.takes(chars)].max() < chars[~cut.takes(chars)].min()
        if cut.kind == "long":
            assert chars[cut.takes(chars)].min() > chars[~cut.takes(chars)].max()


@given(samples())
def test_the_robust_model_agrees_with_itself_and_costs_one(sample: Sample) -> None:
    points = {point.cut: point for point in plan(sample, agreed(sample.robust.scores))}
    robust = points[Cut(kind="robust")]
    assert robust.plain.quality.mean == pytest.approx(1)
    assert (robust.cost, robust.share, robust.plain.change.mean) == (1.0, 0.0, 0.0)
    assert points[Cut(kind="fast")].cost == pytest.approx(0.01)
    assert all(0 <= point.plain.quality.mean <= 1 + 1e-9 for point in points.values())


@given(samples(price=10), st.floats(0, 1))
def test_nothing_beats_the_frontier_and_what_is_recommended_is_on_it(sample: Sample, most: float) -> None:
    points = plan(sample, agreed(sample.robust.scores))
    best = [point for point in points if point.best]
    for point in points:
        beaten = any(
            other.cost <= point.cost and other.plain.quality.mean > point.plain.quality.mean for other in points
        )
        assert not (point.best and beaten)
        assert any(other.cost <= point.cost and other.plain.quality.mean >= point.plain.quality.mean for other in best)
    found = recommended(points, most, questions=30)
    assert found.plain.change.low >= -most or found.cut.kind == "robust"
    saving = [point for point in points if point.cost <= 1 - LEAST_SAVED]
    assert not any(point.cost < found.cost and point.plain.change.low >= -most for point in saving)
    assert found in saving or found.cut.kind == "robust"


@given(samples())
def test_where_all_is_rescored_the_robust_model_s_ranking_is_found(sample: Sample) -> None:
    for point in plan(sample, agreed(sample.robust.scores)):
        assert (point.rescored is None) == (sample.rescoring is None)
        if sample.rescoring and sample.rescoring.most >= len(sample.chars):
            assert point.rescored is not None
            assert point.rescored.quality.mean == pytest.approx(1)
        if point.rescored and point.cut.kind == "robust":
            assert point.rescored == point.plain


def test_no_more_is_rescored_than_asked_for_and_the_best_chunk_speaks_for_a_document() -> None:
    """Documents 0 and 1 are the robust model's; of the fast one's chunks the third is the best, and is not seen."""
    robust = np.array([[0.5, 0.4, 0.0, 0.0]], dtype=np.float32)
    chunks = Rescoring(
        most=2,
        owners=np.array([2, 2, 3]),
        fast=np.array([[0.9, 0.8, 0.7]], dtype=np.float32),
        robust=np.array([[0.1, 0.45, 0.99]], dtype=np.float32),
    )
    sample = Sample(
        chars=np.array([9, 9, 1, 1]),
        robust=Measured(tokens=np.ones(4), seconds=np.ones(4), money=np.zeros(4), scores=robust),
        fast=Measured(tokens=np.ones(4), seconds=np.ones(4), money=np.zeros(4), scores=robust),
        rescoring=chunks,
    )
    takes = np.array([False, False, True, True])
    assert rankings_rescored(sample, chunks, takes) == [[0, 2, 1]]
    assert rankings_rescored(sample, replace(chunks, most=3), takes) == [[3, 0, 2, 1]]


@given(samples(price=10))
def test_parts_add_up(sample: Sample) -> None:
    for point in plan(sample, agreed(sample.robust.scores)):
        takes = point.cut.takes(sample.chars)
        assert point.tokens[0] == round(sample.robust.tokens[~takes].sum())
        assert point.money == pytest.approx(sum(10 * part for part in point.seconds))


def test_one_model_that_ranks_as_the_other_costs_nothing_in_quality() -> None:
    chosen = np.random.default_rng(1)
    chars = np.arange(100, 200, dtype=np.int64)
    whole = chars.astype(np.float64)
    scores = chosen.normal(size=(20, 100)).astype(np.float32)
    slow, quick = (Measured(tokens=whole, seconds=whole * rate, money=0 * whole, scores=scores) for rate in (1.0, 0.1))
    points = plan(Sample(chars=chars, robust=slow, fast=quick), agreed(scores))
    assert recommended(points, 0.01, questions=100).cut == Cut(kind="fast")


def test_of_equal_cost_the_better_one_is_the_frontier() -> None:
    def point(cost: float, mean: float, kind: str = "short") -> Point:
        at = Estimate(mean=mean, low=mean, high=mean)
        loss = Estimate(mean=mean - 1, low=mean - 1, high=mean - 1)
        cut = Cut(kind="robust") if kind == "robust" else Cut(kind="short", chars=int(1000 * cost))
        ranking = Ranking(quality=at, change=loss)
        return Point(cut=cut, share=0, tokens=(0, 0), seconds=(0, 0), money=0, cost=cost, plain=ranking)

    found = marked([point(1, 1, "robust"), point(0.5, 0.9), point(0.5, 0.95), point(0.4, 0.97), point(0.2, 0.1)])
    assert [(one.cost, one.plain.quality.mean) for one in found if one.best] == [(0.2, 0.1), (0.4, 0.97), (1, 1)]
    assert recommended(found, 0.01, questions=100).cut.kind == "robust"
    assert recommended(found, 0.031, questions=30).cost == 0.4
    assert recommended(found, 0.031, questions=29).cut.kind == "robust", "so few tell too little"
    assert recommended([point(1, 1, "robust"), point(0.97, 1)], 0.01, questions=100).cut.kind == "robust", (
        "hardly anything is saved"
    )


def test_nearest_are_the_greatest_in_order() -> None:
    scores = np.random.default_rng(2).normal(size=(3, 50)).astype(np.float32)
    for row, found in zip(scores, nearest(scores), strict=True):
        assert row[found].tolist() == sorted(row, reverse=True)[:10]
    assert nearest(np.empty((2, 0), dtype=np.float32)).shape == (2, 0)
