"""Text, Markdown and JSON-lines files. The id of a document is the file's URI, or the `id` of each JSON line.

Files are UTF-8, with or without a byte order mark. A JSON line ends with a line feed, and with nothing else: the other
line breaks that Unicode has may stand in its strings.
"""

import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import unquote_to_bytes, urlsplit

import orjson

from agents.sources import LARGEST_BYTES, Failure, Listed, Outgoing, PassedOver
from streams.errors import ConfigError
from streams.record import Record, Rejected, decode, why_no_json

TEXT, MARKDOWN, LINES = (".txt", ".text", ".rst"), (".md", ".markdown"), (".jsonl", ".ndjson")
SUFFIXES = (*TEXT, *MARKDOWN, *LINES)
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """How documents are named: by the object's URI, or its path relative to the source; after a prefix."""

    by: Literal["uri", "relative"] = "uri"
    prefix: str = ""


def file_sources(paths: Sequence[Path], ids: Ids) -> "list[Files]":
    """A source for each path, in their order, twice the same once.

    Raises ConfigError for a path that does not exist or cannot be looked at, and a named file of an unknown kind.
    """
    found: dict[str, Files] = {}
    for path in paths:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist") from None
        except (OSError, ValueError) as exc:
            raise ConfigError(f"{path} cannot be read: {_why(exc)}") from exc
        if not stat.S_ISDIR(mode) and path.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"{path}: only {', '.join(SUFFIXES)} can be read")
        source = Files(path, ids)
        found[source.name] = source
    return list(found.values())


class Files:
    """`Source` of a folder with all below it, or of one file. Links to folders are not followed."""

    def __init__(self, path: Path, ids: Ids) -> None:
        self._path = path.resolve()
        self._ids = ids
        self._folder = self._path.is_dir()

    @property
    def name(self) -> str:
        """The URI of the folder, which ends with a slash, or of the file."""
        return self._path.as_uri().rstrip("/") + "/" if self._folder else self._path.as_uri()

    async def listing(self) -> AsyncIterator[Listed | Failure | PassedOver]:
        """Every file of a kind that is taken, by its URI; its tag is when it was changed, with its size."""
        for found in self._found():
            if isinstance(found, Failure):
                yield found
            elif found.suffix.lower() in SUFFIXES:
                yield _listed(found)
            else:
                yield PassedOver(kind=found.suffix.lower() or "without a suffix")

    def _found(self) -> Iterator[Path | Failure]:
        if not self._folder:
            yield self._path
            return
        unreadable: list[OSError] = []
        for inside, folders, names in os.walk(self._path, onerror=unreadable.append):
            folders.sort()
            yield from (Path(inside) / name for name in sorted(names))
            yield from (Failure(origin=str(exc.filename), reason=_cannot(exc)) for exc in unreadable)
            unreadable.clear()
        yield from (Failure(origin=str(exc.filename), reason=_cannot(exc)) for exc in unreadable)

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure]:
        """Its document, or one of each JSON line. A failure names the file, and the line."""
        for found in self._read(listed):
            yield found

    def _read(self, listed: Listed) -> Iterator[Outgoing | Failure]:
        path = Path(os.fsdecode(unquote_to_bytes(urlsplit(listed.id).path)))
        try:
            with path.open("rb") as opened:
                if path.suffix.lower() in LINES:
                    yield from self._lines(path, opened)
                else:
                    yield self._text(path, opened.read(LARGEST_BYTES + 1), listed.id)
        except OSError as exc:
            yield Failure(origin=str(path), reason=_cannot(exc))

    def _text(self, path: Path, raw: bytes, uri: str) -> Outgoing | Failure:
        if len(raw) > LARGEST_BYTES:
            return Failure(origin=str(path), reason=f"larger than {LARGEST_BYTES} bytes: divide it")
        try:
            content = raw.removeprefix(BOM).decode()
        except UnicodeDecodeError as exc:
            return Failure(origin=str(path), reason=f"not UTF-8 text: {exc}")
        content = content.replace("\r\n", "\n").replace("\r", "\n")
        title = _heading(content) if path.suffix.lower() in MARKDOWN else None
        name = uri
        if self._ids.by == "relative":
            name = path.relative_to(self._path).as_posix() if self._folder else path.name
        try:
            key = (self._ids.prefix + name).encode()
            body = orjson.dumps({"text": content, "title": title or path.stem, "url": uri})
        except (UnicodeEncodeError, orjson.JSONEncodeError):
            return Failure(origin=str(path), reason="its name is not UTF-8: rename it")
        return _checked(key, body, str(path))

    def _lines(self, path: Path, opened: BinaryIO) -> Iterator[Outgoing | Failure]:
        number = 0
        while line := opened.readline(LARGEST_BYTES + 1):
            number += 1
            origin = f"{path}:{number}"
            if len(line) > LARGEST_BYTES:
                yield Failure(origin=origin, reason=f"longer than {LARGEST_BYTES} bytes: divide it")
                while line and not line.endswith(b"\n"):
                    line = opened.readline(LARGEST_BYTES)
            elif value := (line.removeprefix(BOM) if number == 1 else line).strip():
                yield self._line(value, origin)

    def _line(self, line: bytes, origin: str) -> Outgoing | Failure:
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            return Failure(origin=origin, reason=f"not JSON in UTF-8: {why_no_json(line, exc)}")
        if not isinstance(body, dict) or not isinstance(body.get("id"), str) or not body["id"]:
            return Failure(origin=origin, reason="an object with a string `id` is needed; it becomes the record's key")
        if self._ids.prefix:
            body["id"] = self._ids.prefix + body["id"]
            line = orjson.dumps(body)
        return _checked(body["id"].encode(), line, origin)


def _listed(file: Path) -> Listed | Failure | PassedOver:
    try:
        found = file.stat()
    except OSError as exc:  # a link that leads nowhere, or a folder that may be listed and not entered
        return Failure(origin=str(file), reason=_cannot(exc))
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for somebody to write
        return PassedOver(kind="no regular file")
    return Listed(id=file.as_uri(), tag=f"{found.st_mtime_ns}-{found.st_size}", size=found.st_size)


def _checked(key: bytes, value: bytes, origin: str) -> Outgoing | Failure:
    """As a worker would take it."""
    result = decode(Record(topic="", partition=0, offset=0, timestamp_ms=0, key=key, value=value))
    if isinstance(result, Rejected):
        return Failure(origin=origin, reason=result.message)
    return Outgoing(key=key, value=value, origin=origin)


def _cannot(exc: OSError) -> str:
    return f"cannot be read: {_why(exc)}"


def _why(exc: OSError | ValueError) -> str:
    return getattr(exc, "strerror", None) or str(exc)


def _heading(content: str) -> str | None:
    for line in content.split("\n"):
        if line.startswith("# "):
            return line[2:].strip() or None
    return None
