"""Rows of a snapshot's files, wherever Beam's file systems find them.

    .jsonl .ndjson      a row each line that begins in the piece
    .parquet            a row each, of the groups of rows that begin in the piece
    .csv .tsv           a row each line after the first, which has the names
    .json, all others   whole, as `penstock ingest` reads them: documents in Penstock's own form

A row is a document in the wire format, with its `id`; or, with `[source.mapping]`, whatever its rules read.
"""

import asyncio
import base64
import csv
import gzip
import hashlib
import io
import re
import shutil
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from glob import escape
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import orjson
from apache_beam.io.filesystems import FileSystems

from agents.beam.ranges import Piece
from agents.beam.stores import opened, reach, said
from agents.beam.taking import BATCH, BATCH_BYTES, Some
from agents.indexing.stages import Stages
from agents.schemas.form import form_of_rows, own_headers
from agents.settings import Settings
from agents.sources import LARGEST_BYTES, Failure
from agents.sources.convert.formats import DELIMITERS
from agents.sources.convert.kinds import GZIP
from agents.sources.elements import BOM
from agents.sources.reading import LINES, Ids, Origin, Reading, why_passed_over
from streams.errors import ConfigError
from streams.protocol import Work
from streams.record import Document, Rejected, why_no_json
from streams.snapshot import File, Snapshot, record_of

PARQUET = ".parquet"
TABLES = {".csv": None, ".tsv": "\t"}
"""With what divides their values, where that is known."""
HIDDEN = ("_", ".")
"""Files and folders whose names begin so are what engines leave beside their output: `_SUCCESS`, `_delta_log/`,
`.part-0.crc`."""
TABLES_OF = {"Delta Lake": "/_delta_log/", "Hudi": "/.hoodie/", "Iceberg": ".metadata.json"}
"""By what is among their files."""
GLOB = re.compile(r"[*?\[]")
LOOKED_AT_BYTES = 1024**2
NO_ID = "an `id` is needed, a text that is not empty or a whole number: it names the document"
INVALID = "InvalidRecord"

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`origin`: which one, for people; `failure`: kind and reason, where no document can be made of it."""

    origin: str
    key: bytes | None
    value: bytes
    headers: Headers = ()
    failure: tuple[str, str] | None = None


def _broken(origin: str, why: str, kind: str = INVALID) -> Row:
    """In which nothing can be read."""
    return Row(origin=origin, key=None, value=b"", failure=(kind, why))


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """`snapshot`: of the time at which the newest of its files was written; its tag is another one when any of them
    changed, came or went. `passed_over`: those of other kinds."""

    snapshot: Snapshot
    passed_over: tuple[str, ...]


def matched(pattern: str, options: Sequence[str] = ()) -> Matched:
    """What is there now. `pattern`: a file, a folder, or with `*` and `**`; of disks, `s3://…` or `gs://…`. `options`:
    Beam's own, which may say how such a store is reached.

    Blocks. Raises ConfigError where there is nothing, or it cannot be listed.
    """
    if "://" not in pattern:
        path = Path(pattern).expanduser().absolute()
        literal = escape(str(path))
        pattern = f"{literal}/**" if path.is_dir() else literal if path.exists() else str(path)
    elif pattern.endswith("/"):
        pattern += "**"
    reach(options)
    try:
        found = FileSystems.match([pattern])[0].metadata_list
    except Exception as exc:
        hint = ""
        if "boto3" in str(exc):
            hint = ": Beam's environment has no boto3: `.uv/bin/uv pip install --python .venv-beam boto3`"
        raise ConfigError(f"--from {pattern} cannot be listed{hint or f': {_told(exc)}'}") from exc
    if table := next((kind for kind, mark in TABLES_OF.items() if any(mark in one.path for one in found)), None):
        raise ConfigError(
            f"--from {pattern} is a table of {table}: files of rows that were deleted lie beside those that are live. "
            "Export it as plain files, and load these"
        )
    below = len(GLOB.split(pattern)[0].rpartition("/")[0])
    plain = [one for one in found if not any(part.startswith(HIDDEN) for part in one.path[below:].split("/"))]
    if "://" not in pattern:
        plain = [one for one in plain if Path(one.path).is_file()]
    plain.sort(key=lambda one: one.path)
    taken = [one for one in plain if _is_taken(one.path)]
    others = tuple(one.path for one in plain if not _is_taken(one.path))
    if not taken:
        raise ConfigError(
            f"--from {pattern}: no file is there that can be read"
            + (f" (of other kinds: {', '.join(others[:3])}{' …' if len(others) > 3 else ''})" if others else "")
        )
    told = [[one.path, one.size_in_bytes, one.last_updated_in_seconds] for one in taken]
    snapshot = Snapshot(
        at_ms=int(max(one.last_updated_in_seconds for one in taken) * 1000),
        files=tuple(File(path=one.path, size=one.size_in_bytes) for one in taken),
        pattern=pattern,
        tag=hashlib.sha256(orjson.dumps(told)).hexdigest()[:16],
    )
    return Matched(snapshot=snapshot, passed_over=others)


def _is_taken(path: str) -> bool:
    return _suffix(path) in (*LINES, PARQUET, *TABLES) or why_passed_over(path) is None


def _suffix(path: str) -> str:
    return PurePosixPath(path.lower().removesuffix(GZIP)).suffix


def _told(exc: Exception) -> str:
    return said(exc) or type(exc).__name__


def require_documents(settings: Settings, files: Sequence[File]) -> None:
    """Raises ConfigError where none of the first rows of the first file that has rows is a document: all others are
    alike then."""
    file = next((one for one in files if _suffix(one.path) in (*LINES, PARQUET, *TABLES)), None)
    if file is None:
        return

    async def first(file: File) -> list[Row]:
        rows = Rows(settings)
        try:
            async with aclosing(rows.pages(Piece(file.path, 0, min(file.size, LOOKED_AT_BYTES)))) as pages:
                return (await anext(pages, ([], 0)))[0]
        except OSError as exc:
            raise ConfigError(f"{file.path} cannot be read: {_told(exc)}") from exc
        finally:
            await rows.close()

    form, reasons = form_of_rows(settings), list[str]()
    for row in asyncio.run(first(file)):
        if row.failure and row.failure[1] != NO_ID:
            continue  # damaged, or too long: the others may be well
        made = form.decode(record_of(settings.source.topic, 0, row.origin, row.key, row.value, row.headers))
        if row.failure is None and isinstance(made, Document):
            return
        reasons.append(row.failure[1] if row.failure else cast(Rejected, made).message)
    if reasons:
        raise ConfigError(
            f"{file.path}: none of its first rows is a document, the first for this: {reasons[0]}. Rows in another "
            "form are read by the rules of `[source.mapping]`"
        )


class Rows:
    """Reads pieces, one at a time. `mapped`: rules read the rows. Close it: it may have a process that converts."""

    def __init__(self, settings: Settings) -> None:
        self._mapped = settings.source.mapping is not None
        self._own = tuple(own_headers(settings))
        self._reading = Reading(Ids())

    async def close(self) -> None:
        """End that process. Twice is harmless."""
        await self._reading.close()

    async def pages(self, piece: Piece) -> AsyncGenerator[tuple[list[Row], int], None]:
        """All of it, some at a time, with the bytes that they are. Where a file is damaged, its last row says so.

        Raises OSError where it cannot be reached.
        """
        suffix = _suffix(piece.path)
        if suffix in LINES:
            rows = self._lines(piece)
        elif suffix == PARQUET:
            rows = self._parquet(piece)
        elif suffix in TABLES:
            rows = self._table(piece, TABLES[suffix])
        else:
            async for page in self._documents(piece):
                yield page
            return
        pages, passed = _paged(_until_damaged(rows, piece.path, piece.end), piece.start), piece.start

        def following() -> list[tuple[list[Row], int]]:
            return list(islice(pages, 1))

        while found := await asyncio.to_thread(following):
            ((some, at),) = found
            yield some, at - passed
            passed = at
        yield [], piece.end - passed

    def _lines(self, piece: Piece) -> Iterator[tuple[Row, int]]:
        """Where lines begin elsewhere, each is in one piece: the one that it begins in."""
        with _unpacked(piece.path) as file:
            packed = piece.path.lower().endswith(GZIP)
            if piece.start:
                file.seek(piece.start - 1)
                while (rest := file.readline(LARGEST_BYTES)) and not rest.endswith(b"\n"):
                    pass
            at = piece.start if packed else file.tell()
            while (packed or at < piece.end) and (line := file.readline(LARGEST_BYTES + 1)):
                origin, length = f"{piece.path}@{at}", len(line)
                if length > LARGEST_BYTES:
                    while (more := file.readline(LARGEST_BYTES)) and not more.endswith(b"\n"):
                        length += len(more)
                    length += len(more)
                    yield _broken(origin, f"longer than {LARGEST_BYTES} bytes: divide it"), min(at, piece.end)
                elif value := (line.removeprefix(BOM) if at == 0 else line).strip():
                    yield self._of_line(value, origin), min(at, piece.end)
                at += length

    def _of_line(self, value: bytes, origin: str) -> Row:
        if self._mapped:
            return Row(origin=origin, key=None, value=value)
        try:
            body = orjson.loads(value)
        except orjson.JSONDecodeError as exc:
            why = f"not JSON in UTF-8: {why_no_json(value, exc)}"
            return Row(origin=origin, key=None, value=value, headers=self._own, failure=(INVALID, why))
        return self._named(body, value, origin)

    def _of_values(self, body: dict[str, Any], origin: str) -> Row:
        """What says nothing is left out."""
        body = {name: value for name, value in body.items() if value is not None}
        try:
            value = orjson.dumps(body, default=self._plain)
        except (TypeError, orjson.JSONEncodeError) as exc:
            why = "it is not UTF-8" if "surrogates" in str(exc) else f"a value that JSON has nothing for: {exc}"
            return Row(origin=origin, key=None, value=b"", headers=self._own, failure=(INVALID, why))
        return Row(origin=origin, key=None, value=value) if self._mapped else self._named(body, value, origin)

    def _named(self, body: Any, value: bytes, origin: str) -> Row:
        found = body.get("id") if isinstance(body, dict) else None
        if isinstance(found, float) and found.is_integer():
            found = int(found)  # what whole numbers become where some are missing
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)
            value = orjson.dumps(body | {"id": found}, default=self._plain)
        if not isinstance(found, str) or not found:
            return Row(origin=origin, key=None, value=value, headers=self._own, failure=(INVALID, NO_ID))
        return Row(origin=origin, key=found.encode(errors="replace"), value=value, headers=self._own)

    def _parquet(self, piece: Piece) -> Iterator[tuple[Row, int]]:
        from pyarrow.parquet import ParquetFile

        with _unpacked(piece.path) as raw, ParquetFile(raw) as file:
            number = 0
            for group in range(file.num_row_groups):
                about = file.metadata.row_group(group)
                at = _first_page(about.column(0)) if about.num_columns else 0
                if piece.start <= at < piece.end:
                    yield from _until_damaged(
                        self._group(file, group, piece.path, number, at), f"{piece.path}#{number}", at
                    )
                number += about.num_rows

    def _group(self, file: Any, group: int, path: str, number: int, at: int) -> Iterator[tuple[Row, int]]:
        for batch in file.iter_batches(BATCH, row_groups=[group]):
            for values in _values_of(batch):
                origin = f"{path}#{number}"
                if isinstance(values, str):
                    yield Row(origin=origin, key=None, value=b"", headers=self._own, failure=(INVALID, values)), at
                else:
                    yield self._of_values(values, origin), at
                number += 1

    def _plain(self, value: object) -> object:
        """Of Parquet's types those that JSON has not: numbers with decimals, and what has a text of its own.

        Bytes are a text where they are UTF-8: some writers do not say so. Others are left to the rules of a mapping.
        """
        if not isinstance(value, bytes | bytearray | memoryview):
            return str(value)
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            if self._mapped:
                return base64.b64encode(value).decode()
            raise TypeError("bytes that are no text") from None

    def _table(self, piece: Piece, delimiter: str | None) -> Iterator[tuple[Row, int]]:
        """`delimiter`: None where the first line tells it."""
        with _unpacked(piece.path) as file:
            csv.field_size_limit(LARGEST_BYTES)
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
            first = text.readline(LARGEST_BYTES)
            delimiter = delimiter or max(DELIMITERS, key=first.count)
            found = csv.DictReader(chain([first], text), delimiter=delimiter, restkey="", strict=True)
            names = found.fieldnames or ()
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise csv.Error(f"its first line has the name {twice!r} twice")
            while True:
                origin = f"{piece.path}:{found.line_num + 1}"
                try:
                    values = next(found, None)
                except csv.Error as exc:
                    yield _broken(origin, f"no CSV: {exc}"), piece.start
                    continue
                if values is None:
                    return
                if "" in values:
                    yield _broken(origin, "it has more values than the first line has names"), piece.start
                    continue
                yield self._of_values({name: value for name, value in values.items() if value}, origin), piece.start

    async def _documents(self, piece: Piece) -> AsyncIterator[tuple[list[Row], int]]:
        """By a copy on this machine: converters want files."""
        name = PurePosixPath(piece.path).name
        uri = piece.path if "://" in piece.path else Path(piece.path).as_uri()
        origin = Origin(uri=uri, shown=piece.path, relative=name)
        with tempfile.TemporaryDirectory(prefix="penstock-rows-") as folder:
            copy = Path(folder) / name
            await asyncio.to_thread(_copied, piece.path, copy)
            rows = list[Row]()
            async for one in self._reading.documents(copy, origin):
                if isinstance(one, Failure):
                    failure = (one.error, one.reason)
                    rows.append(Row(origin=one.origin, key=uri.encode(errors="replace"), value=b"", failure=failure))
                else:
                    value = one.value or b""
                    rows.append(Row(origin=one.origin, key=one.key, value=value, headers=self._own))
                if len(rows) >= BATCH or sum(len(row.value) for row in rows) > BATCH_BYTES:
                    yield rows, 0
                    rows = []
            yield rows, piece.end - piece.start


def row_pages(stages: Stages, rows: Rows, topic: str, at_ms: int) -> Callable[[Sequence[Piece]], AsyncIterator[Some]]:
    """Of pieces of a snapshot's files. Raises ConfigError naming a file that cannot be read any more."""

    async def pages(pieces: Sequence[Piece]) -> AsyncGenerator[Some, None]:
        for piece in pieces:
            try:
                async for page, passed in rows.pages(piece):
                    yield Some([work_of(stages, row, topic, at_ms) for row in page], passed)
            except OSError as exc:
                raise ConfigError(f"{piece.path} cannot be read: {_told(exc)}") from exc

    return pages


def work_of(stages: Stages, row: Row, topic: str, at_ms: int) -> Work:
    """What is to be done with a row."""
    work = stages.work_of(record_of(topic, at_ms, row.origin, row.key, row.value, row.headers))
    if row.failure:
        work.reject("decode", *row.failure)
    return work


def _until_damaged(rows: Iterator[tuple[Row, int]], origin: str, at: int) -> Iterator[tuple[Row, int]]:
    """A file that is not what its name says, or breaks off, is bad input; one that cannot be reached is none."""
    try:
        yield from rows
    except (EOFError, zlib.error, csv.Error, ValueError, ArithmeticError, OSError) as exc:
        if isinstance(exc, OSError) and not _is_of_content(exc):
            raise
        yield _broken(origin, f"cannot be read from here on: {_told(exc)}", "DamagedFile"), at


def _is_of_content(exc: OSError) -> bool:
    """Parquet's library says what is wrong with a file by a plain error; those of the system have a number."""
    return isinstance(exc, gzip.BadGzipFile) or (type(exc) is OSError and exc.errno is None)


def _unpacked(path: str) -> IO[bytes]:
    raw = opened(path)
    return cast(IO[bytes], gzip.open(raw)) if path.lower().endswith(GZIP) else raw


def _copied(path: str, to: Path) -> None:
    with opened(path) as there, to.open("wb") as copy:
        shutil.copyfileobj(there, copy)


def _paged(rows: Iterator[tuple[Row, int]], start: int) -> Iterator[tuple[list[Row], int]]:
    """With the place that each page begins at: what is before it is done."""
    page, size, at = list[Row](), 0, start
    for row, place in rows:
        if page and (len(page) == BATCH or size + len(row.value) > BATCH_BYTES):
            yield page, at
            page, size = [], 0
        page.append(row)
        size += len(row.value)
        at = place
    if page:
        yield page, at


def _first_page(column: Any) -> int:
    """Where a column of a group of rows begins in its file."""
    own = column.dictionary_page_offset
    return int(min(own, column.data_page_offset) if own else column.data_page_offset)


def _values_of(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Of each row its values, by name; why it has none, where Python has no such date, say."""
    batch = batch.cast(_in_microseconds(batch.schema), safe=False)
    try:
        yield from batch.to_pylist(maps_as_pydicts="lossy")
    except (ValueError, ArithmeticError):
        for number in range(batch.num_rows):
            try:
                yield from batch.slice(number, 1).to_pylist(maps_as_pydicts="lossy")
            except (ValueError, ArithmeticError) as exc:
                yield f"a value that cannot be read: {_told(exc)}"


def _in_microseconds(schema: Any) -> Any:
    """What is in nanoseconds: Python has none."""
    import pyarrow as pa

    def plain(kind: Any) -> Any:
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            return pa.timestamp("us", kind.tz)
        if pa.types.is_time64(kind) or pa.types.is_duration(kind):
            return pa.time64("us") if pa.types.is_time64(kind) else pa.duration("us")
        if pa.types.is_struct(kind):
            return pa.struct([one.with_type(plain(one.type)) for one in kind])
        if pa.types.is_list(kind):
            return pa.list_(plain(kind.value_type))
        return kind

    return pa.schema([one.with_type(plain(one.type)) for one in schema])
