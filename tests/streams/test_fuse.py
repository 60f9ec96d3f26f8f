"""Several rankings become one: nothing is lost, nothing changes places within one, and each part has its share."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.fuse import fused, summed

Item = tuple[int, int]
rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), max_size=4)


@st.composite
def parts(draw: st.DrawFn) -> tuple[list[list[Item]], list[int]]:
    """Rankings of different documents, and how many each is the best of."""
    sizes = draw(st.lists(st.integers(0, 200), max_size=4))
    lengths = [draw(st.integers(0, min(size, 40))) for size in sizes]
    return [[(part, rank) for rank in range(length)] for part, length in enumerate(lengths)], sizes


@given(parts())
def test_nothing_is_lost_and_each_ranking_keeps_its_order(made: tuple[list[list[Item]], list[int]]) -> None:
    found = [item for item, _ in fused(*made)]
    assert sorted(found) == sorted(item for ranking in made[0] for item in ranking)
    for part, ranking in enumerate(made[0]):
        assert [item for item in found if item[0] == part] == ranking


@given(parts())
def test_scores_fall_and_are_parts_of_one(made: tuple[list[list[Item]], list[int]]) -> None:
    scores = [score for _, score in fused(*made)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 50))
def test_of_each_beginning_a_part_has_its_share(first: int, second: int, k: int) -> None:
    made = [[(part, rank) for rank in range(size)] for part, size in enumerate((first, second))]
    found = Counter(part for (part, _), _ in fused(made, (first, second))[:k])
    expected = min(k, first + second) * first / (first + second)
    assert abs(found[0] - expected) <= 1


@given(parts(), st.integers(0, 4))
def test_a_part_without_documents_changes_nothing(made: tuple[list[list[Item]], list[int]], place: int) -> None:
    rankings, sizes = made
    assert fused([*rankings[:place], [], *rankings[place:]], [*sizes[:place], 0, *sizes[place:]]) == fused(*made)


@given(rankings)
def test_summed_has_each_once_and_keeps_what_all_agree_on(made: list[list[int]]) -> None:
    found = summed(made)
    assert len(found) == len(set(found))
    assert set(found) == {item for ranking in made for item in ranking}
    for better, worse in pairwise(found):
        assert not all(
            worse in ranking and (better not in ranking or ranking.index(worse) < ranking.index(better))
            for ranking in made
        )


@given(st.lists(st.integers(), unique=True), st.integers(1, 4))
def test_one_ranking_or_the_same_again_is_itself(ranking: list[int], times: int) -> None:
    assert summed([ranking] * times) == ranking
    assert [item for item, _ in fused([ranking], [len(ranking)])] == ranking


def test_high_in_both_beats_first_in_one() -> None:
    assert summed([["a", "both"], ["b", "both"]])[0] == "both"
