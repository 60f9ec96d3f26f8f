"""What a verification must remember of a topic of any size, in a temporary database on disk."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from agents.scratch import Scratch
from streams.examine import Newest, Place

_TABLES = """
CREATE TABLE newest (doc TEXT, partition INT, offset INT, version INT, body BLOB, seen INT DEFAULT 0,
    PRIMARY KEY (doc, partition)) WITHOUT ROWID;
CREATE TABLE taken_up (doc TEXT, version INT, partition INT, offset INT, body BLOB, PRIMARY KEY (doc, version))
    WITHOUT ROWID;
CREATE TABLE letters (epoch INT, partition INT, offset INT, whole INT, PRIMARY KEY (epoch, partition, offset))
    WITHOUT ROWID;
CREATE TABLE unread (doc TEXT, partition INT, PRIMARY KEY (doc, partition)) WITHOUT ROWID;
CREATE TABLE coming (doc TEXT, partition INT, PRIMARY KEY (doc, partition)) WITHOUT ROWID;
CREATE TABLE entries (doc TEXT PRIMARY KEY, hi INT) WITHOUT ROWID;
CREATE TABLE suspects (doc TEXT, number INT, PRIMARY KEY (doc, number)) WITHOUT ROWID;
"""
MANY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A record that says what the index has to hold of its document, and where it is."""

    newest: Newest
    place: Place
    dead_lettered: bool = False


class Spool(Scratch):
    """Tables by document id. One thread; close it, or use it as a context."""

    def __init__(self) -> None:
        super().__init__(_TABLES)

    def add_letters(self, letters: Iterable[tuple[int, Place, bool]]) -> None:
        """Places of dead letters, with their epochs. With each whether it has the record, and no pointer to it."""
        rows = [(epoch, *place, whole) for epoch, place, whole in letters]
        self._db.executemany(
            "INSERT INTO letters VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET whole = max(whole, excluded.whole)", rows
        )

    def has_letter(self, epoch: int, place: Place) -> bool:
        """Whether the record at this place was dead-lettered, whatever became of it since."""
        query = "SELECT 1 FROM letters WHERE epoch = ? AND partition = ? AND offset = ?"
        return self._db.execute(query, (epoch, *place)).fetchone() is not None

    def has_whole_letter(self, epoch: int, place: Place) -> bool:
        """Whether a dead letter has the record of this place, and no pointer to it."""
        query = "SELECT 1 FROM letters WHERE epoch = ? AND partition = ? AND offset = ? AND whole"
        return self._db.execute(query, (epoch, *place)).fetchone() is not None

    def add_records(self, records: Iterable[tuple[str, Known]], *, dead_lettered: bool) -> None:
        """Valid records. Of those that were dead-lettered any may be in the index by now, of the others the newest.

        Of each partition: a key may have moved, or be on two for want of a partitioner.
        """
        rows = [(doc, *known.place, known.newest.version, _to_body(known.newest)) for doc, known in records]
        if dead_lettered:
            self._db.executemany(
                "INSERT OR REPLACE INTO taken_up (doc, partition, offset, version, body) VALUES (?, ?, ?, ?, ?)", rows
            )
        else:
            self._db.executemany(
                "INSERT INTO newest (doc, partition, offset, version, body) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (doc, partition) DO UPDATE SET offset = excluded.offset, version = excluded.version, "
                "body = excluded.body WHERE excluded.version > version",
                rows,
            )

    def add_unread(self, doc: str, partition: int) -> None:
        """The document, by its key, of a record in which none can be read."""
        self._db.execute("INSERT OR IGNORE INTO unread VALUES (?, ?)", (doc, partition))

    def is_unread(self, doc: str, partition: int) -> bool:
        """Whether the partition has such a record about this document."""
        query = "SELECT 1 FROM unread WHERE doc = ? AND partition = ?"
        return self._db.execute(query, (doc, partition)).fetchone() is not None

    def known(self, docs: Sequence[str]) -> dict[str, list[Known]]:
        """Of each document the newest record of each partition that was not dead-lettered, then those that were.

        Both from the newest on.
        """
        found: dict[str, list[Known]] = {doc: [] for doc in docs}
        for table in ("newest", "taken_up"):
            query = f"""SELECT doc, partition, offset, version, body FROM {table} WHERE doc IN ({_marks(docs)})
                ORDER BY version DESC"""  # noqa: S608 - placeholders only
            for doc, partition, offset, version, body in self._db.execute(query, docs):
                newest = _from_body(body, partition, version)
                found[doc].append(Known(newest=newest, place=(partition, offset), dead_lettered=table == "taken_up"))
        return found

    def add_entries(self, entries: Iterable[tuple[str, int]]) -> None:
        """Documents that the registry knows, with the chunk number from which on there can be none."""
        rows = list(entries)
        self._db.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", rows)
        self._db.executemany("UPDATE newest SET seen = 1 WHERE doc = ?", [(doc,) for doc, _ in rows])

    def add_coming(self, docs: Iterable[str], partition: int) -> None:
        """Documents, by their keys, of records that are not settled yet."""
        self._db.executemany("INSERT OR IGNORE INTO coming VALUES (?, ?)", [(doc, partition) for doc in docs])

    def coming(self, doc: str) -> frozenset[int]:
        """Partitions with such records of this document."""
        found = self._db.execute("SELECT partition FROM coming WHERE doc = ?", (doc,))
        return frozenset(partition for (partition,) in found)

    def highest(self, docs: Sequence[str]) -> dict[str, int]:
        """`hi` of those documents that the registry knows."""
        query = f"SELECT doc, hi FROM entries WHERE doc IN ({_marks(docs)})"  # noqa: S608 - placeholders only
        return dict(self._db.execute(query, docs).fetchall())

    def unseen(self) -> Iterator[list[str]]:
        """Documents of the topic that the registry does not know, some at a time."""
        cursor = self._db.execute("SELECT DISTINCT doc FROM newest WHERE seen = 0")
        while rows := cursor.fetchmany(MANY):
            yield [doc for (doc,) in rows]

    def suspect(self, doc: str, numbers: Iterable[int] = (-1,)) -> None:
        """Look at this document again, and at these chunks of it."""
        self._db.executemany("INSERT OR IGNORE INTO suspects VALUES (?, ?)", [(doc, number) for number in numbers])

    @property
    def suspected(self) -> int:
        """How many documents are to be looked at again."""
        return int(self._db.execute("SELECT COUNT(DISTINCT doc) FROM suspects").fetchone()[0])

    def suspects(self) -> Iterator[tuple[str, list[int]]]:
        """Every document to look at again, with the chunk numbers named for it."""
        cursor = self._db.execute("SELECT DISTINCT doc FROM suspects ORDER BY doc")
        for (doc,) in iter(cursor.fetchone, None):
            rows = self._db.execute("SELECT number FROM suspects WHERE doc = ? AND number >= 0", (doc,))
            yield doc, [number for (number,) in rows]


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _to_body(newest: Newest) -> bytes:
    return orjson.dumps([newest.content_hash, newest.hashes, newest.places, newest.told, newest.model])


def _from_body(body: bytes, partition: int, version: int) -> Newest:
    content_hash, hashes, places, told, model = orjson.loads(body)
    return Newest(
        partition=partition,
        version=version,
        content_hash=content_hash,
        hashes=tuple(hashes),
        places=tuple((start, end, page, last, heading) for start, end, page, last, heading in places),
        told=tuple((language, tuple(flags), signature) for language, flags, signature in told),
        model=model,
    )
