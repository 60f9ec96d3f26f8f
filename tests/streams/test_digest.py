"""Digests of indices: the order means nothing, every difference does, and is found in its range."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.digest import RANGES, Document, Tree, findings, range_of

hashes = st.text("0123456789abcdef", min_size=4, max_size=4)
documents = st.builds(
    Document,
    id=st.text(min_size=1, max_size=8),
    partition=st.integers(0, 3),
    version=st.integers(1, 2**48),
    state=st.sampled_from(["done", "rejected", "writing"]),
    chunks=st.lists(st.none() | hashes, max_size=4).map(tuple),
)
indices = st.lists(documents, max_size=30, unique_by=lambda one: one.id)


def tree(rows: list[Document]) -> Tree:
    made = Tree()
    for row in rows:
        made.add(row)
    return made


@given(indices, st.randoms())
def test_the_order_means_nothing_and_a_note_is_the_same(rows: list[Document], rng: random.Random) -> None:
    shuffled = rows.copy()
    rng.shuffle(shuffled)
    one, other = tree(rows), tree(shuffled)
    assert one.sum() == other.sum()
    assert one.differences(other) == []
    assert Tree.from_note(json.loads(json.dumps(one.to_note()))) == one
    assert one.sum().documents == len(rows)
    assert one.sum().chunks == sum(chunk is not None for row in rows for chunk in row.chunks)


@given(indices, documents, st.data())
def test_whatever_differs_is_seen_and_found(rows: list[Document], new: Document, data: st.DataObject) -> None:
    changed = [row for row in rows if row.id != new.id] + [new]
    lost = data.draw(st.none() | st.sampled_from(changed))
    changed = [row for row in changed if row is not lost]
    one, other = tree(rows), tree(changed)
    same = sorted(rows, key=lambda row: row.id) == sorted(changed, key=lambda row: row.id)
    assert (one.sum() == other.sum()) == same
    differences = one.differences(other)
    found = list(findings(rows, changed))
    assert bool(differences) == bool(found) == (not same)
    places = {row.place for row in {*rows, *changed} if row not in rows or row not in changed}
    located = [(one.partition, one.digits) for one in differences]
    assert all(any(number == p and digits.startswith(d) for p, d in located) for number, digits in places)
    assert all(any(number == p and digits.startswith(d) for number, digits in places) for p, d in located)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"version": 8}, "version"),
        ({"partition": 1}, "version"),
        ({"state": "writing"}, "state"),
        ({"chunks": ("x", None)}, "chunks"),
        ({"chunks": ("x",)}, "chunks"),
    ],
)
def test_it_is_said_how_a_document_differs(change: dict[str, object], what: str) -> None:
    one = Document("a", 0, 7, "done", ("x", "y"))
    (found,) = findings([one], [replace(one, **change)])  # type: ignore[arg-type]
    assert (found.id, found.what) == ("a", what)


def test_neighbours_are_not_run_together() -> None:
    """Lengths are hashed, too."""
    assert Document("a", 0, 1, "done", ("b", "c")).hashed() != Document("a", 0, 1, "done", ("bc",)).hashed()
    assert Document("a", 0, 1, "done", ("-",)).hashed() == Document("a", 0, 1, "done", (None,)).hashed()


def test_a_partition_that_differs_everywhere_is_one_difference() -> None:
    rows, number = list[Document](), 0
    while len({row.place for row in rows}) < RANGES:
        rows.append(Document(f"doc-{number}", 2, 7, "done"))
        number += 1
    (found,) = tree(rows).differences(Tree())
    assert (found.partition, found.digits, found.here.documents, found.there.documents) == (2, "", number, 0)
    lost = rows[5]
    (found,) = tree(rows).differences(tree([row for row in rows if row is not lost]))
    assert (found.digits, found.here.documents - found.there.documents) == (range_of(lost.id), 1)
