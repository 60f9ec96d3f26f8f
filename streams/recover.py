"""A document's record made again from its chunks: for an index that is filled when the topic has lost the record."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from streams.epochs import offset_of_version
from streams.form import FORM_HEADER, OWN
from streams.ids import version
from streams.record import Record
from streams.registry import Entry
from streams.routes import ROUTE_HEADER
from streams.sections import sections_from_chunks

SHARED = {"url": "source", "title": "title", "author": "author", "timestamp": "timestamp"}
"""Names in a record, and in a chunk's metadata."""


def record_from_chunks(
    entry: Entry, topic: str, rows: Sequence[Mapping[str, Any] | None], *, text_field: str, typed: Collection[str] = ()
) -> Record | None:
    """The record of an entry, from the sources of its chunks in order (None: absent).

    `typed`: names of the producer's own fields that have a type in that index.

    It is the entry's newest, at its own place, also where the chunks are of an earlier record with the same content.
    A deleted document's is a tombstone. None when they are not the entry's chunks: it is being replaced just now, or
    damaged. Text between chunks was white space, and is white space again; of which kind is not known. So the record
    says what the document says, at the same offsets, but its bytes are others.
    """
    if entry.state != "done" or len(rows) != entry.n:
        return None
    if not entry.n:
        return _record(entry, topic, None, None)
    chunks = [row for row in rows if row and text_field in row]
    if len(chunks) != entry.n or not _of_entry(entry, {_version(row) for row in chunks}):
        return None
    first = chunks[0]["metadata"]
    body: dict[str, Any] = {name: first[stored] for name, stored in SHARED.items() if stored in first}
    if "start" in first:
        body["text"] = _joined([(row["metadata"]["start"], row[text_field]) for row in chunks])
        ours = [{name: value for name, value in row["metadata"].items() if name not in typed} for row in chunks]
        if sections := sections_from_chunks([(row["start"], row["end"], row) for row in ours]):
            body["sections"] = sections
        body["metadata"] = _own(first, typed)
    else:
        body["chunks"] = [{"text": row[text_field], "metadata": _own(row["metadata"], typed)} for row in chunks]
    return _record(entry, topic, orjson.dumps(body), chunks[0]["penstock"].get("route"))


def _record(entry: Entry, topic: str, value: bytes | None, route: str | None) -> Record:
    return Record(
        topic=topic,
        partition=entry.partition,
        offset=offset_of_version(entry.version),
        timestamp_ms=0,
        key=entry.doc_id.encode(),
        value=value,
        headers=((FORM_HEADER, OWN), *([(ROUTE_HEADER, route.encode())] if route else [])),
    )


def _of_entry(entry: Entry, versions: set[int]) -> bool:
    """Whether chunks of these versions are what the entry is about."""
    if entry.content_version is not None:
        return versions == {entry.content_version}
    return len(versions) == 1 and max(versions) <= entry.version


def _version(row: Mapping[str, Any]) -> int:
    """Of the record that a chunk was written for."""
    return version(row["penstock"]["epoch"], row["penstock"]["offset"])


def _own(metadata: Mapping[str, Any], typed: Collection[str]) -> dict[str, Any]:
    """The producer's own fields, those with a type of their own among them."""
    return {**metadata.get("custom", {}), **{name: metadata[name] for name in typed if name in metadata}}


def _joined(pieces: Sequence[tuple[int, str]]) -> str:
    """One text, in which each piece stands at its offset. Pieces may overlap."""
    text = ""
    for start, piece in pieces:
        gap = start - len(text)
        text += ("\n" if gap > 1 else " ") * gap
        text = text[:start] + piece + text[start + len(piece) :]
    return text
