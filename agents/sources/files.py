"""Text, Markdown and JSON-lines files. Document ids are relative paths, or the `id` of each JSON line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from agents.sources import Outgoing
from streams.errors import ConfigError
from streams.record import Record, Rejected, decode

TEXT, MARKDOWN, LINES = (".txt", ".text", ".rst"), (".md", ".markdown"), (".jsonl", ".ndjson")
SUFFIXES = (*TEXT, *MARKDOWN, *LINES)


def find_files(paths: list[Path]) -> list[tuple[Path, str]]:
    """Files under `paths` with the id that each gets: its path relative to the folder named, else its name.

    Raises ConfigError for a path that does not exist, a named file of an unknown kind, or two equal ids.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
            pairs = [(file.relative_to(path).as_posix(), file) for file in inside]
        elif not path.exists():
            raise ConfigError(f"{path} does not exist")
        elif path.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"{path}: only {', '.join(SUFFIXES)} can be read")
        else:
            pairs = [(path.name, path)]
        for name, file in pairs:
            if found.setdefault(name, file) != file:
                raise ConfigError(f"{found[name]} and {file} would both become the document {name}: ingest them apart")
    return [(file, name) for name, file in found.items()]


def read_file(file: Path, name: str) -> Iterator[Outgoing]:
    """Documents of one file, validated as a worker does. Raises ConfigError naming the file and the line."""
    try:
        content = file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as exc:
        raise ConfigError(f"{file} cannot be read as UTF-8 text: {exc}") from exc
    if file.suffix.lower() in LINES:
        for number, line in enumerate(content.splitlines(), 1):
            if line.strip():
                yield _checked(*_json_line(line, f"{file}:{number}"), f"{file}:{number}")
        return
    title = _heading(content) if file.suffix.lower() in MARKDOWN else None
    body = {"text": content, "title": title or file.stem, "url": file.resolve().as_uri()}
    yield _checked(name, body, str(file))


def _json_line(line: str, origin: str) -> tuple[str, dict[str, Any]]:
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise ConfigError(f"{origin}: not JSON: {exc}") from exc
    if not isinstance(body, dict) or not isinstance(body.get("id"), str) or not body["id"]:
        raise ConfigError(f"{origin}: an object with a string `id` is needed; it becomes the record's key")
    return body["id"], body


def _checked(name: str, body: dict[str, Any], origin: str) -> Outgoing:
    key, value = name.encode(), orjson.dumps(body)
    result = decode(Record(topic="", partition=0, offset=0, timestamp_ms=0, key=key, value=value))
    if isinstance(result, Rejected):
        raise ConfigError(f"{origin}: {result.message}")
    return Outgoing(key=key, value=value, origin=origin)


def _heading(content: str) -> str | None:
    for line in content.splitlines():
        if line.startswith("# "):
            return line[2:].strip() or None
    return None
