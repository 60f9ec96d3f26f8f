"""Text, Markdown and JSON-lines files. Document ids are relative paths, or the `id` of each JSON line.

Files are UTF-8, with or without a byte order mark. A JSON line ends with a line feed, and with nothing else: the other
line breaks that Unicode has may stand in its strings.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import orjson

from agents.sources import LARGEST_BYTES, Outgoing
from streams.errors import ConfigError
from streams.record import Record, Rejected, decode, why_no_json

TEXT, MARKDOWN, LINES = (".txt", ".text", ".rst"), (".md", ".markdown"), (".jsonl", ".ndjson")
SUFFIXES = (*TEXT, *MARKDOWN, *LINES)
BOM = b"\xef\xbb\xbf"


def find_files(paths: list[Path]) -> list[tuple[Path, str]]:
    """Files under `paths` with the id that each gets: its path relative to the folder named, else its name.

    Links to folders inside them are not followed. Raises ConfigError for a path that does not exist or cannot be read,
    a named file of an unknown kind, a name that is not UTF-8, two equal ids, and when nothing is found.
    """
    found: dict[str, Path] = {}
    for path in paths:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist") from None
        except (OSError, ValueError) as exc:
            raise _unreadable(path, exc) from exc
        if stat.S_ISDIR(mode):
            pairs = [(file.relative_to(path).as_posix(), file) for file in sorted(_inside(path))]
        elif path.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"{path}: only {', '.join(SUFFIXES)} can be read")
        else:
            pairs = [(path.name, path)]
        for name, file in pairs:
            _require_utf8(name, file)
            if found.setdefault(name, file) != file:
                raise ConfigError(
                    f"{found[name]} and {file} would both become the document {name}: ingest a folder "
                    "above both, or rename one"
                )
    if not found:
        raise ConfigError(f"nothing to publish: no {', '.join(SUFFIXES)} in {', '.join(map(str, paths))}")
    return [(file, name) for name, file in found.items()]


def _inside(folder: Path) -> Iterator[Path]:
    """Raises ConfigError for a folder that cannot be read: its documents would be missing without a word."""

    def unreadable(exc: OSError) -> None:
        raise _unreadable(exc.filename, exc)

    for inside, _, names in os.walk(folder, onerror=unreadable):
        for name in names:
            file = Path(inside) / name
            try:
                if file.suffix.lower() in SUFFIXES and file.is_file():
                    yield file
            except OSError as exc:  # a folder that may be listed, and not entered
                raise _unreadable(file, exc) from exc


def _unreadable(what: object, exc: OSError | ValueError) -> ConfigError:
    return ConfigError(f"{what} cannot be read: {getattr(exc, 'strerror', None) or exc}")


def _require_utf8(name: str, file: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{file}: its name is not UTF-8, and would be the document's id: rename it") from None


def read_file(file: Path, name: str) -> Iterator[Outgoing]:
    """Documents of one file, validated as a worker does. Raises ConfigError naming the file and the line."""
    try:
        if file.suffix.lower() in LINES:
            yield from _read_lines(file)
        else:
            yield _read_text(file, name)
    except OSError as exc:
        raise _unreadable(file, exc) from exc


def _read_text(file: Path, name: str) -> Outgoing:
    with file.open("rb") as opened:
        raw = opened.read(LARGEST_BYTES + 1)
    if len(raw) > LARGEST_BYTES:
        raise ConfigError(f"{file} is larger than {LARGEST_BYTES} bytes: divide it")
    try:
        content = raw.removeprefix(BOM).decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file} is not UTF-8 text: {exc}") from exc
    content = content.replace("\r\n", "\n").replace("\r", "\n")
    title = _heading(content) if file.suffix.lower() in MARKDOWN else None
    body = {"text": content, "title": title or file.stem, "url": file.resolve().as_uri()}
    return _checked(name.encode(), orjson.dumps(body), str(file))


def _read_lines(file: Path) -> Iterator[Outgoing]:
    with file.open("rb") as opened:
        number = 0
        while line := opened.readline(LARGEST_BYTES + 1):
            number += 1
            origin = f"{file}:{number}"
            if len(line) > LARGEST_BYTES:
                raise ConfigError(f"{origin}: longer than {LARGEST_BYTES} bytes: divide it")
            if value := (line.removeprefix(BOM) if number == 1 else line).strip():
                yield _checked(_id_of(value, origin), value, origin)


def _id_of(line: bytes, origin: str) -> bytes:
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise ConfigError(f"{origin}: not JSON in UTF-8: {why_no_json(line, exc)}") from exc
    if not isinstance(body, dict) or not isinstance(body.get("id"), str) or not body["id"]:
        raise ConfigError(f"{origin}: an object with a string `id` is needed; it becomes the record's key")
    return str(body["id"]).encode()


def _checked(key: bytes, value: bytes, origin: str) -> Outgoing:
    result = decode(Record(topic="", partition=0, offset=0, timestamp_ms=0, key=key, value=value))
    if isinstance(result, Rejected):
        raise ConfigError(f"{origin}: {result.message}")
    return Outgoing(key=key, value=value, origin=origin)


def _heading(content: str) -> str | None:
    for line in content.split("\n"):
        if line.startswith("# "):
            return line[2:].strip() or None
    return None
