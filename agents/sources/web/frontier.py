"""Pages of a crawl, on disk: those that are to be visited, breadth first, and what became of the others."""

from dataclasses import dataclass

from agents.scratch import Scratch
from agents.sources.web.urls import host_of

_TABLES = """
CREATE TABLE queue (
    url TEXT PRIMARY KEY, host TEXT, depth INT, place INTEGER, state TEXT, hops INT, changed TEXT,
    due REAL DEFAULT 0, tries INT DEFAULT 0, became TEXT, target TEXT, itself INT DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX by_depth ON queue (host, depth, place) WHERE state = 'waiting';
"""
FAR = 2**31
WAITING, RUNNING, DONE, LEFT = "waiting", "running", "done", "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A page to visit. `depth`: links from where the crawl began. `hops`: redirects that led there. `changed`: when,
    as a sitemap says. `tries`: how often it was asked for before. `again`: it was visited before. `itself`: though it
    says that it is a copy of another page, because there is no document of that."""

    url: str
    depth: int
    hops: int = 0
    changed: str | None = None
    tries: int = 0
    again: bool = False
    itself: bool = False


class Frontier(Scratch):
    """Of one run. One thread; close it, or use it as a context."""

    def __init__(self) -> None:
        super().__init__(_TABLES)
        self._places = 0
        self.waiting: dict[str, int] = {}
        """How many there are, by host."""
        self.visited = 0

    @property
    def left(self) -> int:
        """Pages that wait."""
        return sum(self.waiting.values())

    def offer(self, url: str, depth: int, *, hops: int = 0, changed: str | None = None) -> bool:
        """A page that something leads to. False where it is known, and not farther than that."""
        row = self._db.execute("SELECT depth, state FROM queue WHERE url = ?", (url,)).fetchone()
        if row is None:
            self._insert(url, depth, WAITING, hops, changed)
            return True
        if row[0] <= depth:
            return False
        self._db.execute("UPDATE queue SET depth = ? WHERE url = ?", (depth, url))
        if row[1] in (DONE, LEFT):  # what it leads to is nearer, too
            self._set(url, WAITING)
        return True

    def leave(self, url: str, *, far: bool = False) -> bool:
        """A page that is not visited. False where it is known. `far`: unless something nearer leads there."""
        if self.knows(url):
            return False
        self._insert(url, FAR if far else 0, LEFT, 0, None)
        return True

    def knows(self, url: str) -> bool:
        """Whether anything led there."""
        return self._db.execute("SELECT 1 FROM queue WHERE url = ?", (url,)).fetchone() is not None

    def _insert(self, url: str, depth: int, state: str, hops: int, changed: str | None) -> None:
        host = host_of(url)
        query = "INSERT INTO queue (url, host, depth, place, state, hops, changed) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(query, (url, host, depth, self._places, state, hops, changed))
        self._places += 1
        if state == WAITING:
            self.waiting[host] = self.waiting.get(host, 0) + 1

    def next(self, host: str, now: float) -> Entry | None:
        """The page of a host that is visited next; None while all have to wait."""
        query = """SELECT url, depth, hops, changed, tries, became IS NOT NULL, itself FROM queue
            WHERE state = 'waiting' AND host = ? AND due <= ? ORDER BY depth, place LIMIT 1"""
        row = self._db.execute(query, (host, now)).fetchone()
        if row is None:
            return None
        self._set(row[0], RUNNING)
        url, depth, hops, changed, tries, again, itself = row
        return Entry(
            url=url, depth=depth, hops=hops, changed=changed, tries=tries, again=bool(again), itself=bool(itself)
        )

    def next_due(self, host: str) -> float:
        """When the first of those that have to wait may be visited."""
        query = "SELECT MIN(due) FROM queue WHERE state = 'waiting' AND host = ?"
        found: float | None = self._db.execute(query, (host,)).fetchone()[0]
        return found or 0.0

    def depth_of(self, url: str) -> int:
        """As it is now: something nearer may have led there meanwhile."""
        depth: int = self._db.execute("SELECT depth FROM queue WHERE url = ?", (url,)).fetchone()[0]
        return depth

    def put_off(self, entry: Entry, due: float) -> None:
        """It is visited once more, not before that."""
        self._db.execute("UPDATE queue SET due = ?, tries = ? WHERE url = ?", (due, entry.tries + 1, entry.url))
        self._set(entry.url, WAITING)

    def done(self, entry: Entry, became: str, target: str | None = None) -> None:
        """It was visited. `target`: of a redirect, or of what says that it is a copy."""
        self._db.execute("UPDATE queue SET became = ?, target = ? WHERE url = ?", (became, target, entry.url))
        self._set(entry.url, DONE)
        self.visited += not entry.again

    def drop(self, host: str) -> int:
        """Pages of a host that are not visited in this run: what becomes of them is not known. Returns how many."""
        count = self.waiting.pop(host, 0)
        query = "UPDATE queue SET state = 'left', became = NULL WHERE state = 'waiting' AND host = ?"
        self._db.execute(query, (host,))
        return count

    def all_that(self, became: str) -> list[tuple[str, str]]:
        """Pages that became this, and have not been visited for themselves; with their targets, in order."""
        query = "SELECT url, target FROM queue WHERE became = ? AND NOT itself AND state = 'done' ORDER BY place"
        return self._db.execute(query, (became,)).fetchall()

    def count(self, became: str) -> int:
        """Pages that became this."""
        count: int = self._db.execute("SELECT COUNT(*) FROM queue WHERE became = ?", (became,)).fetchone()[0]
        return count

    def visit_itself(self, url: str) -> None:
        """Once more, for what it is by itself."""
        self._db.execute("UPDATE queue SET itself = 1, tries = 0, due = 0 WHERE url = ?", (url,))
        self._set(url, WAITING)

    def became(self, url: str) -> tuple[str | None, str | None]:
        """What became of a page that was visited, and its target."""
        row = self._db.execute("SELECT became, target FROM queue WHERE url = ?", (url,)).fetchone()
        return (row[0], row[1]) if row else (None, None)

    def _set(self, url: str, state: str) -> None:
        host = host_of(url)
        (before,) = self._db.execute("SELECT state FROM queue WHERE url = ?", (url,)).fetchone()
        self._db.execute("UPDATE queue SET state = ? WHERE url = ?", (state, url))
        self.waiting[host] = self.waiting.get(host, 0) + (state == WAITING) - (before == WAITING)
        if not self.waiting[host]:
            del self.waiting[host]
