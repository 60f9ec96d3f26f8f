"""What formats share: text in parts with where each is from, dates, and the bound of an archive."""

import zipfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

from agents.sources import moments
from agents.sources.convert import ConversionError, Converted
from streams.record import MAX_HEADING_CHARS
from streams.sections import BELOW, Section

INFLATED_BYTES = 512 * 1024**2
"""Of all that is in an archive, at most: asked before it is opened."""
ENTRIES = 50_000
"""Of an archive, at most: each costs time and memory, however small it is."""
SEPARATOR = "\n\n"


def path_of(headings: Sequence[tuple[int, str]]) -> str | None:
    """Of headings with their levels; where it is too long for a section, its end is left out."""
    path = BELOW.join(name for _, name in headings)
    return (path if len(path) <= MAX_HEADING_CHARS else path[: MAX_HEADING_CHARS - 1] + "…") or None


class Builder:
    """Text in parts, each with where it is from; equal neighbours are one section."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, int | None, str | None]] = []
        self._headings: list[tuple[int, str]] = []

    def heading(self, level: int, text: str) -> None:
        """What follows is below it; levels from 1. It is text, too."""
        if text := self.below(level, text):
            self.add(text)

    def below(self, level: int, title: str) -> str:
        """What follows is below this title, where it has one. Returns it, in one line."""
        if title := " ".join(title.split()):
            self._headings = [row for row in self._headings if row[0] < level] + [(level, title)]
        return title

    def add(self, text: str, page: int | None = None) -> None:
        """A paragraph, a page, a row: an empty line is put between two."""
        if text := text.strip("\n\r\t\f\v\0 "):
            self._parts.append((text, page, path_of(self._headings)))

    def built(self, **told: str | None) -> Converted:
        """All of it. `told`: title, author and timestamp."""
        at, sections = 0, list[Section]()
        for text, page, heading in self._parts:
            end = at + len(text)
            if sections and (sections[-1].page, sections[-1].heading) == (page, heading):
                sections[-1] = Section(start=sections[-1].start, end=end, page=page, heading=heading)
            elif page is not None or heading is not None:
                sections.append(Section(start=at, end=end, page=page, heading=heading))
            at = end + len(SEPARATOR)
        told = {name: (value or "").strip() or None for name, value in told.items()}
        return Converted(
            text=SEPARATOR.join(row[0] for row in self._parts),
            title=told.get("title"),
            author=told.get("author"),
            timestamp=told.get("timestamp"),
            sections=tuple(sections),
        )


def iso(text: object) -> str | None:
    """As the wire format takes it, or None."""
    if isinstance(text, datetime):
        return moments.iso(text)
    if isinstance(text, date):
        return text.isoformat()
    try:
        return moments.iso(datetime.fromisoformat(str(text or "").strip()))
    except ValueError:
        return None


def require_bounded(path: Path) -> None:
    """Raises ConversionError for an archive of too many parts, or whose parts say that they are too large together."""
    with zipfile.ZipFile(path) as archive:
        rows = archive.infolist()
    if len(rows) > ENTRIES:
        raise ConversionError(f"{len(rows)} files in the archive: more than {ENTRIES}")
    inflated = sum(row.file_size for row in rows)
    if inflated > INFLATED_BYTES:
        raise ConversionError(f"{inflated} bytes when it is unpacked: more than {INFLATED_BYTES}")
