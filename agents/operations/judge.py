"""What is wrong with one document, given what is known of the log and of the dead letters. Reads nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from agents.indexing.preflight import Checked
from agents.operations.spool import Known, Spool
from streams.contract import spaces_of, this_very_log
from streams.epochs import epoch_of_version, offset_of_version
from streams.examine import Finding, Place, Row, examine
from streams.ids import chunk_id
from streams.registry import UNKNOWN, Entry, Stored
from streams.salvage import Left, newest_whole, what_is_left
from streams.snapshot import SNAPSHOT

ACCEPT = "index verify --repair --accept-data-loss"
NOTES = frozenset(
    {"no record", "lost meanwhile", "key on two partitions", "too large here", "changed by others", "not rebuilt yet"}
)
"""Kinds that are worth knowing, and no damage: retention or compaction took the record, a dead letter names it, it was
indexed under a larger `batch.max_inflight_bytes` than this command has, somebody wrote another field of it, or the
rebuild of the index has not ended."""
OF_THE_CHUNKS = frozenset(
    {"missing entry", "stale entry", "left writing", "missing chunk", "stubbed chunk"}
    | {"wrong hash", "wrong version", "version ahead", "content lost"}
)
"""Kinds that are mended by what the chunks are, where the log has no record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One document as read at one moment.

    `gone`: versions of its records whose places in the log are empty, though it reaches back to them: compaction took
    them, for a newer record of the key on the same partition, be it one that is gone itself: a tombstone. What is not
    settled yet was looked at since.
    """

    stored: Stored | None
    rows: Mapping[int, Row]
    gone: frozenset[int] = frozenset()


@dataclass(slots=True, kw_only=True)
class Judge:
    """Offsets by partition: `begin`, where the log began when it was read; `bounds`, up to which it was read: what is
    newer is not looked at; `ends`, as of now.

    `registry_set_back`, `chunks_set_back`: it may be older than the other one. `rebuilding`: another index has what is
    not taken yet. `letters_whole`: retention took no dead letter. `lost`: offsets of a partition that retention took
    while they were read. `too_large`: documents and versions that a worker with a larger limit took.
    """

    checked: Checked
    spool: Spool
    begin: Mapping[int, int] = field(default_factory=dict)
    bounds: Mapping[int, int] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)
    registry_set_back: bool = False
    chunks_set_back: bool = False
    rebuilding: bool = False
    letters_whole: bool = True
    lost: list[tuple[int, range]] = field(default_factory=list)
    too_large: set[tuple[str, int]] = field(default_factory=set)

    @property
    def models(self) -> list[str]:
        """Names of those whose vectors the index has."""
        return [space.model for space in spaces_of(self.checked.identity.contract)]

    def findings(self, doc: str, known: Sequence[Known], seen: Seen) -> list[Finding]:
        """What is wrong with a document as it was read, if anything."""
        entry = self.mine(seen.stored)
        if entry and self.is_beyond(entry):
            made = f"epoch {epoch_of_version(entry.version)}, {entry.partition}@{offset_of_version(entry.version)}"
            told = f"the log ends at {self.ends.get(entry.partition, 0)}, and its entry is of {made}: of another log"
            return [Finding("entry ahead", doc, f"{told}. Stop the workers, then `penstock index epoch bump`")]
        if entry and not self._is_read(entry):
            return []  # newer than what was looked at
        if entry and (doc, entry.version) in self.too_large:
            return []
        written = [(row.partition, row.record_version) for row in seen.rows.values()]
        if foreign := self._foreign(seen.stored):
            written.append((foreign.partition, foreign.version))
        if any(self._is_unsettled(partition, version) for partition, version in written):
            return []  # newer than what was looked at, and the registry is the older one
        asked = self.asked_for(doc, known, seen)
        newest = asked.newest if asked else None
        found = list(examine(doc, newest, entry, seen.rows, models=self.models))
        whole = newest_whole(seen.rows)
        if self.registry_set_back and entry and entry.state == "rejected" and whole and whole[0] == entry.version:
            found = [Finding("stale entry", doc, "its record was refused, and is whole since: it was taken up again")]
        if newest is None:
            return self._without_record(doc, known, entry, seen, found)
        if entry and entry.state == "rejected" and entry.version == newest.version:
            place = entry.partition, offset_of_version(entry.version)
            if self.letters_whole and not self.spool.has_letter(*_key_of(entry)):
                found.append(Finding("dead letter missing", doc, f"{place[0]}@{place[1]} was refused without one"))
        return [*found, *self._on_two_partitions(doc, known, entry)]

    def _without_record(
        self, doc: str, known: Sequence[Known], entry: Entry | None, seen: Seen, found: list[Finding]
    ) -> list[Finding]:
        """What is wrong with one that the log has no record of. More of it may be told from its chunks."""
        found = [_changed_by_others(doc, one, seen.rows) if entry else one for one in found]
        if self.deleted(doc, known, seen):
            return [*found, Finding("deleted meanwhile", doc, "compaction took its record, and no newer one is there")]
        left = self.left(doc, entry, seen)
        if left and left.lost and ({finding.kind for finding in found} & OF_THE_CHUNKS or entry is None):
            if self.letter_of(left.entry):
                return found if entry else [Finding("missing entry", doc, "its record is in a dead letter")]
            return [self._lost(doc, left, seen)]
        if left and entry is None:
            as_it_was = examine(doc, None, left.entry, seen.rows, models=self.models)
            told = "the registry does not know it, and its record is gone"
            return [Finding("missing entry", doc, told), *(one for one in as_it_was if one.kind == "wrong model")]
        if entry is None and self.is_unknown(seen, found):
            told = "the registry does not know it, and its record is gone: publish it again, or"
            return [Finding("unknown document", doc, f"{told} `penstock {ACCEPT}` deletes it")]
        if two := self._on_two_partitions(doc, known, entry):
            return [*found, *two]
        if entry and entry.n and entry.partition != SNAPSHOT:  # of which no topic ever had one
            older = entry.content_version is not None and entry.content_version < entry.version
            told = ", and the content of an older one is kept" if older and entry.content_hash == UNKNOWN else ""
            return [*found, Finding("no record", doc, f"no damage: its record is no longer in the topic{told}")]
        return found

    def _lost(self, doc: str, left: Left, seen: Seen) -> Finding:
        if self.rebuilding:
            told = "no damage: `penstock index rebuild`, which has not ended, takes it from the index before"
            return Finding("not rebuilt yet", doc, told)
        record = f"record (partition {left.entry.partition}, offset {offset_of_version(left.entry.version)})"
        told = (
            f"its newest {record} is no longer in the topic, and not all of its chunks are there: publish it again, or"
        )
        others = sum(not row.stub for row in seen.rows.values()) - left.entry.n
        deletes = f"deletes the {_chunks(others)} that are left of it" if others else "forgets it"
        kept = f"keeps the {_chunks(left.entry.n)} of an older one" if left.entry.n else deletes
        return Finding("content lost", doc, f"{told} `penstock {ACCEPT}` {kept}")

    def is_unknown(self, seen: Seen, found: Sequence[Finding]) -> bool:
        """Whether nobody can tell if a document without an entry was deleted: it is whole, and its record gone.

        What chunks that were set back have of it was deleted since.
        """
        whole = newest_whole(seen.rows)
        if whole is None or not found or self.chunks_set_back:
            return False
        row = next(row for row in seen.rows.values() if row.record_version == whole[0])
        return row.partition is not None and self._is_taken(row.partition, whole[0])

    def letter_of(self, entry: Entry) -> tuple[int, Place] | None:
        """Epoch and place of an entry's record, where a dead letter has that record: it was taken up from there."""
        key = _key_of(entry)
        return key if self.spool.has_whole_letter(*key) else None

    def _on_two_partitions(self, doc: str, known: Sequence[Known], entry: Entry | None) -> list[Finding]:
        there = next((item for item in known if entry and gave_way(item, known, entry)), None)
        if entry is None or there is None:
            return []
        newer = f"a newer record on partition {there.newest.partition} is a dead letter"
        return [Finding("key on two partitions", doc, f"indexed from partition {entry.partition}; {newer}")]

    def left(self, doc: str, entry: Entry | None, seen: Seen) -> Left | None:
        """What is left of one that the log has no record of; None where nobody can tell, or nothing ever was.

        Of one that was in a chunk index before this one, its entry says which content that had.
        """
        uuid, foreign = self.checked.identity.chunk_index_uuid, self._foreign(seen.stored)
        if foreign and self.spool.coming(doc):
            return None
        left = what_is_left(
            doc,
            replace(foreign, chunk_index_uuid=uuid) if foreign else entry,
            seen.rows,
            chunk_index_uuid=uuid,
            registry_set_back=self.registry_set_back or foreign is not None,
        )
        if left is None or not self._is_read(left.entry):
            return None
        known_to_be_gone = entry is not None and left.entry.version == entry.version
        gone = known_to_be_gone or self._is_gone(left.entry.partition, left.entry.version, seen)
        if gone and not left.entry.n and not left.lost and self.spool.has_letter(*_key_of(left.entry)):
            left = replace(left, entry=replace(left.entry, state="rejected"))  # its stubs are a refusal's
        return left if gone else None

    def _foreign(self, stored: Stored | None) -> Entry | None:
        """An entry about another chunk index, of a document that was there: this one was made in its place."""
        return stored.entry if stored and self.mine(stored) is None and stored.entry.n else None

    def _is_gone(self, partition: int, made: int, seen: Seen) -> bool:
        """Whether the log has lost the record of this version; else it never had it."""
        return made in seen.gone or self._is_taken(partition, made)

    def may_be_empty(self, partition: int, made: int) -> bool:
        """Whether the log reaches back to the place of this version, and was read up to it."""
        offset = offset_of_version(made)
        return not self._is_taken(partition, made) and offset < self.bounds.get(partition, 0)

    def _is_taken(self, partition: int, made: int) -> bool:
        """By retention; or it was in a log before this one."""
        offset = offset_of_version(made)
        taken = offset < self.begin.get(partition, 0) or self._is_lost(partition, offset)
        return taken or self._is_of_a_log_before(partition, made)

    def _is_unsettled(self, partition: int | None, made: int) -> bool:
        """Whether the record of this version was not looked at, and is in the log."""
        if partition is None:
            return False
        version = partial(self.checked.identity.epochs.version, partition)
        return version(self.bounds.get(partition, 0)) <= made < version(self.ends.get(partition, 0))

    def mine(self, stored: Stored | None) -> Entry | None:
        """An entry, unless it is about another chunk index: that one is gone."""
        if stored is None or stored.entry.chunk_index_uuid != self.checked.identity.chunk_index_uuid:
            return None
        return stored.entry

    def asked_for(self, doc: str, known: Sequence[Known], seen: Seen) -> Known | None:
        """As the function; None when the document's record is one that nobody could read: then nothing is known.

        Retention or compaction took it (`seen.gone`), and left an older one on the partition that its key was on
        before. A registry that is set back knows nothing of it either: then the chunks do.
        """
        entry = self.mine(seen.stored)
        asked = asked_for(known, entry)
        top = max(seen.rows.values(), key=lambda row: row.record_version, default=None)
        if asked and self.registry_set_back and top and top.partition is not None:
            newer = top.record_version > asked.newest.version
            asked = None if newer and self._is_gone(top.partition, top.record_version, seen) else asked
        if entry is None or self._is_of_a_log_before(entry.partition, entry.version):
            return asked
        offset = offset_of_version(entry.version)
        lost = self._is_lost(entry.partition, offset)
        gone = entry.version in seen.gone or offset < self.begin.get(entry.partition, 0)
        older = asked is not None and asked.newest.version < entry.version
        return None if lost or (gone and older) else asked

    def is_beyond(self, entry: Entry) -> bool:
        """Whether no record of the log can have made it: it is of another log."""
        return entry.version >= self.checked.identity.epochs.version(entry.partition, self.ends.get(entry.partition, 0))

    def _is_read(self, entry: Entry) -> bool:
        """Whether the log was read up to its record."""
        bound = self.bounds.get(entry.partition, 0)
        return entry.version < self.checked.identity.epochs.version(entry.partition, bound)

    def _is_of_a_log_before(self, partition: int, made: int) -> bool:
        return self.checked.identity.epochs.version(partition, offset_of_version(made)) != made

    def _is_lost(self, partition: int, offset: int) -> bool:
        """Whether retention took the record while the topic was read."""
        return any(partition == number and offset in taken for number, taken in self.lost)

    def deleted(self, doc: str, known: Sequence[Known], seen: Seen) -> Left | None:
        """What has to be there of a document whose tombstone went before a worker saw it; None where there was none.

        Compaction keeps the newest record of a key on its partition, unless that is a tombstone.
        """
        newest = self._newest_made(seen)
        if newest is None or newest[1] not in seen.gone:
            return None
        partition, made = newest
        indexed = self.checked.identity.contract["source"].get("log")
        later = any(item.place[0] == partition and item.newest.version > made for item in known)
        if (
            later
            or self.spool.is_unread(doc, partition)
            or partition in self.spool.coming(doc)
            or not this_very_log(indexed, self.checked.topic.log)
        ):
            return None
        entry = Entry(
            doc_id=doc,
            partition=partition,
            version=made,
            state="done",
            n=0,
            hi=0,
            content_hash=UNKNOWN,
            chunk_index_uuid=self.checked.identity.chunk_index_uuid,
            content_version=made,
        )
        return Left(entry=entry, lost=False)

    def _newest_made(self, seen: Seen) -> tuple[int, int] | None:
        """Partition and version of the newest record that a document was made of; None where it is known to be gone."""
        entry = self.mine(seen.stored)
        top = max(seen.rows.values(), key=lambda row: row.record_version, default=None)
        newer = top and (entry is None or top.record_version > entry.version)
        if newer and top and top.partition is not None and self.registry_set_back:
            return top.partition, top.record_version
        return (entry.partition, entry.version) if entry and entry.n and entry.state != "rejected" else None


def _key_of(entry: Entry) -> tuple[int, Place]:
    """Epoch and place of an entry's record: a dead letter has them, too."""
    return epoch_of_version(entry.version), (entry.partition, offset_of_version(entry.version))


def _chunks(count: int) -> str:
    return "1 chunk" if count == 1 else f"{count} chunks"


def asked_for(known: Sequence[Known], entry: Entry | None) -> Known | None:
    """The record that decides what must be there: the newest that was not dead-lettered, and did not give way to one.

    Or a dead-lettered one that is newer, where the entry says that it was taken up again.
    """
    plain = (item for item in known if not item.dead_lettered)
    newest = next((item for item in plain if not (entry and gave_way(item, known, entry))), None)
    floor = newest.newest.version if newest else 0
    if entry and entry.version > floor:
        return next((item for item in known if item.newest.version == entry.version), newest)
    return newest


def _changed_by_others(doc: str, finding: Finding, rows: Mapping[int, Row]) -> Finding:
    """A row that is ahead because somebody else wrote it since; whether its record is the right one, is asked apart."""
    row = next((row for k, row in rows.items() if chunk_id(doc, k) == finding.where), None)
    if finding.kind != "version ahead" or row is None or row.version == row.record_version:
        return finding
    told = "written around Penstock since, and left so until the document is published again"
    return Finding("changed by others", finding.where, f"{told} (version {row.version}, not {row.record_version})")


def gave_way(one: Known, known: Sequence[Known], entry: Entry) -> bool:
    """Whether a record was superseded by one of its batch, and that one refused: its key is on another partition, too.

    The newer one's letter speaks for both. Within an epoch only: whoever comes later does not compare partitions.
    """
    mine = one.newest
    return (
        not one.dead_lettered
        and entry.partition != mine.partition
        and epoch_of_version(entry.version) == epoch_of_version(mine.version)
        and any(
            item.dead_lettered and item.newest.partition == mine.partition and item.newest.version > mine.version
            for item in known
        )
    )
