"""What was published of each source: a compacted topic, and all of it at hand in a temporary database on disk.

Rows of the topic are written in the transaction of the records that they are about, by `agents.sources.publish`:

    ["object", source, object]   {"tag", "log", "version"?}                                  all of it was published
    ["document", doc]            {"source", "object", "hash", "log", "partition", "offset", "named"}  its newest record
    ["events", source, topic]    {"log", "of", "offsets"}         up to where notifications of changes led to records

Pages of sites have rows of their own: `agents.sources.pages`. So has what failed: `agents.sources.failures`.

`of` is the log of that topic. `log` is that of the source topic (`Described.log`): what was published to another one is
in no topic now, so that the object is fetched again, its documents are published again, and the place in notifications
is void. Whose a document is stays, and so does `named`: by which options it got its id (`Ids.told`).

Of a stream, which is read on and on, how far that is: `agents.sources.kinesis.memory` says what is in these.

    ["stream", source]           when it was begun with
    ["shard", source, shard]     how far a shard was read
    ["missed", source, …]        what was not published, and why
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import orjson

from agents.clock import Deadline
from agents.kafka.reader import LogReader
from agents.scratch import Scratch
from agents.sources import Listed
from agents.sources import failures as failed_objects
from agents.sources.failures import Failures
from agents.sources.notifications import Place
from agents.sources.pages import TABLES, Pages
from streams.errors import AwayError, ConfigError

Row = tuple[bytes, bytes | None]
"""Key and value of a record of the topic."""

_TABLES = """
CREATE TABLE objects (source TEXT, object TEXT, tag TEXT, PRIMARY KEY (source, object)) WITHOUT ROWID;
CREATE TABLE documents (
    doc TEXT PRIMARY KEY, source TEXT, object TEXT, hash TEXT, partition INT, offset INT, named TEXT
) WITHOUT ROWID;
CREATE INDEX documents_by_object ON documents (source, object);
CREATE TABLE listed (object TEXT PRIMARY KEY, tag TEXT, size INT, place INT, read TEXT DEFAULT 'no') WITHOUT ROWID;
CREATE INDEX listed_by_place ON listed (place);
CREATE TABLE places (source TEXT, topic TEXT, value BLOB, PRIMARY KEY (source, topic)) WITHOUT ROWID;
CREATE TABLE failed (object TEXT PRIMARY KEY, tag TEXT, times INT, due INT) WITHOUT ROWID;
CREATE TABLE seen (doc TEXT PRIMARY KEY, object TEXT) WITHOUT ROWID;
CREATE TABLE streams (key BLOB PRIMARY KEY, source TEXT, value BLOB) WITHOUT ROWID;
"""
UNCHANGED = """EXISTS (SELECT 1 FROM objects
    WHERE source = ? AND objects.object = listed.object AND objects.tag = listed.tag)"""
LEFT_OUT, GONE = "left out", "gone"
GONE_OF_ALL = "object NOT IN (SELECT object FROM listed)"
GONE_OF_SOME = "object IN (SELECT '' UNION ALL SELECT object FROM listed WHERE read = 'gone')"
MAX_LISTINGS = 2**62
NOWHERE = ""
"""In place of the object, of a document that it does not have any more."""
MANY = 500
LONGEST_PUT_OFF = 64
"""Listings."""
OPEN_S = 90.0
"""Longer than Kafka lets a transaction of ours be open."""
LOOK_S = 0.2
SMALL = {"segment.bytes": str(16 * 1024**2), "segment.ms": str(3600 * 1000)}
"""Of the topic's segments: the newest is never compacted, and a stream adds a row with each transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Objects to fetch, and others."""

    changed: int
    unchanged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The newest record of a document: its source and object, its hash, its place. No hash: it is in another log.

    `named`: by which options it got its id, as `Ids.told`.
    """

    source: str
    object: str
    hash: str | None
    partition: int = -1
    offset: int = -1
    named: str | None = None


@dataclass(frozen=True, slots=True)
class NamedOtherwise:
    """Documents of a source that got their ids by other options: how many, one of them, and its `named`."""

    count: int
    doc: str
    named: str


def hash_of(value: bytes) -> str:
    """Of a record's value: 128 bits of SHA-256."""
    return hashlib.sha256(value).hexdigest()[:32]


class State(Scratch):
    """Of all sources, and the listing of one. One thread; close it, or use it as a context."""

    def __init__(self, log: str) -> None:
        """`log`: of the source topic as it is now."""
        self.log = log
        self._places = self._listings = 0
        self._partial, self._gone = False, GONE_OF_ALL
        super().__init__(_TABLES + TABLES + failed_objects.TABLES)
        self.pages = Pages(self._db, log)
        self.failures = Failures(self._db, log)

    def take(self, rows: Iterable[Row]) -> None:
        """What these rows of the topic say, in its order."""
        for key, value in rows:
            match orjson.loads(key):
                case ["object", source, name]:
                    self._take_object(source, name, value)
                case ["document", doc]:
                    self._take_document(doc, value)
                case ["page" | "visit" | "crawl", *_] as told:
                    self.pages.take(told, value)
                case ["failure", _, _] as told:
                    self.failures.take(told, value)
                case ["events", source, topic]:
                    self._db.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (source, topic, value))
                case ["stream" | "shard" | "missed", source, *_] if value is None:
                    self._db.execute("DELETE FROM streams WHERE key = ?", (key,))
                case ["stream" | "shard" | "missed", source, *_]:
                    self._db.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?)", (key, source, value))

    def _take_object(self, source: str, name: str, value: bytes | None) -> None:
        told = orjson.loads(value) if value else {}
        if told.get("log") == self.log:
            self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (source, name, told["tag"]))
        else:
            self._db.execute("DELETE FROM objects WHERE source = ? AND object = ?", (source, name))

    def _take_document(self, doc: str, value: bytes | None) -> None:
        if value is None:
            self._db.execute("DELETE FROM documents WHERE doc = ?", (doc,))
            return
        told = orjson.loads(value)
        known = told["hash"] if told["log"] == self.log else None
        self._db.execute(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
            (doc, told["source"], told["object"], known, told["partition"], told["offset"], told.get("named")),
        )

    def object_row(self, source: str, name: str, tag: str | None, version: str | None = None) -> Row:
        """To write when all of an object was published; no tag: it is gone."""
        told = {"tag": tag, "log": self.log} | ({"version": version} if version else {})
        return orjson.dumps(["object", source, name]), None if tag is None else orjson.dumps(told)

    def document_row(self, doc: str, published: Published) -> Row:
        """To write with a document's record, or when it is another object's now."""
        return document_key(doc), orjson.dumps(
            {
                "source": published.source,
                "object": published.object,
                "hash": published.hash,
                "log": self.log,
                "partition": published.partition,
                "offset": published.offset,
                "named": published.named,
            }
        )

    def deleted_row(self, doc: str) -> Row:
        """To write with the tombstone of a document."""
        return document_key(doc), None

    def place_row(self, source: str, topic: str, place: Place) -> Row:
        """To write with the last records that notifications up to this place led to."""
        offsets = {str(partition): offset for partition, offset in place.offsets.items()}
        value = orjson.dumps({"log": self.log, "of": place.log, "offsets": offsets})
        return orjson.dumps(["events", source, topic]), value

    def place(self, source: str, topic: str) -> Place | None:
        """Up to where notifications led to what was published; None where that is not known."""
        query = "SELECT value FROM places WHERE source = ? AND topic = ? AND value IS NOT NULL"
        row = self._db.execute(query, (source, topic)).fetchone()
        told = orjson.loads(row[0]) if row else {}
        if told.get("log") != self.log:
            return None
        return Place(log=told["of"], offsets={int(number): offset for number, offset in told["offsets"].items()})

    def stream_rows(self, source: str) -> list[tuple[bytes, bytes]]:
        """Rows of a stream and its shards, also those that are about another log; by key."""
        query = "SELECT key, value FROM streams WHERE source = ? ORDER BY key"
        return self._db.execute(query, (source,)).fetchall()

    def begin_listing(self, *, partial: bool = False) -> None:
        """Of one source; of the one before nothing is kept. `partial`: what is not listed is as it was."""
        self._gone = GONE_OF_SOME if partial else GONE_OF_ALL
        self._partial = partial
        self._db.execute("DELETE FROM listed")
        self._db.execute("DELETE FROM seen")
        self.failures.begin()
        self._places = 0
        self._listings += not partial

    def add_listed(self, listed: Listed) -> bool:
        """An object; it is fetched after those that were added before. False where it is listed as another one, too."""
        before = self._db.execute("SELECT tag FROM listed WHERE object = ?", (listed.id,)).fetchone()
        query = "INSERT OR REPLACE INTO listed (object, tag, size, place) VALUES (?, ?, ?, ?)"
        self._db.execute(query, (listed.id, listed.tag, listed.size, self._places))
        self._places += 1
        return before is None or before[0] == listed.tag

    def add_gone(self, name: str) -> None:
        """An object that was looked for in a partial listing, and is none."""
        self._db.execute("INSERT OR REPLACE INTO listed (object, read) VALUES (?, ?)", (name, GONE))

    def is_listed(self, name: str) -> bool:
        """Whether it was looked at: there, gone, or left out."""
        return self._db.execute("SELECT 1 FROM listed WHERE object = ?", (name,)).fetchone() is not None

    def is_away(self, name: str) -> bool:
        """Whether it is not there now, or left out."""
        row = self._db.execute("SELECT read FROM listed WHERE object = ?", (name,)).fetchone()
        return row is None or row[0] in (GONE, LEFT_OUT)

    def leave_out(self, source: str, excludes: Callable[[str], bool]) -> None:
        """Objects that were published before, and are excluded now: they are neither fetched nor gone."""
        for name in self.unlisted(source):
            if excludes(name):
                self._db.execute("INSERT INTO listed (object, read) VALUES (?, ?)", (name, LEFT_OUT))

    def unlisted(self, source: str) -> Iterator[str]:
        """Objects that were published before, and are not listed now."""
        query = """SELECT object FROM (
                SELECT object FROM objects WHERE source = ?1 UNION SELECT object FROM documents WHERE source = ?1)
            WHERE object > ?2 AND object NOT IN (SELECT object FROM listed) ORDER BY object LIMIT ?3"""
        last = NOWHERE
        while rows := self._db.execute(query, (source, last, MANY)).fetchall():
            yield from (name for (name,) in rows)
            last = rows[-1][0]

    def compare(self, source: str, *, again: bool) -> Listing:
        """The listing beside what was published of the source. `again`: what is unchanged counts as changed."""
        query = f"SELECT COUNT(place), COALESCE(SUM({UNCHANGED}), 0) FROM listed"  # noqa: S608 - a constant
        listed, unchanged = self._db.execute(query, (source,)).fetchone()
        unchanged = 0 if again else unchanged
        return Listing(changed=listed - unchanged, unchanged=unchanged)

    def documents(self, source: str) -> int:
        """How many there are of the source."""
        count: int = self._db.execute("SELECT COUNT(*) FROM documents WHERE source = ?", (source,)).fetchone()[0]
        return count

    def named_otherwise(self, source: str, named: str) -> NamedOtherwise | None:
        """Documents of the source that got their ids by other options than these; None when there are none."""
        query = "SELECT COUNT(*), MIN(doc) FROM documents WHERE source = ? AND named != ?"
        count, doc = self._db.execute(query, (source, named)).fetchone()
        if not count:
            return None
        before = self._db.execute("SELECT named FROM documents WHERE doc = ?", (doc,)).fetchone()[0]
        return NamedOtherwise(count, doc, before)

    def to_fetch(self, source: str, *, again: bool) -> Iterator[Listed]:
        """Objects that changed or are new, or all of them, in the listing's order."""
        query = f"""SELECT object, tag, size, place FROM listed WHERE place > ? AND (? OR NOT {UNCHANGED})
            AND NOT EXISTS (
                SELECT 1 FROM failed WHERE failed.object = listed.object AND failed.tag = listed.tag AND due > ?)
            ORDER BY place LIMIT ?"""  # noqa: S608 - a constant
        place, since = -1, MAX_LISTINGS if self._partial else self._listings  # what is told of is looked at in any case
        while rows := self._db.execute(query, (place, again, source, since, MANY)).fetchall():
            yield from (Listed(id=name, tag=tag, size=size) for name, tag, size, _ in rows)
            place = rows[-1][3]

    def put_off(self, listed: Listed, *, failed: bool) -> None:
        """What failed again and again as it is now is fetched after 1, 2, 4… more listings; what did not, at once."""
        query = "SELECT times FROM failed WHERE object = ? AND tag = ?"
        found = self._db.execute(query, (listed.id, listed.tag)).fetchone()
        self._db.execute("DELETE FROM failed WHERE object = ?", (listed.id,))
        if failed:
            times = found[0] + 1 if found else 0
            row = (listed.id, listed.tag, times, self._listings + min(2**times, LONGEST_PUT_OFF))
            self._db.execute("INSERT INTO failed VALUES (?, ?, ?, ?)", row)

    def published(self, doc: str) -> Published | None:
        """What was published of a document, by whichever source; None when nothing was."""
        query = "SELECT source, object, hash, partition, offset, named FROM documents WHERE doc = ?"
        row = self._db.execute(query, (doc,)).fetchone()
        fields = ("source", "object", "hash", "partition", "offset", "named")
        return row and Published(**dict(zip(fields, row, strict=True)))

    def see(self, doc: str, name: str) -> str:
        """An object has the document. Returns the one in which it was seen first."""
        self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (doc, name))
        first: str = self._db.execute("SELECT object FROM seen WHERE doc = ?", (doc,)).fetchone()[0]
        return first

    def may_have_left(self, source: str, name: str, *, again: bool) -> bool:
        """Whether a document that this object had may be another one's now.

        It is not there any more, is left out or still to be read, or was read, all of it; and so the document was not
        seen there.
        """
        query = """SELECT read, tag = (SELECT tag FROM objects WHERE source = ? AND object = ?)
            FROM listed WHERE object = ?"""
        row = self._db.execute(query, (source, name, name)).fetchone()
        return row is None or row[0] in ("all", LEFT_OUT, GONE) or (row[0] == "no" and (again or not row[1]))

    def was_read(self, name: str, *, whole: bool) -> None:
        """An object was, whole or in part: what it has not, of what it had, is gone from it, or may be there still."""
        self._db.execute("UPDATE listed SET read = ? WHERE object = ?", ("all" if whole else "in part", name))

    def left(self, source: str, name: str) -> Iterator[tuple[str, Published]]:
        """Documents that an object had when it was read before, and was read without now."""
        query = """SELECT doc, hash, partition, offset, named FROM documents WHERE source = ? AND object = ? AND doc > ?
            AND doc NOT IN (SELECT doc FROM seen) ORDER BY doc LIMIT ?"""
        last = ""
        while rows := self._db.execute(query, (source, name, last, MANY)).fetchall():
            for doc, known, partition, offset, named in rows:
                place = {"partition": partition, "offset": offset}
                yield doc, Published(source=source, object=NOWHERE, hash=known, named=named, **place)
            last = rows[-1][0]

    def gone(self, source: str) -> Iterator[str]:
        """Documents of the source that nothing has any more: their object is not listed, or they left it."""
        query = f"""SELECT doc FROM documents WHERE source = ? AND {self._gone}
            AND doc NOT IN (SELECT doc FROM seen) AND doc > ? ORDER BY doc LIMIT ?"""  # noqa: S608 - a constant
        last = ""
        while rows := self._db.execute(query, (source, last, MANY)).fetchall():
            yield from (doc for (doc,) in rows)
            last = rows[-1][0]

    def mended(self, source: str, *, complete: bool) -> Iterator[str]:
        """Objects that failed before, and do not any more: gone, or back as they were published.

        `complete`: all was listed, so that what is not there, or left out, is gone too.
        """
        query = f"""SELECT object FROM failures WHERE source = ? AND object > ?
            AND object NOT IN (SELECT object FROM failing)
            AND (object IN (SELECT object FROM listed WHERE read = 'gone' OR {UNCHANGED})
                OR (? AND object NOT IN (SELECT object FROM listed WHERE read <> 'left out')))
            ORDER BY object LIMIT ?"""  # noqa: S608 - a constant
        last = ""
        while rows := self._db.execute(query, (source, last, source, complete, MANY)).fetchall():
            yield from (name for (name,) in rows)
            last = rows[-1][0]

    def gone_objects(self, source: str) -> Iterator[str]:
        """Objects that are not listed any more, of which something was remembered."""
        query = f"""SELECT object FROM objects WHERE source = ? AND {self._gone}
            AND object > ? ORDER BY object LIMIT ?"""  # noqa: S608 - a constant
        last = ""
        while rows := self._db.execute(query, (source, last, MANY)).fetchall():
            yield from (name for (name,) in rows)
            last = rows[-1][0]


def document_key(doc: str) -> bytes:
    """Of its row."""
    return orjson.dumps(["document", doc])


class StateTopic:
    """The topic, read from where it was read before."""

    def __init__(self, reader: LogReader, topic: str, partitions: int, log: str = "") -> None:
        """`partitions`: 0 where there is no such topic."""
        self.log = log
        self._reader = reader
        self._topic = topic
        self._next = dict.fromkeys(range(partitions), 0)

    async def read_into(self, state: State) -> None:
        """What was written up to now, to its end: a transaction that somebody has open there is waited for.

        Of another source, that is: whoever publishes for this one has begun to before, so that none of it is open.
        Raises AwayError where it stays open.
        """
        ends = await self._reader.written(self._topic, self._next)
        deadline = Deadline(OPEN_S)
        for partition, end in ends.items():
            while self._next[partition] < end:
                bounds = (await self._reader.bounds(self._topic, [partition]))[partition]
                offset = max(self._next[partition], bounds.begin)
                if offset < bounds.end:
                    page = await self._reader.page(self._topic, partition, offset, bounds.end)
                    state.take((record.key or b"[]", record.value) for record in page.records)
                    self._next[partition] = page.position
                elif deadline.left_s:
                    await asyncio.sleep(LOOK_S)
                else:
                    raise AwayError(
                        f"a transaction of another source is open in {self._topic} for {OPEN_S:.0f} s: run it again"
                    )


async def state_topic(reader: LogReader, topic: str, *, make: bool) -> StateTopic:
    """`make` it when it is missing. Raises ConfigError for one that is not compacted."""
    found = await reader.describe(topic)
    if found is None and not make:
        return StateTopic(reader, topic, 0)
    if found is None:
        await reader.create_topic(topic, 1, {"cleanup.policy": "compact", **SMALL})
        found = await reader.require_topic(topic)
    elif (policy := (await reader.configs(topic)).get("cleanup.policy", "compact")) != "compact":
        raise ConfigError(
            f"the topic {topic} remembers what was published, and its cleanup.policy is {policy}: what is older than "
            f"its retention would be forgotten; set it to compact (`kafka-configs.sh --alter --topic {topic} "
            "--add-config cleanup.policy=compact`)"
        )
    return StateTopic(reader, topic, found.partitions, found.log)
