"""First stage: a Kafka record becomes a document, or is rejected with the reason.

Everything that Elasticsearch would reject is found here, before the first write, so that a rejected record
leaves the older version of its document as it was. The wire format is described in the README.
"""

import difflib
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

import orjson

from streams.sections import Section

NO_KEY = (
    "the record has no key: set the document's id as the record key in the producer (of a Kinesis stream: as `id` in "
    "the data, or with `penstock ingest kinesis --id partition-key`)"
)
MAX_ID_CHARS = 8191  # every chunk has a copy of its document's id, a keyword: no query finds a longer one
MAX_NESTING = 64  # of objects and lists in metadata; what writes JSON gives up at 254, and ours sit some levels deeper
MAX_NAME_CHARS = (
    64  # of an unknown field for which a near name is looked for: the search takes the square of its length
)
MAX_SHORT = 60  # characters of a value that is quoted
HEADER_OVERHEAD = 200  # bytes of a header's tuple, name and value, as Python objects
MAX_KEY_PATH_BYTES = 512  # of a metadata key path; flattened terms are path + value, Lucene's limit is 32,766
MAX_METADATA_DEPTH = 20  # Elasticsearch's depth_limit of a flattened field
MAX_HEADING_CHARS = 1024  # every chunk of a section has a copy of it
MAX_PAGE = 2**31 - 1  # an integer of Elasticsearch
SECTION_VALUES = 5  # that a section counts for: itself and what it has
_EPOCH = re.compile(r"[0-9]{9,18}")
COMPACT_DIGITS = 14
_FIELDS = ("id", "text", "chunks", "sections", "title", "url", "author", "timestamp", "metadata")
_CHUNK_FIELDS = ("text", "metadata")
_SECTION_FIELDS = ("start", "end", "page", "heading")


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
    """A valid record. `text` and `chunks` are never both set; neither is set for a deletion.

    `sections`: ranges of `text`, in order and apart, none of them empty.
    """

    record: Record
    id: str
    content_hash: str
    text: str | None = None
    chunks: tuple[GivenChunk, ...] | None = None
    sections: tuple[Section, ...] = ()
    title: str | None = None
    url: str | None = None
    author: str | None = None
    timestamp: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    json_bytes: int = 0
    """Of all that it says, as JSON."""
    values: int = 0
    """How many its metadata and that of its given chunks have, those of objects and lists inside among them, and its
    sections."""


TOO_LARGE = "DocumentTooLarge"
"""The error of a record of which more is made than fits `batch.max_inflight_bytes`."""


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
    held = len(key or b"") + len(value or b"")
    for name, data in headers:
        held += HEADER_OVERHEAD + len(name) + len(data or b"")
    return held


def decode(record: Record) -> Document | Rejected:
    """Read and validate one record. Never raises for bad input, and what it lets through can be written as JSON.

    A null value and an empty text both mean: no chunks (a deletion).
    """
    try:
        doc_id = _key(record.key)
        return _document(record, doc_id, None if record.value is None else _json(record.value))
    except _InvalidError as exc:
        return rejected(record, str(exc))


def document_of(record: Record, doc_id: str, body: dict[str, Any] | None) -> Document | Rejected:
    """The same of a record that is in another form. `body`: what it says in the wire format; None: a deletion."""
    try:
        return _document(record, _bounded(doc_id), body)
    except _InvalidError as exc:
        return rejected(record, str(exc))


def rejected(record: Record, message: str) -> Rejected:
    """Of a record in which no document can be read."""
    return Rejected(record=record, stage="decode", error="InvalidRecord", message=message)


def _key(key: bytes | None) -> str:
    if not key:
        raise _InvalidError(NO_KEY)
    try:
        doc_id = key.decode()
    except UnicodeDecodeError as exc:
        raise _InvalidError(f"the key is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    return _bounded(doc_id)


def _bounded(doc_id: str) -> str:
    if len(doc_id) > MAX_ID_CHARS:
        raise _InvalidError(
            f"the key has {len(doc_id)} characters, and a document's id has {MAX_ID_CHARS} at most: use a hash of it"
        )
    return doc_id


def _json(value: bytes) -> dict[str, Any]:
    body = json_of(value)
    if not isinstance(body, dict):
        raise _InvalidError(f"the value is a JSON {_kind(body)}; an object with `text` or `chunks` is needed")
    return body


def json_of(value: bytes) -> Any:
    """Raises ValueError with the reason."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise _InvalidError(f"the value is not JSON in UTF-8: {why_no_json(value, exc)}") from exc


def why_no_json(value: bytes, error: orjson.JSONDecodeError) -> str:
    """The place in a text that is not UTF-8, which the parser does not tell; else what the parser says."""
    try:
        value.decode()
    except UnicodeDecodeError as exc:
        return f"{exc.reason} at byte {exc.start}"
    return str(error)


def _document(record: Record, doc_id: str, body: dict[str, Any] | None) -> Document:
    if body is None:
        return Document(record=record, id=doc_id, content_hash=_hash(_canonical(None)))
    _known(body, _FIELDS, "")
    given_id = body.get("id")
    if given_id is not None and given_id != doc_id:
        raise _InvalidError(f"`id` in the body ({_short(given_id)}) is not the record's key ({_short(doc_id)})")
    text, chunks = body.get("text"), body.get("chunks")
    if text is not None and chunks == []:
        chunks = None  # encodings without null, such as proto3, have the one of both that is not meant empty
    elif text == "" and chunks is not None:
        text = None
    if (text is None) == (chunks is None):
        raise _InvalidError("exactly one of `text` and `chunks` is needed")
    _string(body, "text")
    given, inside = (None, 0) if chunks is None else _chunks(chunks)
    sections = _sections(body.get("sections"), text)
    title, url, author = _string(body, "title"), _string(body, "url"), _string(body, "author")
    timestamp = _timestamp(body.get("timestamp"))
    metadata, values = _metadata(body.get("metadata"), "metadata")
    canonical = _canonical(body)  # last: a checked body can be written
    return Document(
        record=record,
        id=doc_id,
        content_hash=_hash(canonical),
        text=text,
        chunks=given,
        sections=sections,
        title=title,
        url=url,
        author=author,
        timestamp=timestamp,
        metadata=metadata,
        json_bytes=len(canonical),
        values=values + inside + SECTION_VALUES * len(sections),
    )


def _chunks(value: object) -> tuple[tuple[GivenChunk, ...], int]:
    """The chunks, and how many values their metadata have."""
    if not isinstance(value, list):
        raise _InvalidError(f"`chunks` is a JSON {_kind(value)}; a list of objects with `text` is needed")
    chunks, values = [], 0
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise _InvalidError(f"`chunks[{number}]` is a JSON {_kind(item)}; an object with `text` is needed")
        _known(item, _CHUNK_FIELDS, "chunks[{}].", number)
        text = item.get("text")
        if not isinstance(text, str) or not text.strip():
            raise _InvalidError(f"`chunks[{number}].text` must be a text that is not empty")
        metadata: dict[str, Any] = {}
        if (given := item.get("metadata")) is not None:
            metadata, inside = _metadata(given, f"chunks[{number}].metadata")
            values += inside
        chunks.append(GivenChunk(text=text, metadata=metadata))
    return tuple(chunks), values


def _sections(value: object, text: str | None) -> tuple[Section, ...]:
    """Those that are not empty: a page without a text is none, and no mistake."""
    if value is None:
        return ()
    if text is None:
        raise _InvalidError("`sections` are ranges of `text`; of `chunks`, each has its own `metadata`")
    if not isinstance(value, list):
        raise _InvalidError(f"`sections` is a JSON {_kind(value)}; a list of objects with `start` and `end` is needed")
    made, before = [], 0
    for number, item in enumerate(value):
        name = f"sections[{number}]"
        if not isinstance(item, dict):
            raise _InvalidError(f"`{name}` is a JSON {_kind(item)}; an object with `start` and `end` is needed")
        _known(item, _SECTION_FIELDS, "sections[{}].", number)
        start, end = _whole(item, "start", name), _whole(item, "end", name)
        if start is None or end is None:
            raise _InvalidError(f"`{name}` needs both `start` and `end`, in characters of `text`")
        if not before <= start <= end <= len(text):
            raise _InvalidError(
                f"`{name}` is from {start} to {end}: sections are in order and do not overlap, the one before ends at "
                f"{before}, and `text` has {len(text)} characters (Unicode code points, not bytes or UTF-16 units)"
            )
        page, heading = _whole(item, "page", name), _string(item, "heading", f"{name}.")
        if page is not None and not 1 <= page <= MAX_PAGE:
            raise _InvalidError(f"`{name}.page` is {_short(page)}; pages are numbered from 1")
        if heading and len(heading) > MAX_HEADING_CHARS:
            raise _InvalidError(f"`{name}.heading` has {len(heading)} characters, more than {MAX_HEADING_CHARS}")
        if end > start:
            made.append(Section(start=start, end=end, page=page, heading=(heading or "").strip() or None))
        before = end
    return tuple(made)


def _whole(item: dict[str, Any], field: str, name: str) -> int | None:
    value = item.get(field)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise _InvalidError(f"`{name}.{field}` is {_short(value)}; a whole number is needed")
    return value


def _known(body: dict[str, Any], known: Sequence[str], where: str, number: int = 0) -> None:
    for name in body:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1) if len(name) <= MAX_NAME_CHARS else []
            hint = f" (did you mean `{near[0]}`?)" if near else ""
            raise _InvalidError(
                f"unknown field `{where.format(number)}{_short(name)}`{hint}; your own fields belong under `metadata`"
            )


def _string(body: dict[str, Any], name: str, where: str = "") -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _InvalidError(f"`{where}{name}` is a JSON {_kind(value)}; a string is needed")
    return value


def epoch_of(text: str) -> int | None:
    """The number that a text is, where that is a time since 1970: 8 digits are a date, 14 a date and a time.

    ISO 8601 without separators would read 1712050612345, of the year 2024, as a moment of the year 1712.
    """
    return int(text) if _EPOCH.fullmatch(text) and len(text) != COMPACT_DIGITS else None


def _timestamp(value: object) -> str | None:
    """Normalise ISO 8601 or epoch milliseconds to UTC with milliseconds; a time without a zone is UTC, "" is none."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and (number := epoch_of(value)) is not None:
        value = number
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


def _metadata(value: object, name: str) -> tuple[dict[str, Any], int]:
    """The metadata, and how many values they have."""
    if value is None:
        return {}, 0
    if not isinstance(value, dict):
        raise _InvalidError(f"`{name}` is a JSON {_kind(value)}; an object is needed")
    return value, _check_tree(value, name)


def _check_tree(root: dict[str, Any], name: str) -> int:
    """What a `flattened` field and JSON take: bounded depth and key length, no empty key and no NUL in keys.

    Returns how many values there are. Without recursion: the input decides how deep it is.
    """
    count = 0
    waiting: list[tuple[dict[str, Any] | list[Any], str, int, int]] = [(root, "", 1, 1)]
    while waiting:
        node, path, depth, nesting = waiting.pop()
        count += len(node)
        if nesting > MAX_NESTING:
            raise _InvalidError(f"`{name}` has lists nested deeper than {MAX_NESTING} levels")
        if isinstance(node, dict):
            if node and depth >= MAX_METADATA_DEPTH:
                raise _InvalidError(f"`{name}` is nested deeper than {MAX_METADATA_DEPTH} levels")
            paths: Iterable[str] = [_path(path, key, name) for key in node]
            children: Iterable[Any] = node.values()
            depth += 1
        else:
            paths, children = repeat(path), node
        for child, here in zip(children, paths, strict=False):  # of a list, one path for all
            if isinstance(child, str):
                if "\0" in child:
                    raise _InvalidError(f"`{name}` has a value with a NUL character")
            elif isinstance(child, (dict, list)):
                waiting.append((child, here, depth, nesting + 1))
    return count


def _path(path: str, key: str, name: str) -> str:
    if not key or "\0" in key:
        raise _InvalidError(f"`{name}` has an empty key or one with a NUL character")
    here = f"{path}.{key}" if path else key
    if 4 * len(here) > MAX_KEY_PATH_BYTES < len(here.encode()):  # a character has at most 4 bytes
        raise _InvalidError(f"`{name}` has a key path longer than {MAX_KEY_PATH_BYTES} bytes")
    return here


def _canonical(body: dict[str, Any] | None) -> bytes:
    """The canonical record, metadata included."""
    try:
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as exc:  # what is checked can be written; this is for what the checks do not know
        raise _InvalidError(f"the value cannot be written as JSON again: {exc}") from exc


def _hash(canonical: bytes) -> str:
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
