"""How vectors are spread, and that each statistic is moved by its own cause, and by none of the others'."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import drift as module
from streams.drift import ENOUGH, HORIZON, KEPT, Moments, Profile, drift, from_note
from streams.plan import Vectors

DIMS = 32
Batch = tuple[Vectors, list[tuple[int, int]]]
RNG = np.random.default_rng(7)
SUBJECTS = RNG.standard_normal((3, DIMS))


def unit(rows: np.ndarray) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def documents(
    count: int, *, subject: int = 0, alone: float = 1.0, apart: float = 0.6, chunks: int = 4, first: int = 0
) -> Iterator[Batch]:
    """Of a subject, `alone` from each other by so much, and their chunks `apart` by so much."""
    for number in range(count):
        own = SUBJECTS[subject] * 0.5 + alone * RNG.standard_normal(DIMS)
        rows = unit(own + apart * RNG.standard_normal((chunks, DIMS)))
        yield rows, [(first + number, chunk) for chunk in range(chunks)]


def profile(batches: Iterator[Batch]) -> Profile:
    moments = Moments()
    for vectors, places in batches:
        moments.add(vectors, places)
    assert moments.all is not None
    return moments.all


BASE = profile(documents(1000))


def test_another_sample_of_the_same_is_no_drift() -> None:
    assert all(abs(value) < 0.05 for value in drift(BASE, profile(documents(1000))).values())


@pytest.mark.parametrize(
    ("moved", "batches"),
    [
        ("centroid", documents(1000, subject=1)),
        ("spread", documents(1000, alone=0.2)),
        ("neighbours", documents(1000, apart=1.5)),
    ],
)
def test_each_cause_moves_its_statistic_most(moved: str, batches: Iterator[Batch]) -> None:
    found = drift(BASE, profile(batches))
    assert abs(found[moved]) > 0.1
    assert found["identical"] == 0


def test_the_same_page_again_and_again_is_seen() -> None:
    page = unit(RNG.standard_normal(DIMS))
    moments = Moments()
    for number, (vectors, places) in enumerate(documents(1000)):
        moments.add(vectors, places)
        if number % 2:  # from page to page its number differs
            other = unit(page + 0.01 * RNG.standard_normal(DIMS))
            moments.add(other[None], [(10_000 + number, 0)])
    assert moments.all is not None
    assert moments.all.identical == pytest.approx(1 / 3, abs=0.01)


def test_a_document_that_is_edited_again_and_again_is_no_twin_of_itself() -> None:
    page, moments = unit(RNG.standard_normal(DIMS)), Moments()
    for vectors, places in documents(300):
        moments.add(vectors, places)
        moments.add(page[None], [(-1, 0)])
    assert moments.all is not None
    assert moments.all.identical == 0


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(0, 2**32))
def test_what_is_seen_does_not_depend_on_how_it_is_cut_into_batches(sizes: list[int], seed: int) -> None:
    """Pairs that a cut divides are not seen, so the chunks of a document stay together here."""
    rng = np.random.default_rng(seed)
    rows, places = list[Vectors](), list[list[tuple[int, int]]]()
    for document, size in enumerate(sizes):
        rows.append(unit(rng.standard_normal((size, DIMS))))
        places.append([(document, chunk) for chunk in range(size)])
    whole, parts = Moments(), Moments()
    whole.add(np.concatenate(rows), [place for part in places for place in part])
    for vectors, part in zip(rows, places, strict=True):
        parts.add(vectors, part)
    one, other = whole._all, parts._all
    assert one.vectors is not None
    assert other.vectors is not None
    assert np.allclose(one.vectors, other.vectors)
    assert (one.pairs, one.sampled, one.twins) == (other.pairs, other.sampled, other.twins)
    assert one.cosines == pytest.approx(other.cosines, abs=1e-3)


def test_chunks_that_do_not_follow_each_other_are_no_neighbours() -> None:
    moments = Moments()
    moments.add(unit(np.ones((4, DIMS))), [(1, 0), (1, 2), (2, 3), (2, 4)])
    assert moments._all.pairs == 1


def test_what_is_no_vector_is_not_counted() -> None:
    moments = Moments()
    moments.add(np.zeros((3, DIMS), dtype=np.float32), [(1, 0), (1, 1), (1, 2)])
    moments.add(np.asarray([[np.nan] * DIMS, [1.0] * DIMS], dtype=np.float32), [(1, 0), (1, 1)])
    moments.add(np.empty((0, DIMS), dtype=np.float32), [])
    assert (moments._all.chunks, moments._all.pairs) == (1, 0)


def test_the_recent_forget_and_all_do_not() -> None:
    moments = Moments()
    for vectors, places in documents(5 * HORIZON // 4):
        moments.add(vectors, places)
    for vectors, places in documents(5 * HORIZON // 4, subject=1, first=10**6):
        moments.add(vectors, places)
    all_of_it, recent = moments.all, moments.recent
    assert all_of_it is not None
    assert recent is not None
    assert drift(recent, profile(documents(1000, subject=1)))["centroid"] < 0.06
    assert drift(all_of_it, BASE)["centroid"] > 0.1
    assert recent.chunks <= HORIZON + 4
    assert moments._kept is not None
    assert len(moments._kept) == len(moments._of) == KEPT
    moments.restart()
    assert (moments.all is None, moments.recent is None) == (True, False)


def test_too_little_says_nothing() -> None:
    moments = Moments()
    for vectors, places in documents(ENOUGH - 1, chunks=1):
        moments.add(vectors, places)
    before = moments.all
    moments.add(*next(documents(1, chunks=1)))
    found = moments.all
    assert before is None
    assert found is not None
    assert found.neighbours is None, "documents of one chunk have none"
    assert "neighbours" not in drift(BASE, found)


def test_a_profile_is_what_was_noted() -> None:
    found = from_note(json.loads(json.dumps(BASE.to_note())), DIMS)
    assert found is not None
    assert all(abs(value) < 0.001 for value in drift(BASE, found).values())
    assert from_note(json.loads(json.dumps(profile(documents(1000, chunks=1)).to_note())), DIMS) is not None


@pytest.mark.parametrize(
    "change",
    [{"centroid": "?"}, {"centroid": "AAAA"}, {"centroid": None}, {"chunks": "many"}, {"neighbours": "x"}],
)
def test_what_is_no_profile_of_these_vectors_is_none(change: dict[str, object]) -> None:
    assert from_note({**BASE.to_note(), **change}, DIMS) is None
    assert from_note({}, DIMS) is None
    assert from_note(BASE.to_note(), DIMS + 1) is None


def test_only_so_many_documents_are_held_against_those_that_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 5)
    moments = Moments()
    alike = unit(np.ones((9, DIMS)))
    for first in range(0, 18, 9):
        moments.add(alike, [(number, 0) for number in range(first, first + 9)])
    assert (moments._all.sampled, moments._all.twins) == (18, 17)
    assert moments._kept is not None
    assert moments._kept.shape == (5, DIMS)
