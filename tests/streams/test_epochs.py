"""Epochs: what is after a cut is newer than all that is before it, on every partition."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.epochs import (
    Cut,
    Epochs,
    epoch_of_version,
    from_contract,
    grown_cut,
    offset_of_version,
    only_to_new_partitions,
    to_contract,
)
from streams.ids import version

OFFSETS = st.dictionaries(st.integers(0, 3), st.integers(0, 20))
EPOCHS = st.lists(OFFSETS, max_size=4).map(
    lambda cuts: Epochs(tuple(Cut(at="2026-01-01", why="test", offsets=offsets) for offsets in cuts))
)


@given(EPOCHS, OFFSETS, st.integers(0, 3), st.integers(0, 30), st.integers(0, 3), st.integers(0, 30))
def test_after_a_cut_everything_is_newer_than_before_it(
    epochs: Epochs, offsets: dict[int, int], left: int, low: int, right: int, high: int
) -> None:
    assume(not epochs.cuts or not epochs.cuts[-1].is_after(offsets))
    cut = epochs.then(Cut(at="", why="", offsets=offsets))
    before, after = low < offsets.get(left, 0), high >= offsets.get(right, 0)
    if before and after:
        assert version(cut.of(left, low), low) < version(cut.of(right, high), high)
    if before:
        assert cut.of(left, low) == epochs.of(left, low)
    if after:
        assert cut.of(right, high) == len(cut.cuts)


@given(OFFSETS.filter(bool), OFFSETS.filter(bool))
def test_a_cut_takes_back_nothing_that_an_earlier_one_divides(first: dict[int, int], second: dict[int, int]) -> None:
    epochs = Epochs().then(Cut(at="", why="", offsets=first))
    back = [partition for partition, offset in first.items() if second.get(partition, 0) < offset]
    if back:
        with pytest.raises(ValueError, match="is before the last one"):
            epochs.then(Cut(at="", why="", offsets=second))
        return
    both = epochs.then(Cut(at="", why="", offsets=second))
    for partition, offset in first.items():
        if offset:
            assert both.of(partition, offset - 1) < both.of(partition, offset)


@given(EPOCHS)
def test_cuts_are_stored_in_the_contract(epochs: Epochs) -> None:
    assert from_contract(to_contract(epochs)) == epochs


@given(st.integers(0, 100), st.integers(0, 10**12))
def test_a_version_tells_its_epoch_and_offset(epoch: int, offset: int) -> None:
    made = version(epoch, offset)
    assert (epoch_of_version(made), offset_of_version(made)) == (epoch, offset)


def test_a_topic_that_was_made_anew_is_newer_whatever_its_offsets() -> None:
    epochs = Epochs().then(Cut(at="", why="grown", offsets={0: 100})).then(Cut(at="", why="anew", offsets={}))
    assert [epochs.of(0, offset) for offset in (0, 50, 100, 500)] == [2, 2, 2, 2]


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6))
def test_a_multiple_of_partitions_moves_keys_to_new_ones_only(before: int, factor: int, key_hash: int) -> None:
    assert only_to_new_partitions(before, before * factor)
    now = key_hash % (before * factor)
    assert now == key_hash % before or now >= before


def test_new_partitions_begin_in_the_new_epoch() -> None:
    assert grown_cut({0: 7, 1: 9, 2: 3}, before=2) == {0: 7, 1: 9, 2: 0}


@pytest.mark.parametrize(
    ("cuts", "newest", "end", "beyond"),
    [
        ((), 0, 0, False),
        ((), version(0, 14), 15, False),
        ((), version(0, 15), 15, True),
        (({0: 100},), version(0, 99), 100, False),
        (({0: 100},), version(1, 100), 100, True),
        (({0: 100},), 0, 15, True),  # a cut at offsets that the log does not have
        (({0: 100}, {}), version(1, 500), 15, False),  # of the log before
        (({0: 100}, {}), version(2, 20), 15, True),
    ],
)
def test_what_is_known_of_a_log_may_not_be_beyond_its_end(
    cuts: tuple[dict[int, int], ...], newest: int, end: int, beyond: bool
) -> None:
    epochs = Epochs(tuple(Cut(at="", why="", offsets=offsets) for offsets in cuts))
    assert epochs.beyond({0: newest}, {0: end}) == ({0: end} if beyond else {})
