"""First station: a Kafka record becomes a document, or is rejected with the reason.

Everything that Elasticsearch would reject is found here, before the first write, so that a rejected record
leaves the older version of its document as it was. The wire format is described in the README.
"""

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

MAX_NESTING = 64  # of objects and lists in metadata; what writes JSON gives up at 254, and ours sit some levels deeper
MAX_NAME_CHARS = (
    64  # of an unknown field for which a near name is looked for: the search takes the square of its length
)
MAX_SHORT = 60  # characters of a value that is quoted
HEADER_OVERHEAD = 200  # bytes of a header's tuple, name and value, as Python objects
MAX_KEY_PATH_BYTES = 512  # of a metadata key path; flattened terms are path + value, Lucene's limit is 32,766
MAX_METADATA_DEPTH = 20  # Elasticsearch's depth_limit of a flattened field
_FIELDS = ("id", "text", "chunks", "title", "url", "author", "timestamp", "metadata")
_CHUNK_FIELDS = ("text", "metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as the broker gave it. It carries its own position; nobody recomputes an offset."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of key, value and headers, as they are held."""
        return size_bytes(self.key, self.value, self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenChunk:
    """A chunk that the producer split off itself."""

    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A valid record. `text` and `chunks` are never both set; neither is set for a deletion."""

    record: Record
    id: str
    content_hash: str
    text: str | None = None
    chunks: tuple[GivenChunk, ...] | None = None
    title: str | None = None
    url: str | None = None
    author: str | None = None
    timestamp: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A record that cannot become vectors, now or later. It goes to the dead letters with its raw bytes."""

    record: Record
    stage: str
    error: str
    message: str


class _InvalidError(ValueError):
    """Says what is wrong with a record, inside this module only."""


def size_bytes(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Bytes that a record holds in memory beside its own object: key, value, headers."""
    held = sum(HEADER_OVERHEAD + len(name) + len(data or b"") for name, data in headers)
    return len(key or b"") + len(value or b"") + held


def decode(record: Record) -> Document | Rejected:
    """Read and validate one record. Never raises for bad input, and what it lets through can be written as JSON.

    A null value and an empty text both mean: no chunks (a deletion).
    """
    try:
        doc_id = _key(record.key)
        if record.value is None:
            return Document(record=record, id=doc_id, content_hash=_hash(None))
        return _document(record, doc_id, _json(record.value))
    except _InvalidError as exc:
        return Rejected(record=record, stage="decode", error="InvalidRecord", message=str(exc))


def _key(key: bytes | None) -> str:
    if not key:
        raise _InvalidError("the record has no key: set the document's id as the record key in the producer")
    try:
        return key.decode()
    except UnicodeDecodeError as exc:
        raise _InvalidError(f"the key is not UTF-8: {exc.reason} at byte {exc.start}") from exc


def _json(value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise _InvalidError(f"the value is not JSON in UTF-8: {exc}") from exc
    if not isinstance(body, dict):
        raise _InvalidError(f"the value is a JSON {_kind(body)}; an object with `text` or `chunks` is needed")
    return body


def _document(record: Record, doc_id: str, body: dict[str, Any]) -> Document:
    _known(body, _FIELDS, "")
    given_id = body.get("id")
    if given_id is not None and given_id != doc_id:
        raise _InvalidError(f"`id` in the body ({_short(given_id)}) is not the record's key ({_short(doc_id)})")
    text, chunks = body.get("text"), body.get("chunks")
    if (text is None) == (chunks is None):
        raise _InvalidError("exactly one of `text` and `chunks` is needed")
    checked: dict[str, Any] = {
        "text": _string(body, "text"),
        "chunks": None if chunks is None else _chunks(chunks),
        "title": _string(body, "title"),
        "url": _string(body, "url"),
        "author": _string(body, "author"),
        "timestamp": _timestamp(body.get("timestamp")),
        "metadata": _metadata(body.get("metadata"), "metadata"),
    }
    return Document(record=record, id=doc_id, content_hash=_hash(body), **checked)  # a checked body can be written


def _chunks(value: object) -> tuple[GivenChunk, ...]:
    if not isinstance(value, list):
        raise _InvalidError(f"`chunks` is a JSON {_kind(value)}; a list of objects with `text` is needed")
    chunks = []
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise _InvalidError(f"`chunks[{number}]` is a JSON {_kind(item)}; an object with `text` is needed")
        _known(item, _CHUNK_FIELDS, f"chunks[{number}].")
        text = item.get("text")
        if not isinstance(text, str) or not text.strip():
            raise _InvalidError(f"`chunks[{number}].text` must be a text that is not empty")
        chunks.append(GivenChunk(text=text, metadata=_metadata(item.get("metadata"), f"chunks[{number}].metadata")))
    return tuple(chunks)


def _known(body: dict[str, Any], known: Sequence[str], where: str) -> None:
    for name in body:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1) if len(name) <= MAX_NAME_CHARS else []
            hint = f" (did you mean `{near[0]}`?)" if near else ""
            raise _InvalidError(f"unknown field `{where}{_short(name)}`{hint}; your own fields belong under `metadata`")


def _string(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _InvalidError(f"`{name}` is a JSON {_kind(value)}; a string is needed")
    return value


def _timestamp(value: object) -> str | None:
    """Normalise ISO 8601 or epoch milliseconds to UTC with milliseconds; a time without a zone is UTC."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000, UTC)
        else:
            raise _InvalidError(f"`timestamp` is a JSON {_kind(value)}; ISO 8601 or epoch milliseconds is needed")
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as exc:
        if isinstance(exc, _InvalidError):
            raise
        raise _InvalidError(f"`timestamp` is not a date: {_short(value)} (ISO 8601 or epoch milliseconds)") from exc
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _metadata(value: object, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _InvalidError(f"`{name}` is a JSON {_kind(value)}; an object is needed")
    _check_tree(value, name)
    return value


def _check_tree(root: dict[str, Any], name: str) -> None:
    """What a `flattened` field and JSON take: bounded depth and key length, no empty key and no NUL in keys.

    Without recursion: the input decides how deep it is.
    """
    waiting: list[tuple[dict[str, Any] | list[Any], str, int, int]] = [(root, "", 1, 1)]
    while waiting:
        node, path, depth, nesting = waiting.pop()
        if nesting > MAX_NESTING:
            raise _InvalidError(f"`{name}` has lists nested deeper than {MAX_NESTING} levels")
        if isinstance(node, dict):
            if node and depth >= MAX_METADATA_DEPTH:
                raise _InvalidError(f"`{name}` is nested deeper than {MAX_METADATA_DEPTH} levels")
            children = [(_path(path, key, name), child) for key, child in node.items()]
            depth += 1
        else:
            children = [(path, child) for child in node]
        for here, child in children:
            if isinstance(child, dict | list):
                waiting.append((child, here, depth, nesting + 1))
            elif isinstance(child, str) and "\0" in child:
                raise _InvalidError(f"`{name}` has a value with a NUL character")


def _path(path: str, key: str, name: str) -> str:
    if not key or "\0" in key:
        raise _InvalidError(f"`{name}` has an empty key or one with a NUL character")
    here = f"{path}.{key}" if path else key
    if len(here.encode()) > MAX_KEY_PATH_BYTES:
        raise _InvalidError(f"`{name}` has a key path longer than {MAX_KEY_PATH_BYTES} bytes")
    return here


def _hash(body: dict[str, Any] | None) -> str:
    """Hash of the canonical record, metadata included."""
    try:
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as exc:  # what is checked can be written; this is for what the checks do not know
        raise _InvalidError(f"the value cannot be written as JSON again: {exc}") from exc
    return hashlib.sha256(canonical).hexdigest()


def _kind(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _short(value: object) -> str:
    """A quoted value, cut: messages go to logs and headers, whole texts must not. Of a container its kind alone."""
    if isinstance(value, dict | list):
        return f"a JSON {_kind(value)}"
    text = repr(value[: MAX_SHORT + 1] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHORT else text[: MAX_SHORT - 3] + "..."
