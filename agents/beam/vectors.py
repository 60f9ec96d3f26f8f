"""Vectors in files: what a batch makes where no index is (`--to`), and takes where no model is (`--vectors`).

    part-<partition>-<from>-<to>.parquet     what the records of a range of the log become: a row each chunk
    _contract.json                           by which model, split how; in Parquet's own metadata as well

A file is there when it is whole: it is written under another name first. Ranges lie on a grid of offsets, so that
another run finds what is done, and makes again only what the log's end has cut off.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from pyarrow.parquet import ParquetFile, ParquetWriter

from agents.beam.examples import example_of, read_examples, record_of_example, row_of_example
from agents.beam.ranges import Range
from agents.beam.session import Format
from agents.beam.stores import created, opened, reach, said
from streams.errors import ConfigError, RefusedError
from streams.plan import ChunkWrite, Outcome, Space, Vectors, Written, chunk_hash, fits
from streams.protocol import Work

GRID = 2000
"""Offsets of a file: its vectors are in memory when it is read back."""
CONTRACT = "_contract.json"
CONTRACT_KEY = b"penstock.contract"
PART = re.compile(r"part-(\d+)-(\d+)-(\d+)\.(parquet|jsonl|tfrecord)")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("chunk", pa.int32()),
        ("text", pa.string()),
        ("metadata", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("model", pa.string()),
        ("chunk_hash", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("version", pa.int64()),
    ]
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filed:
    """A range of the log whose vectors are in a file."""

    part: Range
    path: str


def on_grid(ranges: Mapping[int, range]) -> list[Range]:
    """All of these offsets, cut at multiples of `GRID`."""
    return [
        Range(number, max(one.start, start), min(one.stop, start + GRID))
        for number, one in sorted(ranges.items())
        for start in range(one.start - one.start % GRID, one.stop, GRID)
    ]


def filed(folder: str, options: Sequence[str] = ()) -> list[Filed]:
    """Every file that is there, in the order of the log. Blocks. Raises ConfigError where they cannot be listed."""
    reach(options)
    try:
        names = [one.path for one in FileSystems.match([_in(folder, "part-*")])[0].metadata_list]
    except Exception as exc:
        raise ConfigError(f"{folder} cannot be listed: {said(exc)}") from exc
    found = [(match, path) for path in names if (match := PART.fullmatch(path.rpartition("/")[2]))]
    return sorted(
        (Filed(Range(int(match[1]), int(match[2]), int(match[3])), path) for match, path in found),
        key=lambda one: (one.part.partition, one.part.start, one.part.end),
    )


def left_of(parts: Iterable[Range], there: Iterable[Filed]) -> list[Range]:
    """Those that no file has as a whole."""
    found = [one.part for one in there]
    return [
        part
        for part in parts
        if not any(one.partition == part.partition and one.start <= part.start and part.end <= one.end for one in found)
    ]


def tiled(ranges: Mapping[int, range], there: Iterable[Filed]) -> tuple[list[Filed], dict[int, int]]:
    """Files that have these offsets one after the other, each with what is taken from it; and up to where they do."""
    ends, taken = {number: one.start for number, one in ranges.items()}, list[Filed]()
    for one in there:
        part, at = one.part, ends.get(one.part.partition)
        if at is None or not part.start <= at < part.end:
            continue
        stop = min(part.end, ranges[part.partition].stop)
        if at < stop:
            taken.append(Filed(Range(part.partition, at, stop), one.path))
            ends[part.partition] = stop
    return taken, ends


class VectorFile:
    """One that is written: whole, or not at all. `close` makes it seen; twice is harmless, by two at a time as well."""

    def __init__(self, folder: str, part: Range, form: Format, contract: Mapping[str, Any]) -> None:
        self._path = _in(folder, f"part-{part.partition}-{part.start}-{part.end}.{form}")
        self._scratch = _in(folder, f"_{uuid4().hex}.half")
        self._file = created(self._scratch)
        self._form = form
        schema = SCHEMA.with_metadata({CONTRACT_KEY: orjson.dumps(contract)})
        self._table = ParquetWriter(self._file, schema) if form == "parquet" else None

    def add(self, rows: Sequence[Row]) -> None:
        """Write some more."""
        if self._table:
            if rows:
                self._table.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA))
        elif self._form == "jsonl":
            for row in rows:
                self._file.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
        else:
            for row in rows:
                self._file.write(record_of_example(example_of(row)))

    def discard(self) -> None:
        """It will not be whole."""
        with suppress(Exception):
            self._file.close()
            FileSystems.delete([self._scratch])

    def close(self) -> None:
        """All of it is there."""
        if self._table:
            self._table.close()
        self._file.close()
        FileSystems.rename([self._scratch], [self._path])


def write_contract(folder: str, contract: Mapping[str, Any], options: Sequence[str] = ()) -> None:
    """Beside the files. `options`: Beam's own. Raises RefusedError where other ones are there."""
    reach(options)
    if not FileSystems.exists(folder):
        FileSystems.mkdirs(folder)
    path = _in(folder, CONTRACT)
    if FileSystems.exists(path):
        require_alike(folder, contract)
        return
    with created(path) as file:
        file.write(orjson.dumps(contract, option=orjson.OPT_INDENT_2))


def require_alike(folder: str, contract: Mapping[str, Any]) -> None:
    """Raises RefusedError where vectors of these files are of another model, or of texts that are split otherwise;
    ConfigError where nothing says by which model they are."""
    path = _in(folder, CONTRACT)
    try:
        with opened(path) as file:
            theirs = json.loads(file.read())
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"{path} cannot be read ({exc}): it is written beside the files by `penstock backfill --to`"
        ) from exc
    if theirs != contract:
        names = sorted(name for name in {*theirs, *contract} if theirs.get(name) != contract.get(name))
        raise RefusedError(
            f"the vectors in {folder} were made by other settings ({', '.join(names)}): see {CONTRACT} there. "
            "Use the same, or make them with these by `penstock backfill --to` in another folder"
        )


def part_of_contract(contract: Mapping[str, Any]) -> dict[str, Any]:
    """What vectors depend on, and where they belong: all but the index's own, and the log."""
    return {name: value for name, value in contract.items() if name in ("model", "split", "fields", "routes", "probe")}


class Collected:
    """`Chunks`: of an index that is not there; what is written goes into a file."""

    def __init__(self, file: VectorFile, spaces: Sequence[Space]) -> None:
        self._file = file
        self._spaces = {space.model: space for space in spaces}

    async def read(self, ids: Sequence[str], vector: str) -> dict[str, Vectors]:
        return {}

    async def stubs(self, ids: Sequence[str]) -> dict[str, int]:
        return {}

    async def origins(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        return {}

    async def write(self, writes: Iterable[ChunkWrite]) -> list[Outcome]:
        taken = list(writes)
        self._file.add([self._row(one) for one in taken if not one.source["penstock"]["stub"]])
        return [Written(seq_no=0, primary_term=0) for _ in taken]

    def _row(self, write: ChunkWrite) -> Row:
        source = write.source
        own, metadata = source["penstock"], source["metadata"]
        names = self._spaces[own["model"]].names
        return {
            "id": metadata["doc_id"],
            "chunk": metadata["chunk"],
            "text": source[names.text],
            "metadata": orjson.dumps(metadata).decode(),
            "vector": np.asarray(source[names.vector], dtype=np.float32),
            "model": own["model"],
            "chunk_hash": own["chunk_hash"],
            "partition": own["partition"],
            "offset": own["offset"],
            "version": write.version,
        }


class NoLetters:
    """`DeadLetters`: whoever fills an index rejects these records once more, and says so."""

    async def send(self, *_: Any, **__: Any) -> None:
        """Nothing is told."""


class FromFile:
    """Vectors of equal texts, by model and hash."""

    def __init__(self, vectors: Mapping[tuple[str, str], Vectors]) -> None:
        self._vectors = vectors

    async def fill(self, works: Sequence[Work], progressed: Any) -> None:
        """As `Former.fill`."""
        for work in works:
            for number, chunk in enumerate(work.chunks):
                if number not in work.known:
                    found = self._vectors.get((work.space.model, chunk_hash(chunk.text)))
                    if found is not None and fits(found, work.space):
                        work.know(number, found)
        progressed()


def known_of(path: str) -> FromFile:
    """Of a whole file. Blocks. Raises ConfigError where it is damaged, or gone."""
    try:
        return FromFile({(row["model"], row["chunk_hash"]): row["vector"] for row in rows_of(path)})
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(
            f"{path} cannot be read ({said(exc)}): delete it, and run `penstock backfill --to` again"
        ) from exc


def rows_of(path: str) -> Iterator[Row]:
    """Of a file, `vector` as float32. Raises OSError or ValueError for one that is damaged."""
    with opened(path) as file:
        if path.endswith(".parquet"):
            for batch in ParquetFile(file).iter_batches(1000):
                for row in batch.to_pylist():
                    yield {**row, "vector": np.asarray(row["vector"], dtype=np.float32)}
        elif path.endswith(".jsonl"):
            for line in file:
                row = orjson.loads(line)
                yield {**row, "vector": np.asarray(row["vector"], dtype=np.float32)}
        else:
            yield from map(row_of_example, read_examples(file))


def _in(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"
