"""Documents in groups: all of them, in order, none larger than it must be."""

from itertools import zip_longest

from hypothesis import given
from hypothesis import strategies as st

from agents.operations.groups import CHUNKS, groups


@given(st.lists(st.integers(0, 3000)), st.integers(1, 5) | st.none())
def test_groups_are_bounded_and_leave_nothing_out(sizes: list[int], most: int | None) -> None:
    made = list(groups(sizes, lambda size: size, most=most))
    assert [size for group in made for size in group] == sizes
    for group, following in zip_longest(made, made[1:]):
        assert len(group) == 1 or (sum(group) <= CHUNKS and len(group) <= (most or len(sizes)))
        if following:  # it would not have had room
            assert len(group) == most or sum(group) + following[0] > CHUNKS
