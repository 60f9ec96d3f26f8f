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
from streams.registry import Entry

UNKNOWN = ""
"""Content hash where nobody has the record: whatever is published next is other content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """`entry`: as it has to be; its chunks are there, and all others must go. `lost`: whether newer content is."""

    entry: Entry
    lost: bool


def what_is_left(doc_id: str, entry: Entry | None, rows: Mapping[int, Row], *, chunk_index_uuid: str) -> Left | None:
    """All of one moment, of a document that the log has no record of. None where nobody knows of any content."""
    top = max(rows.values(), key=lambda row: row.version, default=None)
    if top and (entry is None or top.version > entry.version):  # the registry is older than the chunks
        entry = _entry_of(doc_id, top, rows, entry, chunk_index_uuid)
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


def newest_whole(rows: Mapping[int, Row]) -> tuple[int, int] | None:
    """Version and number of chunks of the newest record of which every chunk is there, as it was written."""
    found: dict[int, dict[int, Row]] = defaultdict(dict)
    for number, row in rows.items():
        if not row.stub and row.text_hash == row.chunk_hash:
            found[row.version][number] = row
    for version in sorted(found, reverse=True):
        chunks = found[version]
        if all(chunks.get(number) and chunks[number].chunks == len(chunks) for number in range(len(chunks))):
            return version, len(chunks)
    return None


def _entry_of(doc_id: str, top: Row, rows: Mapping[int, Row], entry: Entry | None, chunk_index_uuid: str) -> Entry:
    """As it was when the newest of these rows was written: by a deletion, where that left stubs only."""
    same_epoch = entry is not None and epoch_of_version(entry.version) == epoch_of_version(top.version)
    written = any(row.version == top.version and not row.stub for row in rows.values())
    return Entry(
        doc_id=doc_id,
        partition=entry.partition if entry and same_epoch else top.partition,
        version=top.version,
        state="writing",
        n=len(rows) if written else 0,
        hi=len(rows),
        content_hash=UNKNOWN,
        chunk_index_uuid=chunk_index_uuid,
    )
