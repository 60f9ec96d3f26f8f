"""What a run of any source does: with a source and transactions in memory, edits and kills at random."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sources import Failure, Listed, Outgoing, PassedOver
from agents.sources.publish import Change, Passed
from agents.sources.run import Deletes, Ingestion, Options, Summary
from agents.sources.state import Row, State, hash_of
from streams.errors import RefusedError

Objects = dict[str, dict[str, str]]
"""Documents and their texts, by object."""


class KilledError(Exception):
    """The process, here."""


class MemorySource:
    """`Source` of these objects; those that are `unlistable` cannot be listed, `bad` documents cannot be read."""

    name = "memory:/"

    def __init__(self, objects: Objects, bad: Sequence[str] = (), unlistable: Sequence[str] = ()) -> None:
        self.objects = objects
        self.bad = bad
        self.unlistable = unlistable
        self.fetched: list[str] = []

    async def listing(self) -> AsyncIterator[Listed | Failure | PassedOver]:
        """In any order; here in that of the names."""
        for name, documents in sorted(self.objects.items()):
            if name in self.unlistable:
                yield Failure(origin=name, reason="unlistable")
            else:
                yield Listed(id=name, tag=hash_of(repr(documents).encode()))

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure]:
        """Every document."""
        self.fetched.append(listed.id)
        for doc, text in self.objects[listed.id].items():
            if doc in self.bad:
                yield Failure(origin=doc, reason="bad")
            else:
                yield Outgoing(key=doc.encode(), value=text.encode(), origin=doc)

    async def close(self) -> None:
        """Nothing."""


class MemoryTransactions:
    """`Transactions` of a log in memory, which ends the process after so many."""

    def __init__(self, state: State, many: int, left: int = -1, *, after: bool = False) -> None:
        self.many = many
        self.log: list[tuple[str, str | None]] = []
        self.rows: list[Row] = []
        self._state = state
        self._left = left
        self._after = after

    async def publish(self, changes: Sequence[Change | Passed], rows: Sequence[Row]) -> None:
        """All at once; or killed before, or after."""
        assert changes or rows
        assert len(changes) <= self.many
        self._left -= 1
        if self._left == 0 and not self._after:
            raise KilledError
        made = (change.row(self._state, 0, len(self.log) + n) for n, change in enumerate(changes))
        written = [row for row in made if row] + list(rows)
        for change in changes:
            value = change.outgoing.value
            self.log.append((change.outgoing.key.decode(), None if value is None else value.decode()))
        self.rows += written
        if self._left == 0:
            raise KilledError
        self._state.take(written)


class Topic:
    """What stays between runs: the log, and the rows of the state."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str | None]] = []
        self.rows: list[Row] = []

    def ingest(
        self, source: MemorySource, options: Options, *, many: int = 3, left: int = -1, after: bool = False
    ) -> Summary:
        """One run. Raises KilledError, with what was committed before kept."""
        summary = Summary()
        with State("log") as state:
            state.take(self.rows)
            to = MemoryTransactions(state, many, left, after=after)
            try:
                asyncio.run(Ingestion(source, state, options, summary, lambda *_: None, 0).publish_all(to))
            finally:
                self.log += to.log
                self.rows += to.rows
        return summary

    @property
    def documents(self) -> dict[str, str]:
        """What a worker indexes."""
        last = dict(self.log)
        return {doc: text for doc, text in last.items() if text is not None}

    @property
    def owners(self) -> dict[str, str]:
        """Objects of the documents."""
        with State("log") as state:
            state.take(self.rows)
            found = {doc: state.published(doc) for doc in self.documents}
        return {doc: published.object for doc, published in found.items() if published}


ANY = Options(sync=True, max_deletes=Deletes(share=1.0))
objects = st.dictionaries(
    st.sampled_from("ABCD"),
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["x", "y"]), max_size=4),
    max_size=4,
)
kills = st.tuples(st.integers(1, 4), st.booleans())


def apart(objects: Objects) -> bool:
    """Whether no document is in two objects."""
    docs = [doc for documents in objects.values() for doc in documents]
    return len(docs) == len(set(docs))


@given(
    st.lists(st.tuples(objects.filter(apart), st.lists(kills, max_size=3)), min_size=1, max_size=4), st.integers(1, 3)
)
def test_after_any_edits_and_kills_all_that_is_there_was_published_once(
    steps: list[tuple[Objects, list[tuple[int, bool]]]], many: int
) -> None:
    topic = Topic()
    for there, killed in steps:
        before, begun = topic.documents, len(topic.log)
        for left, after in killed:
            try:
                topic.ingest(MemorySource(there), ANY, many=many, left=left, after=after)
            except KilledError:
                continue
        topic.ingest(MemorySource(there), ANY, many=many)
        wanted = {doc: text for documents in there.values() for doc, text in documents.items()}
        assert topic.documents == wanted
        new = topic.log[begun:]
        assert len(new) == len(set(new)), "repeated"
        assert {doc for doc, _ in new} == {
            doc for doc in before.keys() | wanted.keys() if before.get(doc) != wanted.get(doc)
        }
        again = MemorySource(there)
        topic.ingest(again, ANY)
        assert (again.fetched, len(topic.log)) == ([], begun + len(new))


@given(
    st.lists(
        st.tuples(objects, st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("ABCD"))), min_size=2, max_size=4
    )
)
def test_what_fails_deletes_nothing_and_says_so(steps: list[tuple[Objects, set[str], set[str]]]) -> None:
    """Documents that cannot be read, objects that cannot be listed, documents in two objects: nothing goes by them."""
    topic = Topic()
    for there, bad, unlistable in steps:
        before, owners = topic.documents, topic.owners
        summary = topic.ingest(MemorySource(there, sorted(bad), sorted(unlistable)), ANY)
        still = {doc for doc, owner in owners.items() if doc in there.get(owner, {})}
        assert still <= topic.documents.keys()
        if unlistable & there.keys():
            assert before.keys() <= topic.documents.keys()
        for doc, text in topic.documents.items():
            assert before.get(doc) == text or any(documents.get(doc) == text for documents in there.values())
        unread = [failure for failure in summary.failures if failure.reason != "unlistable"]
        assert summary.failed - len(unread) == len(unlistable & there.keys())
        assert topic.ingest(MemorySource(there, sorted(bad)), ANY).failed >= len(unread), "looked at again"


def test_too_many_deletions_are_refused_before_anything_is_published() -> None:
    topic = Topic()
    topic.ingest(MemorySource({name: {name.lower(): "x"} for name in "ABCDEFGHIJKL"}), ANY)
    few = MemorySource({"A": {"a": "y"}})
    with pytest.raises(RefusedError, match="11 of 12 documents of memory:/ are gone .* --max-deletes 11`"):
        topic.ingest(few, Options(sync=True))
    assert len(topic.log) == 12
    with pytest.raises(RefusedError, match="more than --max-deletes allows \\(10\\)"):
        topic.ingest(few, Options(sync=True, max_deletes=Deletes(count=10)))
    assert topic.ingest(few, Options(sync=True, max_deletes=Deletes(count=11))).deleted == 11


def test_what_an_object_has_not_any_more_counts_as_a_deletion() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": dict.fromkeys("abcdef", "x")}), ANY)
    with pytest.raises(RefusedError, match="5 of 6 documents .* 1 documents were published"):
        topic.ingest(MemorySource({"A": {"a": "y"}}), Options(sync=True))
    assert topic.documents.keys() == set("abcdef")
    source = MemorySource({"A": {"a": "y"}})
    assert topic.ingest(source, Options(sync=True, max_deletes=Deletes(count=5))).deleted == 5


def test_a_document_may_move_from_one_object_to_another() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x", "b": "x"}, "B": {"c": "x"}}), ANY)
    summary = topic.ingest(MemorySource({"A": {"b": "x"}, "B": {"c": "x", "a": "x"}}), ANY)
    assert (summary.failed, summary.published, summary.deleted) == (0, 0, 0)
    summary = topic.ingest(MemorySource({"A": {"b": "x", "a": "x"}, "B": {"c": "x"}}), ANY)
    assert (summary.failed, summary.published, summary.deleted) == (0, 0, 0)
    summary = topic.ingest(MemorySource({"A": {"b": "x", "a": "x"}, "B": {"c": "x", "a": "y"}}), ANY)
    assert (summary.failed, summary.failures[0].reason) == (1, "the document a is in A, too: rename one")
