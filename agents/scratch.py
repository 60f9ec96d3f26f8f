"""A temporary database on disk, for what may not fit into memory.

SQLite's own: its file has no name any more once it is open, so that nothing is left however the process ends. It is in
SQLITE_TMPDIR or TMPDIR, else in /var/tmp or /tmp.
"""

import sqlite3
from typing import Self


class Scratch:
    """`self._db`, with these tables. One thread; close it, or use it as a context."""

    def __init__(self, tables: str) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(
            "PRAGMA temp_store=FILE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;"
            + tables
        )
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Twice is harmless."""
        self._db.close()
