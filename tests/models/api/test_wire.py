"""The wire format: what is asked, and what is taken for an answer."""

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.api.wire import WrongAnswerError, endpoint, largest_answer, said_in, shown_url, vectors_in
from tests.kit.service import vector_of

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False).map(float)


def answer(*rows: dict[str, Any], **more: Any) -> bytes:
    return orjson.dumps({"object": "list", "data": list(rows), **more})


def encoded(*numbers: float) -> str:
    return base64.b64encode(np.asarray(numbers, dtype="<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("given_url", "posted_to"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/embeddings"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/embeddings"),
        ("http://127.0.0.1:8080/v1/embeddings", "http://127.0.0.1:8080/v1/embeddings"),
        (
            "https://x.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
            "https://x.openai.azure.com/openai/deployments/d/embeddings?api-version=2024-10-21",
        ),
    ],
)
def test_texts_are_posted_to_the_embeddings_of_the_address(given_url: str, posted_to: str) -> None:
    assert endpoint(given_url) == posted_to
    assert endpoint(posted_to) == posted_to
    assert "?" not in shown_url(posted_to)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("api.openai.com/v1", "http:// or https://"),
        ("ftp://x/v1", "http:// or https://"),
        ("https://me:p4ss@x/v1", "service.key_file"),
        ("https://x/v1?api_key=p4ss", "service.key_file"),
        ("https://x/v1#p4ss", "a fragment"),
        ("https://x:99999/v1", "no URL"),
    ],
)
def test_addresses_that_are_none_are_explained_without_what_they_give_away(url: str, part: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        endpoint(url)
    assert (part in str(caught.value), "p4ss" in str(caught.value)) == (True, False)


@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=9), st.randoms(), st.booleans())
def test_whatever_the_order_and_the_encoding_each_text_gets_its_own(
    rows: list[list[float]], random: Any, as_base64: bool
) -> None:
    data = [{"index": place, "embedding": encoded(*row) if as_base64 else row} for place, row in enumerate(rows)]
    random.shuffle(data)
    found = vectors_in(answer(*data, usage={"prompt_tokens": 7}), len(rows), 3)
    assert (found.vectors.shape, found.tokens) == ((len(rows), 3), 7)
    assert found.vectors.dtype == np.float32
    for place, row in enumerate(rows):
        length = np.linalg.norm(np.asarray(row, dtype=np.float64))
        assert (place in found.bad) == (length == 0)
        wanted = np.asarray(row, dtype=np.float64) / length if length else np.zeros(3)
        assert np.allclose(found.vectors[place], wanted, atol=1e-5)


def test_without_any_index_the_order_is_that_of_the_texts() -> None:
    found = vectors_in(answer({"embedding": [1, 0]}, {"embedding": [0, 2]}), 2, 2)
    assert found.vectors.tolist() == [[1, 0], [0, 1]]
    assert found.tokens is None


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"<html>", "no JSON"),
        (b"[]", "no list `data`"),
        (b'{"data": {}}', "no list `data`"),
        (answer({"index": 0, "embedding": [1, 0]}), "1 vectors of 2 texts"),
        (answer(*[{"index": 0, "embedding": [1, 0]}] * 2), "each once"),
        (answer({"index": 0, "embedding": [1, 0]}, {"index": 2, "embedding": [1, 0]}), "each once"),
        (answer({"index": 0, "embedding": [1, 0]}, {"embedding": [1, 0]}), "each once"),
        (answer({"index": False, "embedding": [1, 0]}, {"index": 1, "embedding": [1, 0]}), "each once"),
        (answer({"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": [1, 0, 0]}), "3 dims, and 2"),
        (answer(*({"index": n, "embedding": encoded(1, 2, 3)} for n in range(2))), "3 dims, and 2"),
        (answer({"index": 0, "embedding": "!!"}, {"index": 1, "embedding": "!!"}), "cannot be read"),
        (answer({"index": 0, "embedding": "AAA="}, {"index": 1, "embedding": "AAA="}), "cannot be read"),
        (answer({"index": 0, "embedding": ["a", 1]}, {"index": 1, "embedding": [1, 0]}), "cannot be read"),
        (answer({"index": 0, "embedding": [[1, 0]]}, {"index": 1, "embedding": [1, 0]}), "neither base64 nor"),
        (answer({"index": 0, "embedding": None}, {"index": 1, "embedding": [1, 0]}), "neither base64 nor"),
        (answer({"index": 0}, {"index": 1}), "neither base64 nor"),
        (b'{"data": [1, 2]}', "something else than objects"),
        (b'{"error": {"message": "model is loading"}}', "no list `data`: model is loading"),
        (answer({"index": 0, "embedding": []}, {"index": 1, "embedding": [1, 0]}), "a vector of 0 dim"),
        (answer({"index": 0, "embedding": []}, {"index": 1, "embedding": ""}), "a vector of 0 dim"),
    ],
)
def test_what_is_no_answer_is_named(raw: bytes, part: str) -> None:
    with pytest.raises(WrongAnswerError) as caught:
        vectors_in(raw, 2, 2)
    assert part in str(caught.value)
    assert caught.value.cosine == (-1.0 if "dims" in part else None)


def test_vectors_that_are_zero_or_not_finite_are_told_and_never_given_on() -> None:
    rows = [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], [3.0, 4.0]]
    found = vectors_in(answer(*({"index": n, "embedding": encoded(*row)} for n, row in enumerate(rows))), 4, 2)
    assert found.bad == (0, 1, 2)
    assert np.isfinite(found.vectors).all()
    assert np.allclose(found.vectors[3], [0.6, 0.8])
    nulls = vectors_in(answer({"index": 0, "embedding": [None, 1]}, {"index": 1, "embedding": [0, 1]}), 2, 2)
    assert nulls.bad == (0,)


@given(st.binary(max_size=200), st.integers(0, 400), st.binary(max_size=3))
def test_a_damaged_answer_is_a_wrong_one_or_right(noise: bytes, place: int, instead: bytes) -> None:
    whole = answer(*({"index": n, "embedding": encoded(*vector_of(str(n), 4))} for n in range(3)))
    for raw in (noise, whole[:place], whole[:place] + instead + whole[place + len(instead) :]):
        try:
            found = vectors_in(raw, 3, 4)
        except WrongAnswerError:
            continue
        assert found.vectors.shape == (3, 4)
        assert np.isfinite(found.vectors).all()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"error": {"message": "too long", "type": "x"}}', "too long"),
        (b'{"error": "too long", "error_type": "Validation"}', "too long"),
        (b'{"detail": [{"loc": ["input"], "msg": "too long"}]}', '[{"loc":["input"],"msg":"too long"}]'),
        (b"too\n\x1b[31mlong", "too [31mlong"),
        (b"", ""),
        (b"x" * 1000, "x" * 300),
    ],
)
def test_what_a_service_says_is_told_in_a_line(raw: bytes, said: str) -> None:
    assert said_in(raw) == said


def test_an_answer_of_numbers_is_taken_where_base64_was_asked_for() -> None:
    """Not every service knows `encoding_format`, and says so; as doubles, a number a line."""
    row = "[\n" + ",\n".join(["        -0.012345678918063641"] * 4096) + "]"
    raw = '{"data": [' + ",".join(f'{{"index": {n}, "embedding": {row}}}' for n in range(32)) + "]}"
    assert len(raw) <= largest_answer(32, 4096)
    assert vectors_in(raw.encode(), 32, 4096).vectors.shape == (32, 4096)
