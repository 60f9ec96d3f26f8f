"""What is left of a document whose record the log has lost, where its entry and its chunks do not agree. Pure.

Only the chunks can tell then: the newest content that is whole among them stays, and the entry is made to agree.

    the entry's own content, or newer    nothing is lost: it was left half written, or the registry is the older one
    older content, or none               newer content is lost, and only its producer has it
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from streams.epochs import epoch_of_version
from streams.examine import Row
from streams.registry import UNKNOWN, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """`entry`: as it has to be; its chunks are there, and all others must go. `lost`: whether newer content is."""

    entry: Entry
    lost: bool


def what_is_left(
    doc_id: str, entry: Entry | None, rows: Mapping[int, Row], *, chunk_index_uuid: str, registry_set_back: bool
) -> Left | None:
    """All of one moment, of a document that the log has no record of. None where nobody can tell.

    `registry_set_back`: it may be older than the chunks; else it is the one to know what was deleted since.
    """
    newer = _newer(entry, rows)
    if newer and (
        registry_set_back or (entry and entry.content_hash == UNKNOWN and entry.version == newer.record_version)
    ):
        entry = _entry_of(doc_id, newer, rows, entry, chunk_index_uuid)
    elif newer and entry and newer.record_version > entry.version:
        return None  # written by others
    if entry is None:
        return None
    done = replace(entry, state="done", n=0, hi=0, content_version=entry.version)
    if not entry.n:
        return Left(entry=done, lost=False)
    whole = newest_whole(rows)
    if whole is None:
        return Left(entry=replace(done, content_hash=UNKNOWN), lost=True)
    kept, n = whole
    done = replace(done, n=n, hi=n, content_version=kept)
    wanted = entry.version if entry.state == "writing" else entry.content_version
    if (kept == wanted or (wanted is None and kept <= entry.version)) and n == entry.n:
        return Left(entry=done, lost=False)
    lost = kept < (entry.version if wanted is None else wanted)
    return Left(entry=replace(done, content_hash=UNKNOWN), lost=lost)


def _newer(entry: Entry | None, rows: Mapping[int, Row]) -> Row | None:
    """A row of the newest record that is newer than the entry: also the very one that this has as refused or gone."""
    top = max(rows.values(), key=lambda row: (row.record_version, row.partition is not None), default=None)
    if top is None or entry is None or top.record_version > entry.version:
        return top
    whole = newest_whole(rows)
    return top if not entry.n and whole and whole[0] == entry.version == top.record_version else None


def newest_whole(rows: Mapping[int, Row]) -> tuple[int, int] | None:
    """Version and number of chunks of the newest record of which every chunk is there, as it was written."""
    found: dict[int, dict[int, Row]] = defaultdict(dict)
    for number, row in rows.items():
        if not row.stub and row.text_hash == row.chunk_hash:
            found[row.record_version][number] = row
    for version in sorted(found, reverse=True):
        chunks = found[version]
        if all(chunks.get(number) and chunks[number].chunks == len(chunks) for number in range(len(chunks))):
            return version, len(chunks)
    return None


def _entry_of(
    doc_id: str, top: Row, rows: Mapping[int, Row], entry: Entry | None, chunk_index_uuid: str
) -> Entry | None:
    """As it was when the newest of these rows was written: by a deletion, where that left stubs only."""
    same_epoch = entry is not None and epoch_of_version(entry.version) == epoch_of_version(top.record_version)
    partition = entry.partition if entry and (same_epoch or top.partition is None) else top.partition
    if partition is None:
        return None
    first = rows.get(0)  # a deletion leaves stubs from here on
    deleted = first is not None and first.stub and first.record_version == top.record_version
    return Entry(
        doc_id=doc_id,
        partition=partition,
        version=top.record_version,
        state="writing",
        n=0 if deleted else len(rows),
        hi=len(rows),
        content_hash=UNKNOWN,
        chunk_index_uuid=chunk_index_uuid,
    )
