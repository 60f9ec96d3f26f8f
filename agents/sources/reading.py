"""What is in a file, wherever it came from: a document, or one in each of its JSON lines.

A JSON line is UTF-8 and ends with a line feed, and with nothing else: the other line breaks that Unicode has may stand
in its strings. How other files become text: `agents.sources.convert`.
"""

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
from streams.record import Record, Rejected, decode, why_no_json

LINES = (".jsonl", ".ndjson")
SUFFIXES = (*LINES, *KINDS)
TAKEN = f"what is read: {', '.join(SUFFIXES)}, and these with {GZIP}"
BOM = b"\xef\xbb\xbf"


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
        """Its document, or one of each JSON line. A failure names the file, and the line.

        A file without a text has none: a copy that broke off must delete nothing that `--max-deletes` would keep.
        """
        kind = kind_of(path.name)
        if kind is None:
            for found in self._read_lines(path, origin.shown):
                yield found
            return
        try:
            converted = await self._converter.convert(path, kind)
            if not converted.text.strip():
                return
            yield document_of(converted, origin, self._ids)
        except ConversionError as exc:
            yield Failure(origin=origin.shown, reason=str(exc), error=type(exc).__name__)

    def _read_lines(self, path: Path, shown: str) -> Iterator[Outgoing | Failure]:
        try:
            with path.open("rb") as raw, gzip.open(raw) if path.suffix.lower() == GZIP else raw as opened:
                yield from self._lines(cast(IO[bytes], opened), shown)
        except (OSError, EOFError, zlib.error) as exc:
            yield Failure(origin=shown, reason=cannot(exc))

    def _lines(self, opened: IO[bytes], shown: str) -> Iterator[Outgoing | Failure]:
        number = 0
        while line := opened.readline(LARGEST_BYTES + 1):
            number += 1
            origin = f"{shown}:{number}"
            if len(line) > LARGEST_BYTES:
                yield Failure(origin=origin, reason=f"longer than {LARGEST_BYTES} bytes: divide it", line=number)
                while line and not line.endswith(b"\n"):
                    line = opened.readline(LARGEST_BYTES)
            elif value := (line.removeprefix(BOM) if number == 1 else line).strip():
                found = of_line(value, origin, self._ids.prefix)
                yield replace(found, line=number) if isinstance(found, Failure) else found


def document_of(converted: Converted, origin: Origin, ids: Ids) -> Outgoing | Failure:
    """In the wire format, named by where it is from."""
    key = ids.prefix + (origin.uri if ids.by == "uri" else origin.relative)
    return of_file(converted, key, origin.shown, title=stem_of(origin.relative), url=origin.uri)


def why_passed_over(name: str) -> PassedOver | None:
    """Why a file of this name is not read; None when it is."""
    kind = kind_of(name)
    if name.lower().removesuffix(GZIP).endswith(LINES) or (kind and is_there(kind)):
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
        return Failure(origin=origin, reason="its name is not UTF-8: rename it")


def of_line(line: bytes, origin: str, prefix: str = "") -> Outgoing | Failure:
    """The document of a JSON line, which has its `id`. `prefix`: before that."""
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        return Failure(origin=origin, reason=f"not JSON in UTF-8: {why_no_json(line, exc)}")
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
