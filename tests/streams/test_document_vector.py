"""A document's own vector: a mean by tokens, of unit length, or none."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streams.document_vector import document_vector, of_sum

rows = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.float32, (n, 3), elements=st.integers(-8, 8).map(float)),
        st.lists(st.integers(1, 300), min_size=n, max_size=n),
    )
)


@given(rows)
def test_it_is_the_mean_of_all_tokens_vectors(drawn: tuple[np.ndarray, list[int]]) -> None:
    vectors, tokens = drawn
    found = document_vector(vectors, tokens)
    mean = np.repeat(vectors, tokens, axis=0).mean(axis=0, dtype=np.float64)
    if found is None:
        assert np.linalg.norm(mean) < 1e-4
    else:
        assert found.dtype == np.float32
        assert found.shape == (3,)
        assert np.allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


@given(rows, st.integers(1, 7))
def test_summed_in_parts_it_is_the_same(drawn: tuple[np.ndarray, list[int]], size: int) -> None:
    vectors, tokens = drawn
    total, weights = np.zeros(3), np.asarray(tokens, dtype=np.float64)
    for start in range(0, len(tokens), size):
        total += weights[start : start + size] @ vectors[start : start + size].astype(np.float64)
    whole, parts = document_vector(vectors, tokens), of_sum(total, float(weights.sum()))
    if whole is not None and parts is not None:
        assert np.allclose(whole, parts, atol=1e-5)


def test_a_longer_chunk_weighs_more_and_the_order_does_not_matter() -> None:
    vectors = np.eye(2, 4, dtype=np.float32)
    found = document_vector(vectors, [30, 10])
    assert found is not None
    assert np.allclose(found, np.asarray([3, 1, 0, 0]) / 10**0.5, atol=1e-6)
    again = document_vector(vectors[::-1], [10, 30])
    assert again is not None
    assert np.allclose(found, again)


def test_chunks_that_point_away_from_each_other_have_no_mean() -> None:
    assert document_vector(np.asarray([[0.6, 0.8], [-0.6, -0.8]], dtype=np.float32), [7, 7]) is None
