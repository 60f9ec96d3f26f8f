"""Which generation is whose; how alike two rankings are; a record made again from its chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from streams.agreement import agreement, summary
from streams.generations import Generation, fed_beside, fed_by, name_of, next_number, number_of
from streams.ids import version
from streams.plan import FieldNames, Space, content_writes
from streams.quality import judged
from streams.record import Document, Record, decode
from streams.recover import record_from_chunks
from streams.registry import Entry
from streams.sections import place_of
from streams.split import chunk_document
from tests.streams.test_split import RULES, encode, texts

CONTRACT: dict[str, Any] = {
    "model": {"name": "M", "dims": 2},
    "source": {"topic": "t", "partitions": 4},
    "cuts": [],
}
OTHER = {**CONTRACT, "model": {"name": "N", "dims": 3}}


def generation(number: int, group: str | None, contract: dict[str, Any], *, serving: bool = False) -> Generation:
    return Generation(
        index=name_of("docs", contract["model"]["name"], number),
        number=number,
        contract=contract,
        group=group,
        serving=serving,
        before=None,
        aliases=(),
        rebuild=None,
    )


def test_a_group_feeds_the_one_that_is_bound_to_it_whatever_its_contract() -> None:
    first, second = generation(1, "a", CONTRACT, serving=True), generation(2, None, OTHER)
    found = [first, second]
    assert fed_by(found, "a", CONTRACT) == first
    assert fed_by(found, "a", OTHER) == first  # the caller refuses: one group cannot feed two
    assert fed_by(found, "b", OTHER) == second
    assert fed_by(found, "b", CONTRACT) == first  # two groups on one generation do no harm
    assert fed_by([first], "b", OTHER) is None
    rebuilt = generation(3, "a-3", CONTRACT)
    assert fed_by([*found, rebuilt], "a", CONTRACT) == first
    assert fed_by([*found, rebuilt], "b", CONTRACT) == first  # the one that serves
    assert fed_by([second, rebuilt], "b", CONTRACT) is None  # where nothing serves, it is the other group's
    assert fed_by([second, rebuilt], "b", None) is None  # nor is what nobody fills: a new one is to be made
    assert fed_by([first, generation(2, "a-2", OTHER)], "b", OTHER) == generation(2, "a-2", OTHER)  # a group renamed
    grown = {**OTHER, "source": {"topic": "t", "partitions": 8}}
    assert fed_by(found, "b", grown) == second  # for the message about a new epoch


def test_a_group_feeds_from_one_topic_of_a_cluster() -> None:
    def of(topic: str, log: str | None, group: str | None = "a") -> Generation:
        return generation(1, group, {**CONTRACT, "source": {"topic": topic, "partitions": 4, "log": log}})

    def others(*found: Generation, own: Sequence[str] = ()) -> list[Generation]:
        return fed_beside(found, "a", "t", "cluster/t1", own)

    conflict = of("u", "cluster/u1")
    assert others(of("u", "cluster/u1"), conflict) == [conflict, conflict]
    aliased = of("t", "cluster/t1")
    assert others(aliased) == [aliased], "of another alias"
    assert others(aliased, own=[aliased.index]) == []
    assert others(replace(aliased, number=0)) == [], "a copy, which nobody feeds"
    assert others(of("t", "cluster/t0")) == []  # the topic was made anew
    assert others(of("u", "cluster/u1", "b"), of("u", "cluster/u1", None)) == []
    assert others(of("u", "elsewhere/u1")) == []  # the group of another cluster
    assert others(of("u", None), of("u", "/u1"), of("u", "")) == []  # or it may be


def test_names_of_one_alias_are_not_those_of_another() -> None:
    assert number_of("docs", "docs-m-000012", CONTRACT) == 12
    assert number_of("docs", "docs-en-m-000012", CONTRACT) is None
    assert number_of("docs", "docs-m-000012-registry", CONTRACT) is None
    assert number_of("docs", "docs-m-12", CONTRACT) is None
    assert next_number([]) == 1
    assert next_number([generation(3, None, OTHER), generation(7, None, CONTRACT)]) == 8


rankings = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(rankings, rankings)
def test_agreement_is_symmetric_and_bounded(first: list[str], second: list[str]) -> None:
    there, back = agreement("q", first, second), agreement("q", second, first)
    assert 0 <= there.overlap == back.overlap <= 1
    assert there.correlation == back.correlation
    assert there.correlation is None or -1 <= there.correlation <= 1
    assert set(there.missing) == set(first) - set(second)
    same = agreement("q", first, first)
    assert same.overlap == 1
    assert same.correlation == (1 if len(first) > 1 else None)
    assert agreement("q", first, first[::-1]).correlation == (-1 if len(first) > 1 else None)


def test_rank_correlation_against_a_known_value() -> None:
    # ranks 1 2 3 4 against 2 1 4 3: d² = 4, so 1 - 24 / 60
    assert agreement("q", "abcd", "badc").correlation == 0.6
    found = summary([agreement("q", "ab", "ab"), agreement("r", "ab", "cd")])
    assert (found.queries, found.overlap, found.correlation, found.worst[0].query) == (2, 0.5, 1.0, "r")


def indexed(body: dict[str, Any]) -> tuple[Document, Entry, list[dict[str, Any]]]:
    """A document as it is in an index: its entry, and the sources of its chunks."""
    record = Record(topic="t", partition=3, offset=41, timestamp_ms=5, key=b"doc", value=orjson.dumps(body))
    document = decode(record)
    assert isinstance(document, Document), document
    chunks = chunk_document(document, RULES, encode)
    assert isinstance(chunks, list)
    names = FieldNames(metadata={"lang": "keyword"})
    made = content_writes(
        document,
        chunks,
        np.ones((len(chunks), 2), np.float32),
        epoch=1,
        space=Space(model="m", dims=2, names=names),
        indexed_at="now",
        verdict=judged(document, chunks),
    )
    entry = Entry(
        doc_id="doc",
        partition=3,
        version=version(1, 41),
        content_version=version(1, 41),
        state="done",
        n=len(chunks),
        hi=len(chunks),
        content_hash="",
        chunk_index_uuid="u",
    )
    return document, entry, [write.source for write in made]


def made_again(entry: Entry, rows: Sequence[Mapping[str, Any] | None]) -> Record | None:
    return record_from_chunks(entry, "t", rows, text_field="text", typed={"lang"})


@given(texts, st.booleans())
def test_a_text_is_made_again_from_its_chunks(text: str, own: bool) -> None:
    body: dict[str, Any] = {"text": text, "title": "T", "timestamp": "2026-01-02T03:04:05.000Z"}
    if own:
        body["metadata"] = {"lang": "de", "tags": ["x"]}
    document, entry, rows = indexed(body)
    if not rows:
        deleted = made_again(entry, rows)
        assert deleted is not None
        assert deleted.value is None
        return
    made = made_again(entry, rows)
    assert made is not None
    assert (made.topic, made.partition, made.offset, made.key) == ("t", 3, 41, b"doc")
    again = decode(made)
    assert isinstance(again, Document)
    assert (again.title, again.timestamp, again.metadata) == (document.title, document.timestamp, document.metadata)
    assert again.text is not None
    for row in rows:
        assert again.text[row["metadata"]["start"] : row["metadata"]["end"]] == row["text"]
    assert again.text.split() == text.split()


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row["metadata"].get(name) for name in ("page", "page_end", "heading"))


@given(texts, st.lists(st.tuples(st.integers(0, 90), st.integers(1, 3), st.sampled_from(["A", "A › B", "C"]))))
@example("0" * 82, [(1, 1, "A"), (1, 2, "A"), (79, 1, "A"), (1, 2, "A")])
def test_places_are_made_again_with_the_text(text: str, rows: list[tuple[int, int, str]]) -> None:
    at, sections = 0, list[dict[str, Any]]()
    for length, page, heading in rows:
        end = min(len(text), at + length)
        sections.append({"start": at, "end": end, "page": page, "heading": heading})
        at = end
    _, entry, before = indexed({"text": text, "sections": sections})
    made = made_again(entry, before)
    assert made is not None
    again = decode(made)
    assert isinstance(again, Document), again
    for row in before:
        start, end = row["metadata"]["start"], row["metadata"]["end"]
        place = place_of(start, end, again.sections)
        if end - start > 1:  # of a single character, on two pages at once, there is none
            assert (place.page, place.page_end) == told(row)[:2]
        assert place.heading == told(row)[2]


def test_a_typed_field_of_the_producer_is_no_page() -> None:
    _, entry, rows = indexed({"text": "word", "metadata": {"lang": "de"}})
    rows[0]["metadata"]["page"] = 7  # as an index of format 1 has it, with `metadata_fields = {page = "integer"}`
    made = record_from_chunks(entry, "t", rows, text_field="text", typed={"lang", "page"})
    assert made is not None
    assert orjson.loads(made.value or b"") == {"text": "word", "metadata": {"lang": "de", "page": 7}}


def test_given_chunks_are_made_again_with_their_metadata() -> None:
    body = {"chunks": [{"text": " a "}, {"text": "b", "metadata": {"page": 2}}], "url": "u", "metadata": {"lang": "de"}}
    _, entry, rows = indexed(body)
    made = made_again(entry, rows)
    assert made is not None
    again = decode(made)
    assert isinstance(again, Document)
    assert again.chunks is not None
    assert [(chunk.text, chunk.metadata) for chunk in again.chunks] == [
        (" a ", {"lang": "de"}),
        ("b", {"lang": "de", "page": 2}),
    ]
    assert again.url == "u"


def test_what_is_being_replaced_is_not_made_again() -> None:
    _, entry, rows = indexed({"text": "word " * 60})
    assert len(rows) > 1
    newer = [{**rows[0], "penstock": {**rows[0]["penstock"], "offset": 42}}, *rows[1:]]
    stub = [{"metadata": {}, "penstock": {"stub": True}}, *rows[1:]]
    for found in (newer, stub, [None, *rows[1:]], rows[1:]):
        assert made_again(entry, found) is None
    assert made_again(replace(entry, state="writing"), rows) is None


def test_a_document_that_came_again_unchanged_is_made_again_at_its_newest_place() -> None:
    _, entry, rows = indexed({"text": "word " * 60})
    touched = replace(entry, version=version(2, 7), partition=1)
    for found in (touched, replace(touched, content_version=None)):
        made = made_again(found, rows)
        assert made is not None
        assert (made.partition, made.offset) == (1, 7)
    mixed = [{**rows[0], "penstock": {**rows[0]["penstock"], "epoch": 0}}, *rows[1:]]
    assert made_again(replace(touched, content_version=None), mixed) is None
    assert (
        record_from_chunks(
            replace(touched, content_version=version(1, 42)), "t", rows, text_field="text", typed={"lang"}
        )
        is None
    )
