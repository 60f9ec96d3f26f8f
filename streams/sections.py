"""Sections of a text, its pages and headings: where it is split, and in which of them a chunk is."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any

BELOW = " › "
"""Between the levels of a heading's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A range of the text, in characters: a page (from 1), or what is below a heading (`3 Storage › 3.2 Indices`)."""

    start: int
    end: int
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a reader is told of where a chunk is from: its pages, the first and the last, and what it is below."""

    page: int | None = None
    page_end: int | None = None
    heading: str | None = None


NOWHERE = Place()


def ranges(length: int, sections: Sequence[Section], max_chars: int) -> Iterator[tuple[int, int]]:
    """A text of so many characters in ranges to split one by one: a section, or neighbours that one chunk can hold.

    All of the text is in them, in order: what no section names is one of its own, between them.
    """
    start = end = 0
    for first, last in _tiles(length, sections):
        if last - start > max_chars and end > start:
            yield start, end
            start = first
        end = last
    yield start, end


def _tiles(length: int, sections: Sequence[Section]) -> Iterator[tuple[int, int]]:
    at = 0
    for section in sections:
        if section.start > at:
            yield at, section.start
        yield section.start, section.end
        at = section.end
    if length > at:
        yield at, length


def place_of(start: int, end: int, sections: Sequence[Section]) -> Place:
    """Of a range that has a character at least. The heading is what the paths there have in common.

    Sections are in order and apart. Takes the logarithm of their number, and the number of those that it touches.
    """
    first = bisect_right(sections, start, key=lambda section: section.end)
    last = bisect_left(sections, end, key=lambda section: section.start)
    touched = sections[first:last]
    pages = [section.page for section in touched if section.page is not None]
    paths = [section.heading.split(BELOW) for section in touched if section.heading is not None]
    common = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return Place(
        page=min(pages, default=None),
        page_end=max(pages, default=None),
        heading=BELOW.join(names[0] for names in common) or None,
    )


def sections_from_chunks(chunks: Sequence[tuple[int, int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Sections of which these chunks would be, as a record has them. Each: start, end, and its metadata, in order.

    Where inside of a chunk a page ends is not known any more, and only that it does is told.
    """
    made: list[dict[str, Any]] = []
    told: list[tuple[Any, ...]] = []
    for number, (_, _, metadata) in enumerate(chunks):
        page, page_end = metadata.get("page"), metadata.get("page_end")
        alone = number if page_end not in (page, None) else None  # of two chunks on two pages each ends a page
        told.append((page, page_end, metadata.get("heading"), alone))
    starts = [start for start, _, _ in chunks]
    for (page, page_end, heading, _), group in groupby(range(len(chunks)), told.__getitem__):
        numbers = list(group)
        start, end = starts[numbers[0]], chunks[numbers[-1]][1]
        end = min([end, *starts[numbers[-1] + 1 : numbers[-1] + 2]])  # chunks may overlap, sections do not
        if page is None and heading is None:
            continue
        pages = [page] if page_end in (page, None) else [page, page_end]
        for number, one in enumerate(pages):
            bounds = [start + (end - start) * (number + more) // len(pages) for more in (0, 1)]
            fields = {"start": bounds[0], "end": bounds[1], "page": one, "heading": heading}
            made.append({name: value for name, value in fields.items() if value is not None})
    return made
