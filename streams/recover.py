"""A document's record made again from its chunks: for an index that is filled when the topic has lost the record."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from streams.epochs import offset_of_version
from streams.plan import METADATA
from streams.record import Record
from streams.registry import Entry

SHARED = {"url": "source", "title": "title", "author": "author", "timestamp": "timestamp"}
"""Names in a record, and in a chunk's metadata."""


def record_from_chunks(
    entry: Entry, topic: str, rows: Sequence[Mapping[str, Any] | None], *, text_field: str
) -> Record | None:
    """The record of an entry, from the sources of its chunks in order (None: absent).

    None when they are not the entry's chunks: it is being replaced just now, or damaged. Text between chunks was white
    space, and is white space again; of which kind is not known. So the record says what the document says, at the same
    offsets, but its bytes are others.
    """
    if entry.state != "done" or not entry.n or len(rows) != entry.n:
        return None
    offset = offset_of_version(entry.version)
    chunks = [row for row in rows if row and text_field in row and row["penstock"]["offset"] == offset]
    if len(chunks) != entry.n:
        return None
    first = chunks[0]["metadata"]
    body: dict[str, Any] = {name: first[stored] for name, stored in SHARED.items() if stored in first}
    if "start" in first:
        body["text"] = _joined([(row["metadata"]["start"], row[text_field]) for row in chunks])
        body["metadata"] = _own(first)
    else:
        body["chunks"] = [{"text": row[text_field], "metadata": _own(row["metadata"])} for row in chunks]
    return Record(
        topic=topic,
        partition=entry.partition,
        offset=offset,
        timestamp_ms=0,
        key=entry.doc_id.encode(),
        value=orjson.dumps(body),
    )


def _own(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The producer's own fields, those with a type of their own among them."""
    return {
        **metadata.get("custom", {}),
        **{name: value for name, value in metadata.items() if name not in METADATA},
    }


def _joined(pieces: Sequence[tuple[int, str]]) -> str:
    """One text, in which each piece stands at its offset. Pieces may overlap."""
    text = ""
    for start, piece in pieces:
        gap = start - len(text)
        text += ("\n" if gap > 1 else " ") * gap
        text = text[:start] + piece + text[start + len(piece) :]
    return text
