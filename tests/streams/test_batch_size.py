"""The size of a batch follows the model's speed, within its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from streams.batch_size import LEAST, MOST, SECONDS, START, BatchSize


def test_a_batch_takes_some_seconds() -> None:
    size = BatchSize()
    assert size.chunks == START
    for _ in range(20):
        size.observe(size.chunks, size.chunks / 100)
    assert abs(size.chunks - 100 * SECONDS) <= 1
    for _ in range(20):
        size.observe(size.chunks, size.chunks / 10_000)
    assert size.chunks == MOST
    for _ in range(30):
        size.observe(size.chunks, size.chunks / 2)
    assert size.chunks == LEAST


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1000))))
def test_within_bounds_whatever_happens(observed: list[tuple[int, float]]) -> None:
    size = BatchSize()
    for chunks, seconds in observed:
        size.observe(chunks, seconds)
        assert LEAST <= size.chunks <= MOST


def test_a_fixed_size_stays() -> None:
    size = BatchSize(start=3, least=3, most=3)
    size.observe(1000, 0.1)
    assert size.chunks == 3
