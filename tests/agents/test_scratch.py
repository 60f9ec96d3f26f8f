"""A temporary database on a disk that is full."""

import sqlite3

import pytest

from agents.scratch import Scratch
from streams.errors import PenstockError


class Small(Scratch):
    """Of twenty pages: what SQLite says of a bound of its own is what it says of a disk."""

    def __init__(self) -> None:
        super().__init__("CREATE TABLE kept (text TEXT);")
        self._db.execute("PRAGMA max_page_count = 20")

    def keep(self, count: int) -> None:
        """So many rows of a kilobyte."""
        self._db.executemany("INSERT INTO kept VALUES (?)", [("x" * 1024,)] * count)

    def ask(self, query: str) -> None:
        """Any."""
        self._db.execute(query)


def test_a_full_disk_is_said_with_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", "/var/full")
    with Small() as small:
        small.keep(10)
        with pytest.raises(PenstockError, match=r"SQLITE_TMPDIR=/var/full \(database or disk is full\): make room"):
            small.keep(200)
        with pytest.raises(sqlite3.OperationalError, match="syntax error"):
            small.ask("no query")
