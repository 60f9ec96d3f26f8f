"""nDCG is what others compute, and an interval holds what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.relevance import estimate, gains_of, ndcg

gains = st.dictionaries(st.integers(0, 30), st.floats(0, 5), max_size=15)
ranking = st.lists(st.integers(0, 40), unique=True, max_size=25)


def test_by_hand() -> None:
    """The example of trec_eval's manual: gains 3, 2, 3, 0, 1, 2 in this order, and another 3 that was not found."""
    judged = {"a": 3.0, "b": 2.0, "c": 3.0, "e": 1.0, "f": 2.0, "missed": 3.0}
    found = 3 + 2 / np.log2(3) + 3 / 2 + 1 / np.log2(6) + 2 / np.log2(7)
    best = 3 + 3 / np.log2(3) + 3 / 2 + 2 / np.log2(5) + 2 / np.log2(6) + 1 / np.log2(7)
    assert ndcg(list("abcdef"), judged) == pytest.approx(found / best)


@given(ranking, gains)
def test_within_bounds_and_best_where_the_best_are_first(found: list[int], judged: dict[int, float]) -> None:
    assert 0 <= ndcg(found, judged) <= 1 + 1e-9
    best = sorted(judged, key=lambda document: -judged[document])
    assert ndcg(best, judged) == pytest.approx(1.0 if any(judged.values()) else 0.0)


@given(ranking, gains, st.data())
def test_a_better_document_moved_up_never_lowers_it(
    found: list[int], judged: dict[int, float], data: st.DataObject
) -> None:
    if len(found) < 2:
        return
    place = data.draw(st.integers(1, len(found) - 1))
    moved = [*found[: place - 1], found[place], found[place - 1], *found[place + 1 :]]
    if judged.get(found[place], 0) >= judged.get(found[place - 1], 0):
        assert ndcg(moved, judged) >= ndcg(found, judged) - 1e-12


@given(ranking)
def test_a_ranking_taken_for_right_is_right(found: list[int]) -> None:
    assert ndcg(found, gains_of(found[:10])) == pytest.approx(1.0 if found else 0.0)


def test_an_interval_holds_the_mean_in_95_of_100_samples() -> None:
    chosen = np.random.default_rng(3)
    held = 0
    for number in range(100):
        found = estimate(chosen.normal(0.5, 0.2, 80), seed=number)
        held += found.low <= 0.5 <= found.high
    assert held >= 88


def test_the_same_values_have_the_same_interval() -> None:
    assert estimate([0.1, 0.9, 0.4]) == estimate([0.1, 0.9, 0.4])
    one = estimate([0.25])
    assert (one.mean, one.low, one.high) == (0.25, 0.25, 0.25)
