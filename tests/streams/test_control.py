"""A text whose vector is known, in short: near enough for one model, and far enough from another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contract import differences
from streams.control import NO_COSINE, SAME_MODEL, agreement_of, control_of
from tests.kit.service import vector_of


@given(st.text(max_size=20), st.sampled_from([8, 384, 3072]), st.floats(0.001, 1000))
def test_a_byte_a_dimension_is_enough(text: str, dims: int, scale: float) -> None:
    vector = vector_of(text, dims)
    again = control_of(np.asarray(vector * scale, dtype=np.float32))
    assert agreement_of(control_of(vector), again) > 0.999
    assert agreement_of(control_of(vector), control_of(-vector)) < -0.999


def test_other_models_are_far_below_the_bound() -> None:
    one = control_of(vector_of("Hello, world.", 384))
    for model in ("a", "b", "c"):
        assert agreement_of(one, control_of(vector_of("Hello, world.", 384, model))) < SAME_MODEL / 2


@pytest.mark.parametrize("other", ["", "AAAA", "no base64!", control_of(vector_of("x", 16))])
def test_what_cannot_be_compared_is_not_the_same(other: str) -> None:
    assert agreement_of(control_of(vector_of("x", 8)), other) == NO_COSINE


def test_an_exported_model_and_a_services_have_different_contracts_and_no_vector_is_printed() -> None:
    control = control_of(vector_of("x", 384))
    rows = differences({"model": {"dims": 384, "onnx_sha256": "ab"}}, {"model": {"dims": 384, "control": control}})
    assert rows == [
        "model.control: index no service's, worker a service's",
        "model.onnx_sha256: index ab, worker absent",
    ]
