"""Micro-batches: all texts, within the budget, like lengths together."""

from hypothesis import given
from hypothesis import strategies as st

from streams.runs import plan_runs


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(16, 2000))
def test_every_text_once_within_the_budget_longest_first(lengths: list[int], budget: int) -> None:
    batches = plan_runs(lengths, lambda _: budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget
    flat = [lengths[index] for batch in batches for index in batch]
    assert flat == sorted(flat, reverse=True)


def test_equal_lengths_fill_the_budget() -> None:
    assert [len(batch) for batch in plan_runs([10] * 25, lambda _: 100)] == [10, 10, 5]
