"""A temporary database on disk, for what may not fit into memory.

SQLite's own: its file has no name any more once it is open, so that nothing is left however the process ends. It is in
SQLITE_TMPDIR or TMPDIR, else in /var/tmp or /tmp.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Self

from streams.errors import PenstockError

CACHE_KIB = 64 * 1024
"""What a database keeps in memory, at most."""


class Scratch:
    """`self._db`, with these tables. One thread; close it, or use it as a context.

    Raises PenstockError where the disk is full.
    """

    def __init__(self, tables: str) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False, factory=_Database)
        self._db.executescript(
            "PRAGMA temp_store=FILE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; "
            f"PRAGMA cache_size=-{CACHE_KIB}; {tables}"
        )
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Twice is harmless."""
        self._db.close()


class _Database(sqlite3.Connection):
    """It says where there is no room."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return _with_room(super().execute, sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        return _with_room(super().executemany, sql, parameters)


def _with_room(execute: Callable[..., sqlite3.Cursor], sql: str, parameters: Any) -> sqlite3.Cursor:
    try:
        return execute(sql, parameters)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            raise
        named = next((name for name in ("SQLITE_TMPDIR", "TMPDIR") if name in os.environ), None)
        where = f"{named}={os.environ[named]}" if named else "the folder of temporary files"
        raise PenstockError(
            f"no room for a temporary database in {where} ({exc}): make room there, or set SQLITE_TMPDIR to a folder "
            "with more, and run it again"
        ) from exc
