"""What is in a file, wherever it came from: a document, or one in each of its JSON lines, or of its array of JSON.

A JSON line is UTF-8 and ends with a line feed, and with nothing else: the other line breaks that Unicode has may stand
in its strings. How other files become text: `agents.sources.convert`.
"""

import asyncio
import gzip
import os
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Literal, cast

import orjson

from agents.sources import LARGEST_BYTES, Failure, Outgoing, PassedOver
from agents.sources.convert import ConversionError, Converted
from agents.sources.convert.convert import Converter, install
from agents.sources.convert.kinds import GZIP, KINDS, is_there, kind_of
from agents.sources.elements import BLOCK_BYTES, BOM, NoElementsError, elements
from streams.record import Record, Rejected, decode, why_no_json

LINES = (".jsonl", ".ndjson")
JSON = ".json"
SUFFIXES = (*LINES, JSON, *KINDS)
TAKEN = f"what is read: {', '.join(SUFFIXES)}, and these with {GZIP}"
NO_UTF8 = "its name is not UTF-8: rename it"
OTHER_JSON = (
    "a document is expected, an object with `text` or `chunks`, or an array of them, each with its `id`. JSON in "
    "another form is read from a topic, by the rules of `[source.mapping]`; `--exclude '*.json'` leaves it out here"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """How documents are named: by the object's URI, or its path relative to the source; after a prefix."""

    by: Literal["uri", "relative"] = "uri"
    prefix: str = ""

    @property
    def told(self) -> str:
        """As it is remembered with each document: `uri:PREFIX`."""
        return f"{self.by}:{self.prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a file is from. `shown`: for people; `relative`: its path in the source."""

    uri: str
    shown: str
    relative: str


class Reading:
    """Reads one file at a time. Close it: it may have a process that converts."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._converter = Converter()

    async def close(self) -> None:
        """End that process. Twice is harmless."""
        await self._converter.close()

    async def documents(self, path: Path, origin: Origin) -> AsyncIterator[Outgoing | Failure]:
        """Its document, or one of each JSON line or element. A failure names the file, and the line or element.

        A file without a text has none: a copy that broke off must delete nothing that `--max-deletes` would keep.
        """
        kind = kind_of(path.name)
        if kind is None:
            for found in self._read_json(path, origin):
                if found is None:
                    await asyncio.sleep(0)  # a file may be unpacked into any length: signals are heard meanwhile
                else:
                    yield found
            return
        try:
            converted = await self._converter.convert(path, kind)
            if not converted.text.strip():
                return
            yield document_of(converted, origin, self._ids)
        except ConversionError as exc:
            yield Failure(origin=origin.shown, reason=str(exc), error=type(exc).__name__)

    def _read_json(self, path: Path, origin: Origin) -> Iterator[Outgoing | Failure | None]:
        """What it has; None now and then."""
        read = self._elements if path.name.lower().removesuffix(GZIP).endswith(JSON) else self._lines
        try:
            with path.open("rb") as raw, gzip.open(raw) if path.suffix.lower() == GZIP else raw as opened:
                yield from read(cast(IO[bytes], opened), origin)
        except (OSError, EOFError, zlib.error) as exc:
            yield Failure(origin=origin.shown, reason=cannot(exc))

    def _elements(self, opened: IO[bytes], origin: Origin) -> Iterator[Outgoing | Failure | None]:
        """Where the first is no document none is read: it is JSON of something else."""
        try:
            for found in elements(opened, LARGEST_BYTES):
                if found is None:
                    yield None
                    continue
                alone = found.index is None
                shown = origin.shown if alone else f"{origin.shown}[{found.index}]"
                if found.value is None:
                    yield Failure(origin=shown, reason=f"longer than {LARGEST_BYTES} bytes: divide it")
                elif not found.index and _is_other(found.value):
                    yield Failure(origin=shown, reason=OTHER_JSON)
                    return
                else:
                    yield of_line(found.value, shown, self._ids.prefix, key_of(origin, self._ids) if alone else None)
        except NoElementsError as exc:
            lines = " (JSON lines have a name that ends with .jsonl)" if exc.more else ""
            yield Failure(origin=origin.shown, reason=f"{exc}{lines}: {OTHER_JSON}")

    def _lines(self, opened: IO[bytes], of: Origin) -> Iterator[Outgoing | Failure | None]:
        number = passed = 0
        while line := opened.readline(LARGEST_BYTES + 1):
            number, passed = number + 1, passed + len(line)
            if passed > BLOCK_BYTES:
                passed = 0
                yield None
            origin = f"{of.shown}:{number}"
            if len(line) > LARGEST_BYTES:
                yield Failure(origin=origin, reason=f"longer than {LARGEST_BYTES} bytes: divide it", line=number)
                while line and not line.endswith(b"\n"):
                    line = opened.readline(LARGEST_BYTES)
                    yield None
            elif value := (line.removeprefix(BOM) if number == 1 else line).strip():
                found = of_line(value, origin, self._ids.prefix)
                yield replace(found, line=number) if isinstance(found, Failure) else found


def document_of(converted: Converted, origin: Origin, ids: Ids) -> Outgoing | Failure:
    """In the wire format, named by where it is from."""
    return of_file(converted, key_of(origin, ids), origin.shown, title=stem_of(origin.relative), url=origin.uri)


def key_of(origin: Origin, ids: Ids) -> str:
    """Of a file that is one document."""
    return ids.prefix + (origin.uri if ids.by == "uri" else origin.relative)


def _is_other(value: bytes) -> bool:
    """JSON that says nothing of what a document has; what is no JSON is found to be none elsewhere."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return not isinstance(body, dict) or not body.keys() & {"text", "chunks"}


def why_passed_over(name: str) -> PassedOver | None:
    """Why a file of this name is not read; None when it is."""
    kind = kind_of(name)
    if name.lower().removesuffix(GZIP).endswith((*LINES, JSON)) or (kind and is_there(kind)):
        return None
    suffix = os.path.splitext(name)[1].lower()
    return PassedOver(kind=kind or suffix or "without a suffix", option=install(kind) if kind else None)


def cannot(exc: Exception) -> str:
    """Why a file is not read, in one phrase."""
    return f"cannot be read: {getattr(exc, 'strerror', None) or exc}"


def stem_of(name: str) -> str:
    """The last part of a path without what says its kind. What is shown of a name that is not UTF-8 is not it."""
    last = os.fsencode(name.rpartition("/")[2]).decode(errors="replace")
    return os.path.splitext(last[: -len(GZIP)] if last.lower().endswith(GZIP) else last)[0]


def of_file(converted: Converted, key: str, origin: str, *, title: str, url: str | None) -> Outgoing | Failure:
    """The document of a converted file. `title`: where the file does not say one."""
    told: dict[str, object] = {
        "url": url,
        "author": converted.author,
        "timestamp": converted.timestamp,
        "sections": [
            {field: value for field, value in asdict(section).items() if value is not None}
            for section in converted.sections
        ],
    }
    body = {"text": converted.text, "title": converted.title or title}
    try:
        return checked(
            key.encode(), orjson.dumps(body | {field: value for field, value in told.items() if value}), origin
        )
    except (UnicodeEncodeError, orjson.JSONEncodeError):
        return Failure(origin=origin, reason=NO_UTF8)


def of_line(line: bytes, origin: str, prefix: str = "", key: str | None = None) -> Outgoing | Failure:
    """The document of a JSON line, named by its `id`, after the prefix, or where it has none by `key`."""
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        return Failure(origin=origin, reason=f"not JSON in UTF-8: {why_no_json(line, exc)}")
    if key is not None and isinstance(body, dict) and "id" not in body:
        try:
            return checked(key.encode(), line, origin)
        except UnicodeEncodeError:
            return Failure(origin=origin, reason=NO_UTF8)
    if not isinstance(body, dict) or not isinstance(body.get("id"), str) or not body["id"]:
        return Failure(origin=origin, reason="an object with a string `id` is needed; it becomes the record's key")
    if prefix:
        body["id"] = prefix + body["id"]
        line = orjson.dumps(body)
    return checked(body["id"].encode(), line, origin)


def checked(key: bytes, value: bytes | None, origin: str) -> Outgoing | Failure:
    """As a worker would take it. No value: a deletion."""
    result = decode(Record(topic="", partition=0, offset=0, timestamp_ms=0, key=key, value=value))
    if isinstance(result, Rejected):
        return Failure(origin=origin, reason=result.message, error=result.error)
    return Outgoing(key=key, value=value, origin=origin)
