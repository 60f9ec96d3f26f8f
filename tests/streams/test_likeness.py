"""Signatures agree as far as documents do, and clusters have who is alike, all of them and nobody else."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.labelled import jaccard, pair, words
from streams.likeness import BLOCK, PLACES, clusters, read, signature_of, signatures_of, similarity

PAIRS = 10_000


def signed(text: str) -> "np.ndarray[tuple[int], np.dtype[np.uint16]]":
    signature = signature_of([text])
    assert signature is not None
    return read(signature)


def test_of_10_000_pairs_the_alike_are_found_and_no_others() -> None:
    """Recall at a similarity of 0.8, and what is found below 0.6, among all of them at once."""
    chosen = random.Random(20)
    texts, alike, unlike = list[str](), set[int](), set[int]()
    for number in range(PAIRS):
        first, second = pair(chosen, 0.8 if number % 2 else chosen.uniform(0.1, 0.6))
        texts += [first, second]
        exact = jaccard(first, second)
        if exact >= 0.8:
            alike.add(number)
        elif exact < 0.6:
            unlike.add(number)
    assert min(len(alike), len(unlike)) > PAIRS / 5
    found = clusters(np.stack([signed(text) for text in texts]), 0.8)
    assert all(len(one.members) == 2 and one.members[0] // 2 == one.members[1] // 2 for one in found)
    pairs = {one.members[0] // 2 for one in found}
    recall, wrong = len(pairs & alike) / len(alike), len(pairs & unlike) / len(unlike)
    assert recall >= 0.92
    assert wrong <= 0.01


@pytest.mark.parametrize("aim", [0.3, 0.5, 0.8, 0.95])
def test_the_estimate_is_right_on_average(aim: float) -> None:
    chosen = random.Random(int(100 * aim))
    pairs = [pair(chosen, aim) for _ in range(200)]
    errors = [similarity(signed(first), signed(second)) - jaccard(first, second) for first, second in pairs]
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.05


def test_case_and_white_space_do_not_count_and_words_do() -> None:
    text = " ".join(words(random.Random(1), 80))
    assert signature_of([text]) == signature_of([text.upper().replace(" ", "\n\n\t")])
    assert signature_of([text]) != signature_of([text + " and more"])


def test_chunks_are_one_document() -> None:
    first, second = "The weir holds the water up. " * 3, "The penstock leads it to the turbine. " * 3
    assert signature_of([first, second]) == signature_of([first + second])
    assert similarity(signed(first + second), signed(second + first)) > 0.8


def test_what_is_too_short_has_no_signature() -> None:
    assert signature_of([]) is None
    assert signature_of(["", "ok", " \n "]) is None
    assert signature_of(["1234567"]) is None
    assert signature_of(["12345678"]) is not None


def test_a_long_text_is_read_in_blocks() -> None:
    chosen = random.Random(3)
    text = " ".join(words(chosen, BLOCK // 3))
    assert len(text) > 2 * BLOCK
    assert similarity(signed(text), signed(text[:-100])) > 0.97
    assert similarity(signed(text), signed(" ".join(words(chosen, BLOCK // 3)))) < 0.1


def test_documents_together_have_the_signatures_that_each_has_alone() -> None:
    words = [f"the {number} gates of the weir hold the water up" for number in range(4000)]
    odd = [[], ["short"], words[:3], ["\n".join(words)], [words[0], "é" * BLOCK, "x"]]
    documents = [*odd, *([word] for word in words)]
    together = signatures_of(documents)
    assert together == [signature_of(texts) for texts in documents]
    assert together[:2] == [None, None]
    assert len(set(together)) > 3900


def test_a_signature_is_what_it_was() -> None:
    """It is in the index: another one means nothing there."""
    signature = signature_of(["A weir holds the water up."]) or ""
    assert (len(signature), signature[:24]) == (344, "CccOCgaF+7//XGF6nFAg24H1")


@given(st.text(max_size=300))
def test_any_text_is_like_itself(text: str) -> None:
    signature = signature_of([text])
    assert signature == signature_of([text])
    if signature is not None:
        assert read(signature).shape == (PLACES,)
        assert similarity(read(signature), read(signature)) == 1


def test_a_hundred_copies_are_one_cluster_and_the_largest_comes_first() -> None:
    chosen = random.Random(5)
    copied, twin, alone = (" ".join(words(chosen, 60)) for _ in range(3))
    rows = [signed(text) for text in (*[copied] * 100, twin, alone, twin)]
    first, second = clusters(np.stack(rows), 0.8)
    assert (first.members, first.similarity) == (tuple(range(100)), 1.0)
    assert second.members == (100, 102)
    assert clusters(np.stack(rows[-2:]), 0.8) == []
