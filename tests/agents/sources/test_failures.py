"""An object that fails is one dead letter until it fails otherwise, and stands as failed exactly while it does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.sources import Failure, Listed, Outgoing
from agents.sources.run import Ingestion
from agents.sources.state import Row, State
from streams.dead_letter import Failed
from tests.agents.sources.test_run import ANY, KilledError, MemorySource, Objects, Topic, apart, kills, run_of


def standing(written: Sequence[Row]) -> set[str]:
    """Objects of the rows that are left after compaction."""
    with State("log") as state:
        state.take(written)
        rows = state._db.execute("SELECT object FROM failures").fetchall()
    return {name for (name,) in rows}


class Breaking(MemorySource):
    """Documents whose text is `!` cannot be read."""

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure | Listed]:
        """As before."""
        async for found in super().fetch(listed):
            bad = isinstance(found, Outgoing) and found.value == b"!"
            yield Failure(origin=listed.id, reason="bad") if bad else found


OBJECTS = st.dictionaries(
    st.sampled_from("ABC"), st.dictionaries(st.sampled_from("abcd"), st.sampled_from("x!"), max_size=2), max_size=3
)
STEPS = st.tuples(OBJECTS.filter(apart), st.sampled_from(["", "", "A"]), st.lists(kills, max_size=2))


@given(st.lists(STEPS, min_size=1, max_size=3), st.integers(1, 3))
@example([({"B": {}}, "", []), ({"B": {"a": "x", "b": "!"}}, "", []), ({"B": {}, "A": {"a": "x"}}, "", [])], 1)
def test_after_any_edits_and_kills_what_stands_is_what_fails(
    steps: list[tuple[Objects, str, list[tuple[int, bool]]]], many: int
) -> None:
    topic = Topic()
    for there, unlistable, killed in steps:
        before = standing(topic.rows)
        for left, after in killed:
            try:
                topic.ingest(Breaking(there, unlistable=unlistable), ANY, many=many, left=left, after=after)
            except KilledError:
                continue
        topic.ingest(Breaking(there, unlistable=unlistable), ANY, many=many)
        fails = {name for name, docs in there.items() if name in unlistable or "!" in docs.values()}
        whole = not any(name in unlistable for name in there)
        assert fails <= standing(topic.rows) <= (fails if whole else fails | before)
        assert fails <= {letter.object for letter in topic.letters}
        written = len(topic.letters)
        topic.ingest(Breaking(there, unlistable=unlistable), ANY, many=many)
        assert len(topic.letters) == written, "what stands is written again"


def test_a_letter_is_written_where_an_object_fails_otherwise_than_before() -> None:
    topic = Topic()
    there = {"A": {"a": "x", "b": "x"}, "B": {"c": "x"}}
    topic.ingest(MemorySource(there, bad="ac"), ANY)
    assert [(one.source, one.object, one.error, one.reason) for one in topic.letters] == [
        ("memory:/", "A", "SourceError", "bad"),
        ("memory:/", "B", "SourceError", "bad"),
    ]
    topic.ingest(MemorySource(there, bad="ac"), ANY)
    assert len(topic.letters) == 2
    topic.ingest(MemorySource(there, bad="abc"), ANY)  # for another reason
    assert [one.reason for one in topic.letters[2:]] == ["bad (and 1 more)"]
    there["B"]["c"] = "y"
    topic.ingest(MemorySource(there, bad="abc"), ANY)  # with other bytes
    assert [one.object for one in topic.letters[3:]] == ["B"]
    topic.ingest(MemorySource(there, bad="abc"), replace(ANY, again=True))
    assert [one.object for one in topic.letters[4:]] == ["A", "B"]
    topic.ingest(MemorySource(there), ANY)
    assert standing(topic.rows) == set()
    topic.ingest(MemorySource(there, bad="c"), replace(ANY, again=True))
    assert standing(topic.rows) == {"B"}


@pytest.mark.parametrize(("excluded", "left"), [("", set()), ("A", set())])
def test_what_is_gone_or_excluded_fails_no_more(excluded: str, left: set[str]) -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x"}}, bad="a"), ANY)
    assert standing(topic.rows) == {"A"}
    topic.ingest(MemorySource({"A": {"a": "x"}} if excluded else {}, bad="a", excluded=excluded), ANY)
    assert standing(topic.rows) == left


def test_what_is_back_as_it_was_published_fails_no_more() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x"}}), ANY)
    topic.ingest(MemorySource({"A": {"a": "y"}}, bad="a"), ANY)
    assert standing(topic.rows) == {"A"}
    source = MemorySource({"A": {"a": "x"}})
    topic.ingest(source, ANY)
    assert (source.fetched, standing(topic.rows)) == ([], set())


def test_while_not_all_can_be_listed_nothing_is_known_to_be_gone() -> None:
    topic = Topic()
    topic.ingest(MemorySource({"A": {"a": "x"}, "B": {"b": "x"}}, bad="a", unlistable="B"), ANY)
    assert standing(topic.rows) == {"A", "B"}
    topic.ingest(MemorySource({"B": {"b": "x"}}, unlistable="B"), ANY)
    assert standing(topic.rows) == {"A", "B"}
    topic.ingest(MemorySource({"B": {"b": "x"}}), ANY)
    assert standing(topic.rows) == set()


def test_notifications_mend_what_they_are_about() -> None:
    topic = Topic()
    there = {"A": {"a": "x"}, "B": {"b": "x"}, "C": {"c": "x"}}
    topic.ingest(MemorySource(there, bad="abc"), ANY)
    assert standing(topic.rows) == {"A", "B", "C"}
    topic.ingest(MemorySource({"A": {"a": "x"}, "C": {"c": "x"}}, bad="c"), ANY, names=["A", "B"])
    assert standing(topic.rows) == {"C"}
    topic.ingest(MemorySource(there, unlistable="B"), ANY, names=["B"])  # it cannot be looked at
    assert [(one.object, one.reason) for one in topic.letters[3:]] == [("B", "unlistable")]


def test_where_nothing_is_published_no_letter_is_written() -> None:
    """In a dry run, and with `strict`: there the objects are only tried."""
    with State("log") as state:
        source = MemorySource({"A": {"a": "x"}, "B": {"b": "x"}}, bad="a", unlistable="B")
        for options in (replace(ANY, strict=True), replace(ANY, dry_run=True)):
            asyncio.run(Ingestion(source, run_of(state, options)).try_out())
        assert state._db.execute("SELECT * FROM failures").fetchall() == []


def test_a_failure_on_the_way_to_another_log_is_another_one() -> None:
    row = Failed(source="memory:/", object="A", tag="t", error="E", reason="r")
    with State("log") as state, State("another") as other:
        state.take([state.failures.row(row)])
        other.take([state.failures.row(row)])
        assert not state.failures.add(row, again=False)
        assert other.failures.add(row, again=False)


def test_a_reason_that_is_no_utf8_can_be_written() -> None:
    with State("log") as state:
        failed = Failed(source="s", object="o", tag="", error="E", reason="a\udce4b")
        state.take([state.failures.row(failed)])
        assert not state.failures.add(failed, again=False)


def test_a_line_of_an_object_is_named() -> None:
    class Lines(MemorySource):
        async def fetch(self, listed):  # type: ignore[no-untyped-def]
            yield Failure(origin="A:7", reason="bad", error="InvalidRecord", line=7)
            yield Failure(origin="A:9", reason="worse", line=9)

    topic = Topic()
    topic.ingest(Lines({"A": {}}), ANY)
    assert [(one.error, one.reason) for one in topic.letters] == [("InvalidRecord", "line 7: bad (and 1 more)")]
