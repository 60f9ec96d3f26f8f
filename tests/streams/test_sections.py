"""Sections: a text is split at their bounds, nothing of it is lost, and each chunk says where it is from."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.record import Document, Record, Rejected, decode
from streams.sections import BELOW, Place, Section, place_of, ranges
from streams.split import Chunk, chunk_document
from tests.streams.test_split import RULES, encode, texts

HEADINGS = st.none() | st.sampled_from(["A", "A › B", "A › C", "D"])


def read(text: str, sections: object) -> Document | Rejected:
    value = orjson.dumps({"text": text, "sections": sections})
    return decode(Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=value))


def split(text: str, sections: Sequence[dict[str, Any]]) -> list[Chunk]:
    document = read(text, sections)
    assert isinstance(document, Document), document
    made = chunk_document(document, RULES, encode)
    assert isinstance(made, list), made
    return made


@st.composite
def divided(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    """A text, and sections of it: with gaps between, empty ones, and pages in any order."""
    text = draw(texts)
    bounds = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pages = st.none() | st.integers(1, 5)
    sections = [
        {"start": start, "end": end, "page": draw(pages), "heading": draw(HEADINGS)} for start, end in pairwise(bounds)
    ]
    return text, [section for section in sections if draw(st.booleans())]


@given(divided())
def test_nothing_is_lost_and_every_chunk_is_where_it_says(made: tuple[str, list[dict[str, Any]]]) -> None:
    text, sections = made
    covered = [False] * len(text)
    for chunk in split(text, sections):
        start, end = chunk.start or 0, chunk.end or 0
        assert text[start:end] == chunk.text
        assert len(chunk.text) <= RULES.max_chars
        covered[start:end] = [True] * (end - start)
        there = [section for section in sections if max(start, section["start"]) < min(end, section["end"])]
        pages = {section["page"] for section in there if section["page"]}
        assert (chunk.place.page, chunk.place.page_end) == (min(pages, default=None), max(pages, default=None))
        for section in there:
            if section["heading"] and chunk.place.heading:
                assert (section["heading"] + BELOW).startswith(chunk.place.heading + BELOW)
        if len(there) == 1:
            assert chunk.place.heading == there[0]["heading"]
        elif sum(section["end"] - section["start"] for section in there) > RULES.max_chars:
            assert all(section["end"] - section["start"] <= RULES.max_chars for section in there), "cut in the midst"
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))


@given(st.integers(0, 300), st.data())
def test_ranges_are_all_of_a_text_in_order(length: int, data: st.DataObject) -> None:
    bounds = sorted(data.draw(st.lists(st.integers(0, length), max_size=20)))
    sections = [Section(start=start, end=end) for start, end in pairwise(bounds) if end > start]
    sections = [section for section in sections if data.draw(st.booleans())]
    found = list(ranges(length, sections, 50))
    assert [found[0][0], found[-1][1]] == [0, length]
    assert all(before == after for (_, before), (after, _) in pairwise(found))
    for start, end in found:
        inside = [section for section in sections if start < section.end and section.start < end]
        assert all(start <= section.start and section.end <= end for section in inside), "a section is never cut"
        assert end - start <= 50 or len(inside) <= 1


def test_small_neighbours_are_one_chunk_and_large_ones_begin_their_own() -> None:
    parts = ["Sluices", "A sluice has a gate.", "Locks", "word " * 30, "Ends."]
    text = "\n\n".join(parts)
    at, sections = 0, []
    for number, (part, heading) in enumerate(zip(parts, ["S", "S › Gates", "L", "L › Long", "L › End"], strict=True)):
        sections.append({"start": at, "end": at + len(part), "page": 1 + number // 2, "heading": heading})
        at += len(part) + 2
    made = [(chunk.text.split()[0], chunk.place) for chunk in split(text, sections)]
    assert made[0] == ("Sluices", Place(page=1, page_end=2)), "nothing in common: it has no heading"
    assert made[1] == ("word", Place(page=2, page_end=2, heading="L › Long"))
    assert made[-1] == ("Ends.", Place(page=3, page_end=3, heading="L › End"))
    alike = [{**section, "heading": f"Water › {section['heading']}"} for section in sections]
    assert split(text, alike)[0].place == Place(page=1, page_end=2, heading="Water")


def test_text_without_sections_is_split_as_ever() -> None:
    text = "A sentence of some words. " * 40
    plain = split(text, [])
    assert [chunk.text for chunk in split(text, [{"start": 0, "end": len(text), "page": 7}])] == [
        chunk.text for chunk in plain
    ]
    assert {chunk.place for chunk in plain} == {Place()}


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ("1-2", "`sections` is a JSON string; a list of objects"),
        ([[0, 1]], "`sections[0]` is a JSON list; an object"),
        ([{"start": 0}], "`sections[0]` needs both `start` and `end`"),
        ([{"start": 0, "end": 1.5}], "`sections[0].end` is 1.5; a whole number"),
        ([{"start": False, "end": 1}], "`sections[0].start` is False"),
        ([{"start": 0, "end": 6}], "`text` has 5 characters"),
        ([{"start": -1, "end": 2}], "is from -1 to 2"),
        ([{"start": 3, "end": 2}], "is from 3 to 2"),
        ([{"start": 0, "end": 3}, {"start": 2, "end": 4}], "`sections[1]` is from 2 to 4"),
        ([{"start": 3, "end": 4}, {"start": 0, "end": 1}], "sections are in order"),
        ([{"start": 0, "end": 1, "page": 0}], "`sections[0].page` is 0; pages are numbered from 1"),
        ([{"start": 0, "end": 1, "page": 2**31}], "pages are numbered from 1"),
        ([{"start": 0, "end": 1, "page": "iv"}], "`sections[0].page` is 'iv'"),
        ([{"start": 0, "end": 1, "heading": 3}], "`sections[0].heading` is a JSON number"),
        ([{"start": 0, "end": 1, "heading": "x" * 1025}], "has 1025 characters"),
        ([{"start": 0, "end": 1, "title": "T"}], "unknown field `sections[0]."),
    ],
)
def test_wrong_ranges_are_rejected_with_the_place(sections: object, part: str) -> None:
    found = read("héllö", sections)
    assert isinstance(found, Rejected)
    assert part in found.message


def test_sections_are_of_texts_only() -> None:
    value = b'{"chunks": [{"text": "a"}], "sections": [{"start": 0, "end": 1}]}'
    found = decode(Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"k", value=value))
    assert isinstance(found, Rejected)
    assert "`sections` are ranges of `text`" in found.message
    empty = read("abc", [{"start": 1, "end": 1, "page": 4}, {"start": 1, "end": 3, "heading": " "}])
    assert isinstance(empty, Document)
    assert empty.sections == (Section(start=1, end=3),), "an empty page is no mistake"


@given(divided(), st.data())
def test_places_are_found_as_by_looking_at_all(made: tuple[str, list[dict[str, Any]]], data: st.DataObject) -> None:
    sections = [Section(**row) for row in made[1] if row["end"] > row["start"]]
    start = data.draw(st.integers(0, 600))
    end = start + data.draw(st.integers(1, 100))
    pages = [row.page for row in sections if row.page and row.start < end and start < row.end]
    assert place_of(start, end, sections).page == min(pages, default=None)
