"""Sitemaps (sitemaps.org) to URLs, piece by piece: indexes, gzipped ones, and plain lists of lines.

The XML is that of strangers: one that has a document type is none, so that no entity is expanded or fetched.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from xml.parsers import expat

from agents.sources.moments import iso
from agents.sources.web.urls import LONGEST_URL

LARGEST_BYTES = 50 * 1024**2
"""Unpacked: the protocol's own bound."""
LONGEST_LINE = 4 * LONGEST_URL + 4
"""Bytes: more than any URL that is taken has in UTF-8."""
MANY_URLS = 50_000
"""The protocol's own, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of a sitemap. `index`: it leads to another one. `changed`: when, in ISO 8601, where it says so."""

    url: str
    index: bool = False
    changed: str | None = None


class SitemapError(Exception):
    """It is none, and why; or not all of it could be read."""


def is_sitemap(url: str) -> bool:
    """Whether somebody who names this URL means a sitemap, by its name."""
    return url.partition("?")[0].lower().endswith((".xml", ".xml.gz"))


class Reader:
    """Takes pieces of one, and gives the lines that they end."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._begun = b""
        self._lines: bool | None = None
        self._path: list[str] = []
        self._told: dict[str, str] = {}
        self._found: list[Entry] = []
        self._count = 0

    def feed(self, piece: bytes, *, last: bool = False) -> Iterator[Entry]:
        """Raises SitemapError."""
        if self._lines is None:
            piece = self._begun = self._begun + piece
            if not piece.strip() and not last:
                return
            self._lines = not piece.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
            self._begun = b""
        if self._lines:
            self._feed_lines(piece, last=last)
        else:
            try:
                self._parser.Parse(piece, last)
            except expat.ExpatError as exc:
                raise SitemapError(f"it is no XML: {exc}") from None
        found, self._found = self._found, []
        yield from found

    def _feed_lines(self, piece: bytes, *, last: bool) -> None:
        *lines, self._begun = (self._begun + piece).split(b"\n")
        if last:
            lines, self._begun = [*lines, self._begun], b""
        self._begun = self._begun[:LONGEST_LINE]  # enough to see that it is too long
        for line in lines:
            url = line.decode("utf-8-sig", errors="replace").strip()
            if url and not url.lower().startswith(("http://", "https://")):
                raise SitemapError(f"it is neither XML nor lines of URLs: {url[:60]!r}")
            if url:
                self._add(Entry(url=url))

    def _add(self, entry: Entry) -> None:
        self._count += 1
        if self._count > MANY_URLS:
            raise SitemapError(f"it has more than {MANY_URLS} lines: divide it")
        if len(entry.url) <= LONGEST_URL:
            self._found.append(entry)

    def _refuse(self, *_: object) -> None:
        raise SitemapError("it has a document type: entities are not expanded")

    def _start(self, name: str, _: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self._path and name not in ("urlset", "sitemapindex"):
            raise SitemapError(f"its first element is {name[:60]}, not urlset or sitemapindex")
        self._path.append(name)
        if len(self._path) > 32:
            raise SitemapError("it is nested too deeply")
        if len(self._path) == 2:
            self._told = {}

    def _text(self, text: str) -> None:
        if len(self._path) == 3 and self._path[2] in ("loc", "lastmod"):
            told = self._told.get(self._path[2], "") + text
            self._told[self._path[2]] = told[: LONGEST_URL + 1]

    def _end(self, _: str) -> None:
        if len(self._path) == 2 and self._path[1] in ("url", "sitemap") and (url := self._told.get("loc", "").strip()):
            changed = _iso(self._told.get("lastmod", "").strip())
            self._add(Entry(url=url, index=self._path[1] == "sitemap", changed=changed))
        self._path.pop()


def _iso(told: str) -> str | None:
    try:
        return iso(datetime.fromisoformat(told))
    except ValueError:
        return None
