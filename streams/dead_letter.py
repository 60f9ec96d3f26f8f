"""A dead letter: a record that could not be processed, as it was received, with why in its headers.

The headers are those of Kafka Connect's error reporter (KIP-298), and of our own the attempt, the epoch that the record
belongs to, the index that it was rejected for, the log that it is in, and, where the topic did not take the value, its
hash. They come last, after the record's own, which may have the same names.

A letter is about one incarnation of an index, and one log:

    this very index                     as it stands, at its own epoch
    another index, but this very log    an earlier one, or another generation: its epoch is computed anew from its place
    anything else                       foreign: its epoch and offset mean nothing here; never replayed

A letter about a row of a snapshot has the snapshot's place, as all its rows have: which one it is, a header tells.

A letter of stage `source` is about an object from which no record came: a file, a page. It has the object's URI for
its key and no value, and a place that is none; the object is in its source still, and `penstock ingest` takes it up.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from streams.contract import this_very_log
from streams.epochs import Epochs, epoch_of_version
from streams.form import OWN_FORM, Form
from streams.ids import version
from streams.record import Record, Rejected
from streams.registry import Entry
from streams.snapshot import TWICE, is_row, origin_of

Headers = list[tuple[str, bytes | None]]
Standing = Literal["open", "resolved", "superseded", "foreign"]
Origin = Literal["own", "earlier", "foreign"]

CONNECT = "__connect.errors."
ATTEMPT = "penstock.attempt"
EPOCH = "penstock.epoch"
INDEX = "penstock.index"
LOG = "penstock.log"
SHA256 = "penstock.value.sha256"
BYTES = "penstock.value.bytes"
KEY_SHA256 = "penstock.key.sha256"
SOURCE = "penstock.source"
TAG = "penstock.source.tag"
SOURCE_STAGE = "source"
NO_PLACE = -1
"""Partition and offset of a record that there is none of."""
MAX_MESSAGE = 1000
"""Characters of a message, where the dead-letter topic takes no more than a pointer."""
MAX_REASON_BYTES = 600
"""Of why an object failed: with URIs as long as S3 has them its letter is a pointer of 4 KB, like the others."""
TOPIC = CONNECT + "topic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What letters are about, or looked at from: an index by its own id, the log that it holds, and its epochs.

    `group`: the consumer group that feeds it.
    """

    group: str
    index: str
    log: str
    epochs: Epochs = field(default_factory=Epochs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An object that could not be fetched, or made documents of. `source`: whose, by its URI. `object`: its own URI.

    `tag`: another one when its bytes changed; empty where that is not known. `error`: the kind; `reason`: for people.
    """

    source: str
    object: str
    tag: str
    error: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter. `record`: as it was in its own topic, without our headers.

    `at_ms`: when it was written, epoch milliseconds. `left_out`: sha256 of a value that was too large to keep;
    `key_left_out`: of a key that was, and then the own headers are left out too. `group`, `index`, `log`: where
    it was rejected; None where it does not say. `origin`: seen from `placed`'s home. `source`, `tag`: of an object.
    """

    record: Record
    stage: str
    error: str
    message: str
    attempt: int
    epoch: int
    at_ms: int
    left_out: str | None = None
    key_left_out: str | None = None
    group: str | None = None
    index: str | None = None
    log: str | None = None
    origin: Origin = "own"
    source: str | None = None
    tag: str | None = None
    doc_id: str | None = None
    """The document, or the object of a source; None where it cannot be read."""

    @property
    def about(self) -> tuple[object, ...]:
        """What tells it from letters of other records, and of other objects and rows: these have no place of their
        own."""
        if self.source is not None:
            return self.source, self.record.key
        return (self.epoch, *self.place) if self.row is None else (self.epoch, *self.place, self.row)

    @property
    def row(self) -> str | None:
        """File and row, of a letter about a row of a snapshot."""
        return origin_of(self.record) if is_row(self.record) else None

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset of the record in its own topic."""
        return self.record.partition, self.record.offset

    @property
    def version(self) -> int:
        """Of everything that the record would write."""
        return version(self.epoch, self.record.offset)


def headers_of(rejected: Rejected, *, home: Home, attempt: int, epoch: int) -> Headers:
    """What comes after the record's own headers. `home`: where it was rejected."""
    record = rejected.record
    values = {
        TOPIC: record.topic,
        CONNECT + "partition": str(record.partition),
        CONNECT + "offset": str(record.offset),
        CONNECT + "connector.name": home.group,
        CONNECT + "task.id": str(record.partition),
        CONNECT + "stage": rejected.stage,
        CONNECT + "class.name": f"streams.{rejected.stage}",
        CONNECT + "exception.class.name": rejected.error,
        CONNECT + "exception.message": rejected.message,
        CONNECT + "exception.stacktrace": f"{rejected.error}: {rejected.message}",
        ATTEMPT: str(attempt),
        EPOCH: str(epoch),
        INDEX: home.index,
        LOG: home.log,
    }
    return [(name, value.encode()) for name, value in values.items()]


def headers_of_object(failed: Failed, *, topic: str, group: str, log: str) -> Headers:
    """Of the letter about an object: all that it has beside its key, and of no index.

    `topic`: where its documents would have gone; `log`: that topic as it is now.
    """
    reason = cut(failed.reason)
    values = {
        TOPIC: topic,
        CONNECT + "partition": str(NO_PLACE),
        CONNECT + "offset": str(NO_PLACE),
        CONNECT + "connector.name": group,
        CONNECT + "task.id": str(NO_PLACE),
        CONNECT + "stage": SOURCE_STAGE,
        CONNECT + "class.name": "agents.sources",
        CONNECT + "exception.class.name": failed.error,
        CONNECT + "exception.message": reason,
        CONNECT + "exception.stacktrace": f"{failed.error}: {reason}",
        ATTEMPT: "1",
        LOG: log,
        SOURCE: failed.source,
        TAG: failed.tag,
    }
    return [(name, value.encode()) for name, value in values.items()]


def cut(reason: str) -> str:
    """As much of it as a letter about an object has; what is not UTF-8 in it is replaced."""
    return reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")


def pointer_to(record: Record) -> Headers:
    """In place of a value that the dead-letter topic does not take; it is still where the other headers say."""
    value = record.value or b""
    return [(SHA256, _sha256(value).encode()), (BYTES, str(len(value)).encode())]


def pointer_to_all(rejected: Rejected, *, home: Home, attempt: int, epoch: int) -> Headers:
    """In place of a record whose key or headers the dead-letter topic does not take: some 3 KB, whatever it is."""
    cut = replace(rejected, message=rejected.message[:MAX_MESSAGE])
    headers = headers_of(cut, home=home, attempt=attempt, epoch=epoch)
    return [*headers, *pointer_to(rejected.record), (KEY_SHA256, _sha256(rejected.record.key or b"").encode())]


def made_whole(letter: Letter, record: Record | None, form: Form = OWN_FORM) -> Letter | None:
    """With what was left out, from the record that is at its place now; None when that is another one, or none."""
    if letter.left_out is None:
        return letter
    if record is None or record.offset != letter.record.offset or _sha256(record.value or b"") != letter.left_out:
        return None
    whole = replace(letter.record, value=record.value)
    if letter.key_left_out is not None:
        if _sha256(record.key or b"") != letter.key_left_out:
            return None
        whole = replace(whole, key=record.key, headers=record.headers)
    return replace(letter, record=whole, doc_id=form.doc_id(whole))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_letter(
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
    at_ms: int,
    form: Form = OWN_FORM,
) -> Letter:
    """Inverse of `headers_of`. Raises ValueError for a record that is not a dead letter of Penstock.

    Ours come last and begin with the topic. What is before them belongs to the record, whatever its names: it may
    have been a dead letter itself once.
    """
    headers = list(headers)
    names = [name for name, _ in headers]
    first = len(names) - 1 - names[::-1].index(TOPIC) if TOPIC in names else len(names)
    told = {name: (raw or b"").decode(errors="replace") for name, raw in headers[first:]}
    try:
        record = Record(
            topic=told[TOPIC],
            partition=int(told[CONNECT + "partition"]),
            offset=int(told[CONNECT + "offset"]),
            timestamp_ms=at_ms,
            key=key,
            value=value,
            headers=tuple(headers[:first]),
        )
        return Letter(
            record=record,
            stage=told[CONNECT + "stage"],
            error=told[CONNECT + "exception.class.name"],
            message=told[CONNECT + "exception.message"],
            attempt=int(told[ATTEMPT]),
            epoch=int(told.get(EPOCH, "0")),
            at_ms=at_ms,
            left_out=told.get(SHA256),
            key_left_out=told.get(KEY_SHA256),
            group=told.get(CONNECT + "connector.name"),
            index=told.get(INDEX),
            log=told.get(LOG),
            source=(source := told.get(SOURCE)),
            tag=told.get(TAG),
            doc_id=form.doc_id(record) if source is None else (key or b"").decode(errors="replace"),
        )
    except KeyError as exc:
        raise ValueError(f"no header {exc.args[0]}") from exc


def belongs(letter: Letter, home: Home) -> bool:
    """Whether it is the business of who works with this index: of its group, or about the very index.

    An object of a source is everybody's who reads the topic.
    """
    return (
        letter.source is not None
        or letter.group == home.group
        or (letter.index is not None and letter.index == home.index)
    )


def placed(letter: Letter, home: Home) -> Letter:
    """The letter as seen from here: where it comes from, and the epoch that its record has here."""
    if letter.source is not None or letter.index == home.index:
        return letter
    if letter.index and letter.row is not None:
        return replace(letter, origin="earlier" if home.epochs.have_room_for_snapshots else "foreign")
    if letter.index and this_very_log(letter.log, home.log):
        return replace(letter, origin="earlier", epoch=home.epochs.of(*letter.place))
    return replace(letter, origin="foreign")


def standing(letter: Letter, entry: Entry | None) -> Standing:
    """What became of it since. `entry`: of its document in the registry now; None without one.

    Resolved: this very record is in the index. Superseded: a newer record of the document is.
    """
    if letter.origin == "foreign":
        return "foreign"
    if entry is None or entry.version < letter.version:
        return "open"
    if entry.partition != letter.record.partition and epoch_of_version(entry.version) == letter.epoch:
        return "open"  # of one epoch, and still not to be compared
    if entry.version > letter.version:
        return "superseded"
    if letter.error == TWICE:
        return "open"  # another row of the same version is there
    return "resolved" if entry.state == "done" else "open"


def object_standing(letter: Letter, failing: Mapping[tuple[str, str], str]) -> Standing:
    """What became of an object since. `failing`: those that fail still, by source and URI, with the log of each."""
    return "open" if failing.get((letter.source or "", letter.doc_id or "")) == letter.log else "resolved"


def serves_older(letter: Letter, entry: Entry | None) -> bool:
    """Whether readers still find an older version of the document of an open letter."""
    return standing(letter, entry) == "open" and entry is not None and entry.state == "done" and entry.n > 0


def newest(letters: Sequence[Letter]) -> list[Letter]:
    """One letter a record, or object, in the order of the topic: after a crash, and each attempt, there are several.

    One about this very index goes before one about an earlier one.
    """
    found: dict[tuple[object, ...], Letter] = {}
    for letter in letters:
        apart = (letter.index, letter.log) if letter.origin == "foreign" else ()
        key = (letter.record.topic, letter.about, *apart)
        if key not in found or _rank(found[key]) <= _rank(letter):
            found[key] = letter
    return list(found.values())


def _rank(letter: Letter) -> tuple[bool, int]:
    return letter.origin == "own", letter.attempt
