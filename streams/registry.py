"""What the index already holds of a document, and what a new version of it has to do.

One small entry a document, swapped by compare-and-swap (`if_seq_no`, or create when absent): its version,
how many chunks it has, and the highest chunk number that may exist (`hi`), written before the chunks
themselves. So a crash after any step is healed by replay or by the next version, because the entry already
knows the largest id that may exist.

    read entry ─► decide ─► Settled                         an equal or newer version is there
                        │                               (but a rejected one may be attempted again)
                        ├─► Touch    ─► done@v              same content: only the version moves on
                        ├─► Elsewhere                       this record was begun for another model
                        ├─► Misplaced                       the key is on another partition: dead letter
                        ├─► Twice                           another row of this snapshot says something else: likewise
                        └─► Begin    ─► writing@v, hi ─► chunks, stubs ─► done@v
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from streams.epochs import epoch_of_version
from streams.snapshot import SNAPSHOT

State = Literal["writing", "done", "rejected"]
UNKNOWN = ""
"""A content hash that no content has: whatever comes next is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A registry entry. `n`: chunks of the document; `hi`: chunk ids at and above it never existed."""

    doc_id: str
    partition: int
    version: int
    state: State
    n: int
    hi: int
    content_hash: str
    chunk_index_uuid: str
    attempt: int = 1
    """Above 1 when the record was taken up again from the dead letters."""
    content_version: int | None = None
    """Of the record that its chunks were written for: below `version` where the same content came again since. None in
    an entry from before it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An entry as read, with what a compare-and-swap of it needs."""

    entry: Entry
    seq_no: int
    primary_term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A version of a document that asks to be written. `n`: its number of chunks, 0 for a deletion.

    `attempt`: above 1 the record comes from the dead letters, and may replace its own rejection. `repair`: what is
    there at this very version is known to be damaged, and is written again. `unverified`: chunks may be missing that
    an entry has as written, so that the same content in a newer record is written again, too. `elsewhere`: hashes of
    the same content for other models, and whether it may stay with one where it is.
    """

    doc_id: str
    partition: int
    version: int
    n: int
    content_hash: str
    attempt: int = 1
    repair: bool = False
    unverified: bool = False
    elsewhere: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing to do: this version or a newer one is in the index."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The stream is at this very record, or will be: a tool must not come in between."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """This very record was begun for another model, and stays with it whoever takes it up again: chunks of one version
    never replace each other, so that those of two models would mix."""

    content_hash: str


@dataclass(frozen=True, slots=True)
class Touch:
    """Same content as is stored: swap in the new version, embed nothing. The chunks keep theirs."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Misplaced:
    """The document's entry belongs to another partition in the same epoch: their offsets don't compare."""

    partition: int


@dataclass(frozen=True, slots=True)
class Twice:
    """Another row of the same snapshot, and so of the same version, has this id and says something else."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Swap in this intent, then write chunks 0…n-1 and stubs n…hi-1, then swap in `done(entry)`."""

    entry: Entry


Decision = Settled | Busy | Elsewhere | Touch | Misplaced | Twice | Begin


def decide(
    stored: Stored | None, wanted: Wanted, *, chunk_index_uuid: str, origin: tuple[int, int] | None = None
) -> Decision:
    """The next step for `wanted`, given the entry read just now (None: absent).

    An entry about another chunk index counts as absent: that index is gone, and its chunks with it. `origin`: partition
    and version of the record that its first chunk was made of, where a registry that was lost may have known more.
    """
    intent = Entry(
        doc_id=wanted.doc_id,
        partition=wanted.partition,
        version=wanted.version,
        state="writing",
        n=wanted.n,
        hi=wanted.n,
        content_hash=wanted.content_hash,
        chunk_index_uuid=chunk_index_uuid,
        content_version=wanted.version,
        attempt=wanted.attempt,
    )
    if stored is None or stored.entry.chunk_index_uuid != chunk_index_uuid:
        return Misplaced(origin[0]) if origin and _is_elsewhere(*origin, wanted) else Begin(intent)
    entry = stored.entry
    if _is_elsewhere(entry.partition, entry.version, wanted):
        return Misplaced(entry.partition)
    if entry.version > wanted.version:
        return Settled()
    intent = replace(intent, hi=max(entry.hi, wanted.n))
    if entry.version == wanted.version:
        return _again(entry, wanted, intent)
    same = entry.content_hash == wanted.content_hash or wanted.elsewhere.get(entry.content_hash, False)
    unchanged = entry.state == "done" and same
    if unchanged and not (wanted.repair or wanted.unverified):
        return Touch(replace(entry, version=wanted.version, partition=wanted.partition))
    return Begin(intent)


def _is_elsewhere(partition: int, version: int, wanted: Wanted) -> bool:
    """Whether this record of the document is on another partition in the same epoch."""
    return partition != wanted.partition and epoch_of_version(version) == epoch_of_version(wanted.version)


def _is_for_another_model(entry: Entry, wanted: Wanted) -> bool:
    return entry.content_hash != wanted.content_hash and entry.content_hash in wanted.elsewhere


def _again(entry: Entry, wanted: Wanted, intent: Entry) -> Decision:
    """The very record that the entry is about. Of one that was refused only stubs are there: any model may try it."""
    if entry.partition == SNAPSHOT and entry.content_hash == UNKNOWN:
        wanted = replace(wanted, repair=True)  # `index verify --repair` left it to be written again
    elif entry.partition == SNAPSHOT and entry.content_hash not in {wanted.content_hash, *wanted.elsewhere}:
        return Twice()
    again = entry.state == "writing" or (entry.state == "done" and (wanted.repair or wanted.attempt > 1))
    if again and _is_for_another_model(entry, wanted):
        return Elsewhere(entry.content_hash)
    if wanted.repair:
        return Begin(replace(intent, attempt=max(wanted.attempt, entry.attempt + 1)))
    if entry.state == "rejected" and wanted.attempt > 1:
        return Begin(replace(intent, attempt=max(wanted.attempt, entry.attempt + 1)))
    if entry.state != "writing":
        return Settled()
    if entry.attempt == 1 < wanted.attempt:
        return Busy()
    # begun before: whoever takes it up again joins the latest attempt
    return Begin(replace(intent, attempt=max(entry.attempt, wanted.attempt)))


def is_settled(
    stored: Stored | None, *, partition: int, version: int, chunk_index_uuid: str, hashes: Collection[str] = ()
) -> bool:
    """Whether `decide` says `Settled` to this record of the document, whatever is in it, when it comes from the topic:
    this can be asked before it is split. `hashes`: of its content for each model, which tell rows of one snapshot
    apart."""
    if stored is None or stored.entry.chunk_index_uuid != chunk_index_uuid:
        return False
    entry = stored.entry
    if entry.partition != partition and epoch_of_version(entry.version) == epoch_of_version(version):
        return False  # its dead letter is due
    if entry.version == version and partition == SNAPSHOT and entry.content_hash not in hashes:
        return False  # its dead letter, too, or it is to be written again
    return entry.version > version or (entry.version == version and entry.state != "writing")


def is_of_older_snapshot(entry: Entry, version: int) -> bool:
    """Whether a document's newest row is of an earlier snapshot than the one of this version, and it is still there."""
    return entry.partition == SNAPSHOT and entry.version < version and (entry.n > 0 or entry.state != "done")


def done(intent: Entry) -> Entry:
    """The entry after all chunks and stubs of the intent are written."""
    return replace(intent, state="done", hi=intent.n)


def rejected(intent: Entry) -> Entry:
    """The entry after a chunk was refused all the same and stubs for 0…hi-1 are written."""
    return replace(intent, state="rejected", n=0)


def may_go(entry: Entry | None, number: int) -> bool:
    """Whether the stub of this chunk number guards nothing any more but against writes from long ago."""
    return entry is None or (entry.state == "done" and number >= entry.hi)


def to_source(entry: Entry, updated_at: str) -> dict[str, Any]:
    """The entry as stored. `updated_at`: UTC, ISO 8601."""
    return {
        "doc_id": entry.doc_id,
        "partition": entry.partition,
        "version": entry.version,
        "state": entry.state,
        "n": entry.n,
        "hi": entry.hi,
        "content_hash": entry.content_hash,
        "chunk_index_uuid": entry.chunk_index_uuid,
        "content_version": entry.content_version,
        "attempt": entry.attempt,
        "updated_at": updated_at,
    }


def from_source(source: Mapping[str, Any]) -> Entry:
    """Inverse of `to_source`."""
    kept = {"content_version": None, **source}
    return Entry(**{name: kept[name] for name in Entry.__slots__})
