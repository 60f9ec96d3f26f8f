"""Objects that could not be fetched, or made documents of: a part of `agents.sources.state`, in the same topic.

    ["failure", source, object]    {"log", "tag", "error", "reason"}    it failed when it was tried last

A row stands until the object was published, or is gone from the source. It is written with a dead letter about the
object, in one transaction, and both only where the object failed otherwise than before: with other bytes, for another
reason, or on its way to another log.
"""

import sqlite3
from collections.abc import Mapping, Sequence

import orjson

from agents.kafka.reader import LogReader
from streams.dead_letter import Failed, cut

TABLES = """
CREATE TABLE failures (source TEXT, object TEXT, value BLOB, PRIMARY KEY (source, object)) WITHOUT ROWID;
CREATE TABLE failing (object TEXT PRIMARY KEY) WITHOUT ROWID;
"""
KEY = b'["failure",'
"""Begins the key of a row, and of no other."""

Row = tuple[bytes, bytes | None]


class Failures:
    """Of all sources, and what failed in the run of one. Its tables are of the database of `State`."""

    def __init__(self, db: sqlite3.Connection, log: str) -> None:
        """`log`: as `State`."""
        self._db = db
        self._log = log

    def take(self, key: Sequence[str], value: bytes | None) -> None:
        """What a row says."""
        _, source, name = key
        if value is None:
            self._db.execute("DELETE FROM failures WHERE source = ? AND object = ?", (source, name))
        else:
            self._db.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (source, name, value))

    def begin(self) -> None:
        """A run of one source."""
        self._db.execute("DELETE FROM failing")

    def row(self, failed: Failed) -> Row:
        """To write with its dead letter."""
        told = {"log": self._log, "tag": failed.tag, "error": failed.error, "reason": cut(failed.reason)}
        return failure_key(failed.source, failed.object), orjson.dumps(told)

    def add(self, failed: Failed, *, again: bool) -> bool:
        """An object fails in this run. Whether to write that: once in a run, and what stands so only `again`."""
        if self._fails(failed.object):
            return False
        self._db.execute("INSERT INTO failing VALUES (?)", (failed.object,))
        return again or self._standing(failed.source, failed.object) != self.row(failed)[1]

    def is_over(self, source: str, name: str) -> bool:
        """Whether a failure stands of an object, and it does not fail in this run."""
        return not self._fails(name) and self._standing(source, name) is not None

    def _fails(self, name: str) -> bool:
        return self._db.execute("SELECT 1 FROM failing WHERE object = ?", (name,)).fetchone() is not None

    def _standing(self, source: str, name: str) -> bytes | None:
        query = "SELECT value FROM failures WHERE source = ? AND object = ?"
        row = self._db.execute(query, (source, name)).fetchone()
        return row[0] if row else None


def failure_key(source: str, name: str) -> bytes:
    """Of its row."""
    return orjson.dumps(["failure", source, name])


async def standing(reader: LogReader, topic: str) -> Mapping[tuple[str, str], str] | None:
    """The log of each failure that stands, by source and object; None where there is no such topic to be seen.

    Reads all of the state topic, up to the first transaction that is open.
    """
    found: dict[tuple[str, str], str] = {}
    count = await reader.partitions(topic)
    if count is None:
        return None
    async for page, _ in reader.pages(topic, count):
        for record in page.records:
            if not (record.key or b"").startswith(KEY):
                continue
            _, source, name = orjson.loads(record.key or b"")
            found.pop((source, name), None)
            if record.value is not None:
                found[source, name] = orjson.loads(record.value)["log"]
    return found
