"""What a run of any source does: with a source and transactions in memory, edits and kills at random."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sources import Failure, Listed, Outgoing, PassedOver
from agents.sources.collecting import Deletes, Options, Run, Summary
from agents.sources.naming import require_same, tell_left
from agents.sources.patterns import EXCLUDED
from agents.sources.publish import Change, Passed
from agents.sources.reading import Ids
from agents.sources.run import Ingestion
from agents.sources.state import Row, State, hash_of
from streams.dead_letter import Failed
from streams.errors import PenstockError, RefusedError

Objects = dict[str, dict[str, str]]
"""Documents and their texts, by object."""


PLACE = b'["events", "memory:/", "topic"]'


class KilledError(Exception):
    """The process, here."""


class MemorySource:
    """`Source` of these objects; those that are `unlistable` cannot be listed, `bad` documents cannot be read."""

    name = "memory:/"

    def __init__(
        self, objects: Objects, bad: Sequence[str] = (), unlistable: Sequence[str] = (), excluded: Sequence[str] = ()
    ) -> None:
        self.objects = objects
        self.excluded = excluded
        self.before_fetch: Callable[[], object] = lambda: None
        self.bad = bad
        self.unlistable = unlistable
        self.fetched: list[str] = []
        self.looked_at: list[str] = []

    async def listing(self) -> AsyncIterator[Listed | Failure | PassedOver]:
        """In any order; here in that of the names."""
        for name in sorted(self.objects):
            if self.excludes(name):
                yield EXCLUDED
            elif name in self.unlistable:
                yield Failure(origin=name, reason="unlistable")
            else:
                yield self._listed(name)

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure | Listed]:
        """Every document, as it is when `before_fetch` has run."""
        self.fetched.append(listed.id)
        self.before_fetch()
        yield self._listed(listed.id)
        for doc, text in self.objects[listed.id].items():
            if doc in self.bad:
                yield Failure(origin=doc, reason="bad")
            else:
                yield Outgoing(key=doc.encode(), value=text.encode(), origin=doc)

    def concerns(self, name: str) -> bool:
        """All but what is excluded."""
        return not self.excludes(name)

    async def look(self, name: str) -> Listed | None:
        """As a listing."""
        self.looked_at.append(name)
        if name in self.unlistable:
            raise PenstockError("unlistable")
        return self._listed(name) if name in self.objects else None

    def _listed(self, name: str) -> Listed:
        return Listed(id=name, tag=hash_of(repr(self.objects[name]).encode()))

    def excludes(self, name: str) -> bool:
        """By its name."""
        return name in self.excluded

    async def close(self) -> None:
        """Nothing."""


def run_of(state: State, options: Options, summary: Summary | None = None) -> Run:
    """A run into a topic without a limit, of which nobody is told anything."""
    summary = summary or Summary()
    return Run(state=state, options=options, summary=summary, report=lambda *_: None, limit=0, wait=lambda _: None)


class MemoryTransactions:
    """`Transactions` of a log in memory, which ends the process after so many."""

    def __init__(self, state: State, many: int, left: int = -1, *, after: bool = False) -> None:
        self.many = many
        self.log: list[tuple[str, str | None]] = []
        self.rows: list[Row] = []
        self.letters: list[Failed] = []
        self._state = state
        self._left = left
        self._after = after

    async def publish(
        self, changes: Sequence[Change | Passed], rows: Sequence[Row], failed: Sequence[Failed] = ()
    ) -> None:
        """All at once; or killed before, or after."""
        assert changes or rows or failed
        assert len(changes) <= self.many
        self._left -= 1
        if self._left == 0 and not self._after:
            raise KilledError
        made = (change.row(self._state, 0, len(self.log) + n) for n, change in enumerate(changes))
        written = [row for row in made if row] + list(rows) + [self._state.failures.row(one) for one in failed]
        for change in changes:
            value = change.outgoing.value
            self.log.append((change.outgoing.key.decode(), None if value is None else value.decode()))
        self.rows += written
        self.letters += failed
        if self._left == 0:
            raise KilledError
        self._state.take(written)


class Topic:
    """What stays between runs: the log, and the rows of the state."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str | None]] = []
        self.rows: list[Row] = []
        self.letters: list[Failed] = []

    def ingest(
        self,
        source: MemorySource,
        options: Options,
        *,
        many: int = 3,
        left: int = -1,
        after: bool = False,
        names: Sequence[str] | None = None,
        lately: int = 0,
    ) -> Summary:
        """One run; or of `names` alone, which ends with a row of its own. Raises KilledError, with what was committed
        before kept."""
        summary = Summary()
        with State("log") as state:
            state.take(self.rows)
            to = MemoryTransactions(state, many, left, after=after)
            try:
                require_same(state, source.name, options)
                ingestion = Ingestion(source, run_of(state, options, summary))
                if names is None:
                    asyncio.run(ingestion.publish_all(to))
                    tell_left(state, source.name, options, summary)
                else:
                    row = (PLACE, b"%d" % len(self.rows))
                    asyncio.run(ingestion.publish_some(source, names, to, row, deleted_lately=lately))
            finally:
                self.log += to.log
                self.rows += to.rows
                self.letters += to.letters
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


def test_too_many_deletions_are_refused_and_all_else_goes_on() -> None:
    topic = Topic()
    topic.ingest(MemorySource({name: {name.lower(): "x"} for name in "ABCDEFGHIJKL"}), ANY)
    few = MemorySource({"A": {"a": "y"}})
    summary = topic.ingest(few, Options(sync=True))
    assert re.search("11 of 12 documents of memory:/ are gone .* --max-deletes 11`", str(summary.refused[0]))
    assert topic.log[12:] == [("a", "y")]
    summary = topic.ingest(few, Options(sync=True, max_deletes=Deletes(count=10)))
    assert "more than --max-deletes allows (10)" in str(summary.refused[0])
    assert (summary.deleted, summary.gone, len(topic.log)) == (0, 11, 13)
    assert topic.ingest(few, Options(sync=True, max_deletes=Deletes(count=11))).deleted == 11


def test_deletions_that_would_be_refused_are_told_before() -> None:
    """In a dry run, and with `strict`, which publishes nothing then."""
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x"}, "B": {"b": "x"}, "C": {"c": "x"}}), ANY)
    for options in (Options(sync=True, dry_run=True), Options(sync=True, strict=True)):
        with State("log") as state:
            state.take(topic.rows)
            run = run_of(state, options)
            asyncio.run(Ingestion(MemorySource({"A": {"a": "y"}}), run).try_out())
        assert "2 of 3 documents" in str(run.summary.refused[0])
        assert run.summary.gone == 2


def test_what_an_object_has_not_any_more_counts_as_a_deletion() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": dict.fromkeys("abcdef", "x")}), ANY)
    summary = topic.ingest(MemorySource({"A": {"a": "y"}}), Options(sync=True))
    assert "5 of 6 documents" in str(summary.refused[0])
    assert summary.published == 1
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


@given(st.lists(st.tuples(objects.filter(apart), st.sets(st.sampled_from("ABCD"))), min_size=2, max_size=4))
def test_what_is_excluded_stays_as_it_was(steps: list[tuple[Objects, set[str]]]) -> None:
    """Neither fetched nor deleted, whether it is there or not; what another object has taken over is that one's."""
    topic = Topic()
    for there, excluded in steps:
        before, owners = topic.documents, topic.owners
        source = MemorySource(there, excluded=sorted(excluded))
        topic.ingest(source, ANY)
        assert not excluded & set(source.fetched)
        seen = {doc: text for name, texts in there.items() if name not in excluded for doc, text in texts.items()}
        left = {doc: text for doc, text in before.items() if owners[doc] in excluded and doc not in seen}
        assert topic.documents == seen | left
    everything = Options(sync=True, max_deletes=Deletes(share=1.0), delete_excluded=True)
    topic.ingest(source, everything)
    assert topic.documents == seen


def test_what_is_excluded_is_deleted_when_that_is_asked_for() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x"}, "B": {"b": "x"}}), ANY)
    excluded = MemorySource({"A": {"a": "x"}, "B": {"b": "y"}}, excluded="B")
    summary = topic.ingest(excluded, ANY)
    assert (summary.gone, summary.deleted, summary.unchanged, summary.passed_over) == (0, 0, 1, {"excluded": 1})
    assert topic.ingest(excluded, Options(delete_excluded=True)).gone == 1
    both = Options(sync=True, max_deletes=Deletes(count=1), delete_excluded=True)
    assert topic.ingest(excluded, both).deleted == 1
    assert topic.ingest(MemorySource(excluded.objects), ANY).published == 1


def test_an_object_that_was_replaced_since_it_was_listed_is_remembered_as_it_was_read() -> None:
    topic = Topic()
    source = MemorySource({"A": {"a": "first"}})
    source.before_fetch = lambda: source.objects.update(A={"a": "other"})
    assert topic.ingest(source, ANY).published == 1
    assert topic.documents == {"a": "other"}
    again = MemorySource({"A": {"a": "first"}})
    assert (topic.ingest(again, ANY).published, topic.documents) == (1, {"a": "first"})


WATCHED = Options(sync=True, max_deletes=Deletes(share=1.0), watched=True)


@given(
    st.lists(
        st.tuples(objects.filter(apart), st.lists(st.sampled_from("ABCD"), max_size=6), st.lists(kills, max_size=2)),
        min_size=2,
        max_size=5,
    ),
    st.integers(1, 3),
)
def test_what_notifications_tell_of_is_as_it_is_now(
    steps: list[tuple[Objects, list[str], list[tuple[int, bool]]]], many: int
) -> None:
    """They are about any objects, changed or not, in any order, some of them lost; a run may end anywhere."""
    topic = Topic()
    for there, told, killed in steps:
        before, owners, begun = topic.documents, topic.owners, len(topic.log)
        source = MemorySource(there)
        for left, after in killed:
            try:
                topic.ingest(source, WATCHED, many=many, left=left, after=after, names=told)
            except KilledError:
                continue
        sometimes = set(source.looked_at)
        source.looked_at.clear()
        topic.ingest(source, WATCHED, many=many, names=told)
        looked_at = set(source.looked_at)
        assert set(told) <= looked_at
        now = {doc: (name, text) for name, texts in there.items() for doc, text in texts.items()}
        for doc in topic.documents.keys() | now.keys() | before.keys():
            name, text = now.get(doc, ("", None))
            if name in looked_at or (not name and owners.get(doc) in looked_at):
                assert topic.documents.get(doc) == text
            elif {name, owners.get(doc)} & (looked_at | sometimes):  # where it was, or by a run that was ended
                assert topic.documents.get(doc) in (text, before.get(doc), None)
            else:
                assert topic.documents.get(doc) == before.get(doc), "nobody told of it"
        assert topic.rows[-1][0] == PLACE, "the place is written with the last of them, or after"
        assert len(topic.log[begun:]) == len(set(topic.log[begun:])), "repeated"
    topic.ingest(source, ANY)
    assert topic.documents == {doc: text for documents in there.values() for doc, text in documents.items()}


def test_a_document_that_another_object_may_have_still_is_not_taken_from_it() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x"}, "B": {}}), ANY)
    source = MemorySource({"A": {"a": "x"}, "B": {"a": "y"}})
    summary = topic.ingest(source, WATCHED, names=["B"])
    assert (summary.failed, summary.failures[0].reason) == (1, "the document a is in A, too: rename one")
    assert topic.ingest(MemorySource({"B": {"a": "y"}}), WATCHED, names=["B"]).published == 1
    assert topic.documents == {"a": "y"}


def test_an_object_that_cannot_be_looked_at_is_not_gone() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x"}}), ANY)
    summary = topic.ingest(MemorySource({}, unlistable="A"), WATCHED, names=["A"])
    assert (summary.deleted, summary.failed, topic.documents) == (0, 1, {"a": "x"})


def test_deletions_by_notifications_are_bounded_together() -> None:
    topic = Topic()
    topic.ingest(MemorySource({name: {name.lower(): "x"} for name in "ABCDEFGHIJ"}), ANY)
    few = Options(sync=True, max_deletes=Deletes(count=2), watched=True)
    left = MemorySource({"J": {"j": "y"}})
    assert topic.ingest(left, few, names=["A"]).deleted == 1
    summary = topic.ingest(left, few, names=["B", "C", "J"], lately=1)
    assert (summary.deleted, summary.gone, summary.published) == (0, 2, 1)
    assert "3 of 9 documents of memory:/ are gone" in str(summary.refused[0])
    assert topic.rows[-1][0] == PLACE


def test_what_fails_again_and_again_is_fetched_ever_more_seldom() -> None:
    source, fetched = MemorySource({"A": {"a": "x"}}, bad="a"), list[int]()
    with State("log") as state:
        to = MemoryTransactions(state, 3)
        for number in range(20):
            asyncio.run(Ingestion(source, run_of(state, WATCHED)).publish_all(to))
            fetched += [number] if source.fetched else []
            source.fetched.clear()
        assert fetched == [0, 1, 3, 7, 15]
        source.objects["A"] = {"a": "y"}
        source.bad = ()
        asyncio.run(Ingestion(source, run_of(state, WATCHED)).publish_all(to))
        assert to.log == [("a", "y")]


def test_what_left_an_object_that_was_told_of_is_deleted() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x", "b": "x"}}), ANY)
    assert topic.ingest(MemorySource({"A": {"b": "x"}}), WATCHED, names=["A"]).deleted == 1
    assert topic.documents == {"b": "x"}


def test_an_object_that_comes_back_as_it_was_has_its_documents_again() -> None:
    """Another one had one of them meanwhile, and what would have forgotten it was not asked for."""
    topic, there = Topic(), {"B": {"a": "y", "b": "x"}}
    topic.ingest(MemorySource(there), ANY)
    topic.ingest(MemorySource({"A": {"a": "x"}}), Options())
    topic.ingest(MemorySource(there), ANY)
    assert topic.documents == {"a": "y", "b": "x"}


class LineSource(MemorySource):
    """One object of lines, which may tell of a document more than once."""

    def __init__(self, lines: Sequence[tuple[str, str]]) -> None:
        super().__init__({"A": {repr(lines): ""}})
        self.lines = lines

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure | Listed]:
        """Line by line."""
        yield self._listed(listed.id)
        for doc, text in self.lines:
            yield Outgoing(key=doc.encode(), value=text.encode(), origin=doc)


lines = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=6)


@given(st.lists(st.tuples(lines, st.lists(kills, max_size=2)), min_size=1, max_size=4), st.integers(1, 5))
def test_the_last_line_about_a_document_counts_however_often_it_changes(
    steps: list[tuple[list[tuple[str, str]], list[tuple[int, bool]]]], many: int
) -> None:
    topic, there = Topic(), list[tuple[str, str]]()
    for more, killed in steps:
        there = there + more
        for left, after in killed:
            with contextlib.suppress(KilledError):
                topic.ingest(LineSource(there), ANY, many=many, left=left, after=after)
        topic.ingest(LineSource(there), ANY, many=many)
        assert topic.documents == dict(there)


def named(objects: Objects, prefix: str) -> Objects:
    return {name: {prefix + doc: text for doc, text in documents.items()} for name, documents in objects.items()}


def naming(prefix: str, **options: Any) -> Options:
    return Options(ids=Ids(prefix=prefix), **options)


def test_other_ids_of_what_was_published_are_refused_before_anything_is_written() -> None:
    topic, there = Topic(), {"A": {"a": "x", "b": "x"}}
    topic.ingest(MemorySource(named(there, "old/")), naming("old/"))
    there["B"] = {"c": "x"}
    before = list(topic.log)
    for options in ({}, {"again": True}, {"sync": True}):
        with pytest.raises(RefusedError) as refused:
            topic.ingest(MemorySource(named(there, "new/")), naming("new/", **options))
        assert "2 documents of memory:/ (old/a…) got ids by `--prefix old/`, and `--prefix new/`" in str(refused.value)
        assert "Run it with `--prefix old/`; or `penstock ingest … --again --sync`" in str(refused.value)
    assert topic.log == before
    topic.ingest(MemorySource(named(there, "old/")), naming("old/"))
    assert topic.documents == {"old/a": "x", "old/b": "x", "old/c": "x"}


@given(
    st.lists(
        st.tuples(objects.filter(apart), st.sampled_from(["", "a", "ab"]), st.lists(kills, max_size=3)),
        min_size=2,
        max_size=4,
    ),
    st.integers(1, 3),
)
def test_all_get_new_ids_and_no_old_one_stays(
    steps: list[tuple[Objects, str, list[tuple[int, bool]]]], many: int
) -> None:
    """Whatever was edited besides, and killed; an id may be that of another document after that."""
    topic = Topic()
    for plain, prefix, killed in steps:
        options = naming(prefix, again=True, sync=True, max_deletes=Deletes(share=1.0))
        there = named(plain, prefix)
        for left, after in killed:
            with contextlib.suppress(KilledError):
                topic.ingest(MemorySource(there), options, many=many, left=left, after=after)
        assert topic.ingest(MemorySource(there), options, many=many).failed == 0
        assert topic.documents == {doc: text for documents in there.values() for doc, text in documents.items()}
        topic.ingest(MemorySource(there), naming(prefix))


def test_what_gets_new_ids_is_no_deletion_that_has_to_be_allowed() -> None:
    topic, there = Topic(), {"A": {"a": "x", "b": "x"}, "B": {"c": "x"}}
    topic.ingest(MemorySource(named(there, "old/")), naming("old/"))
    options = naming("new/", again=True, sync=True, max_deletes=Deletes(count=0))
    there["B"] = {}
    summary = topic.ingest(MemorySource(named(there, "new/")), options)
    assert ("1 of 3 documents" in str(summary.refused[0]), summary.failed) == (True, 0)
    assert topic.documents == {"new/a": "x", "new/b": "x", "old/c": "x"}


def test_what_keeps_its_old_id_is_a_failure_of_the_run() -> None:
    topic, there = Topic(), {"A": {"a": "x"}, "B": {"b": "x"}, "C": {"c": "x"}}
    topic.ingest(MemorySource(named(there, "old/")), naming("old/"))
    options, there = naming("new/", again=True, sync=True), named(there, "new/")
    summary = topic.ingest(MemorySource(there, bad=["new/b"], excluded=["C"]), options)
    assert summary.failures[-1].reason.startswith("2 documents keep the ids of `--prefix old/` (old/b…)")
    with pytest.raises(RefusedError, match="2 documents of memory:/"):
        topic.ingest(MemorySource(there), naming("new/"))
    excluded = replace(options, delete_excluded=True, max_deletes=Deletes(count=1))
    assert topic.ingest(MemorySource(there, excluded=["C"]), excluded).failed == 0
    assert topic.documents == {"new/a": "x", "new/b": "x"}
