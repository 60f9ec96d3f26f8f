"""What is known of the pages of sites, run after run: a part of `agents.sources.state`, in the same topic.

    ["page", source, url]     {"log", "became", "target"?, "etag"?, "modified"?, "body"?, "links"?}  as it was last
    ["visit", source, url]    {"log", "crawl"}                                the crawl in which it was visited last
    ["crawl", source]         {"log", "crawl", "over"}                        the last one, and whether it is over

The links of a page are remembered because an answer that nothing has changed has none; those to its own host without
the host. A page has two rows so that the larger one is written only when it changes. A crawl is gone on with by what
was visited in it: what is left to visit follows from that.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

TABLES = """
CREATE TABLE pages (
    source TEXT, url TEXT, became TEXT, target TEXT, etag TEXT, modified TEXT, body TEXT, links BLOB,
    PRIMARY KEY (source, url)
) WITHOUT ROWID;
CREATE TABLE visits (source TEXT, url TEXT, crawl INT, PRIMARY KEY (source, url)) WITHOUT ROWID;
CREATE TABLE crawls (source TEXT PRIMARY KEY, crawl INT, over INT) WITHOUT ROWID;
"""
LINKS_BYTES = 400 * 1024
"""Of the links of one page: a broker takes records of 1 MiB."""
MANY = 500

Row = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`became`: a document, or what else. `target`: where that is. `body`: a hash. `etag`, `modified`: as they came."""

    became: str
    target: str | None = None
    etag: str | None = None
    modified: str | None = None
    body: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Crawl:
    """By its number; `over`: nothing of it is left to visit."""

    number: int
    over: bool


class Pages:
    """Of all sources. Its tables are of the database of `State`."""

    def __init__(self, db: sqlite3.Connection, log: str) -> None:
        """`log`: as `State`."""
        self._db = db
        self._log = log

    def take(self, key: Sequence[str], value: bytes | None) -> None:
        """What a row says, by its kind."""
        told = orjson.loads(value) if value else {}
        told = told if told.get("log") == self._log else {}
        match key:
            case ["page", source, url] if told:
                names = ("became", "target", "etag", "modified", "body")
                row = (source, url, *(told.get(name) for name in names), orjson.dumps(told.get("links", [])))
                self._db.execute("INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            case ["page", source, url]:
                self._db.execute("DELETE FROM pages WHERE source = ? AND url = ?", (source, url))
            case ["visit", source, url] if told:
                self._db.execute("INSERT OR REPLACE INTO visits VALUES (?, ?, ?)", (source, url, told["crawl"]))
            case ["visit", source, url]:
                self._db.execute("DELETE FROM visits WHERE source = ? AND url = ?", (source, url))
            case ["crawl", source] if told:
                row = (source, told["crawl"], told["over"])
                self._db.execute("INSERT OR REPLACE INTO crawls VALUES (?, ?, ?)", row)
            case ["crawl", source]:
                self._db.execute("DELETE FROM crawls WHERE source = ?", (source,))

    def page_row(self, source: str, url: str, page: Page | None) -> Row:
        """To write with a page's record; None: nothing leads there any more."""
        host = _host(url)
        told = (
            {
                "became": page.became,
                "target": page.target,
                "etag": page.etag,
                "modified": page.modified,
                "body": page.body,
                "links": [link.removeprefix(host) for link in page.links],
            }
            if page
            else None
        )
        key = orjson.dumps(["page", source, url])
        if told is None:
            return key, None
        return key, orjson.dumps({"log": self._log} | {name: value for name, value in told.items() if value})

    def visit_row(self, source: str, url: str, crawl: int | None) -> Row:
        """To write when it was visited, or with the end of its page."""
        told = None if crawl is None else orjson.dumps({"log": self._log, "crawl": crawl})
        return orjson.dumps(["visit", source, url]), told

    def crawl_row(self, source: str, crawl: Crawl) -> Row:
        """To write when it begins, and with all that is the last of it."""
        value = orjson.dumps({"log": self._log, "crawl": crawl.number, "over": crawl.over})
        return orjson.dumps(["crawl", source]), value

    def page(self, source: str, url: str) -> Page | None:
        """As it was last."""
        query = "SELECT became, target, etag, modified, body, links FROM pages WHERE source = ? AND url = ?"
        row = self._db.execute(query, (source, url)).fetchone()
        if row is None:
            return None
        host = _host(url)
        links = tuple(host + link if link.startswith("/") else link for link in orjson.loads(row[5]))
        return Page(became=row[0], target=row[1], etag=row[2], modified=row[3], body=row[4], links=links)

    def visited(self, source: str, url: str, crawl: int) -> bool:
        """Whether it was in this crawl."""
        query = "SELECT 1 FROM visits WHERE source = ? AND url = ? AND crawl = ?"
        return self._db.execute(query, (source, url, crawl)).fetchone() is not None

    def crawl(self, source: str) -> Crawl:
        """The last one; one that is over where there was none."""
        row = self._db.execute("SELECT crawl, over FROM crawls WHERE source = ?", (source,)).fetchone()
        return Crawl(row[0], bool(row[1])) if row else Crawl(0, over=True)

    def unvisited(self, source: str, crawl: int) -> Iterator[str]:
        """Pages that are known, and were not visited in this crawl."""
        query = """SELECT url FROM pages WHERE source = ?1 AND url > ?3 AND url NOT IN (
                SELECT url FROM visits WHERE source = ?1 AND crawl = ?2) ORDER BY url LIMIT ?4"""
        last = ""
        while rows := self._db.execute(query, (source, crawl, last, MANY)).fetchall():
            yield from (url for (url,) in rows)
            last = rows[-1][0]


def fitting(url: str, links: Sequence[str]) -> tuple[str, ...]:
    """As many of a page's links as are remembered."""
    host, left = _host(url), LINKS_BYTES
    for number, link in enumerate(links):
        left -= len(link.removeprefix(host)) + 3
        if left < 0:
            return tuple(links[:number])
    return tuple(links)


def _host(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])
