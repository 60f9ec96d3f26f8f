"""Runs in Beam's environment: rows of all files of a folder, as JSON; `write`: first some that need its libraries."""

import asyncio
import datetime
import decimal
import json
import logging
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import write_table

from agents.beam.ranges import pieces
from agents.beam.rows import Rows, matched
from agents.settings import Settings


def write(folder: Path) -> None:
    """Columns of many types, a map, bytes, groups of which one is damaged, none at all."""
    metadata = [{"x": 1, "price": decimal.Decimal("1.5"), "tags": [1, 2], "day": datetime.date(2024, 1, 2)}, None]
    moments = [datetime.datetime(2024, 1, 1), None]  # noqa: DTZ001 - without a zone, as in many files
    table = pa.table({"id": [1, None], "text": ["a", "b"], "timestamp": moments, "metadata": metadata})
    write_table(table, folder / "types.parquet")
    pairs = pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string()))
    write_table(pa.table({"id": ["m"], "text": ["x"], "metadata": pairs}), folder / "map.parquet")
    write_table(pa.table({"id": ["b"], "metadata": [{"blob": b"\xff"}]}), folder / "bytes.parquet")
    write_table(pa.table({"id": pa.array([], pa.string())}), folder / "none.parquet")
    (folder / "_temporary").mkdir()
    write_table(table, folder / "_temporary" / "hidden.parquet")
    nanoseconds = pa.array([1_704_067_200_000_000_123, None, 2**62], pa.timestamp("ns"))
    binary = pa.array([b"text", "täxt".encode(), b"x"], pa.binary())  # as Impala writes texts
    inside = pa.StructArray.from_arrays([nanoseconds], ["when"])
    odd = pa.table({"id": [1.0, 2.0, 3.5], "text": binary, "timestamp": nanoseconds, "metadata": inside})
    write_table(odd, folder / "odd.parquet")
    far = pa.array([2**61, 0], pa.timestamp("ms"))  # a year that Python has not
    write_table(pa.table({"id": ["f", "g"], "text": ["x", "y"], "timestamp": far}), folder / "far.parquet")
    many = pa.table({"id": [f"r{number}" for number in range(3000)], "text": ["t" * 200] * 3000})
    write_table(many, folder / "rotten.parquet", row_group_size=1000, compression="none", use_dictionary=False)
    raw = bytearray((folder / "rotten.parquet").read_bytes())
    raw[5000:9000] = b"\xff" * 4000
    (folder / "rotten.parquet").write_bytes(raw)


async def main(folder: Path) -> None:
    """The first few of each."""
    found, rows = dict[str, Any](), Rows(Settings())
    for file in matched(str(folder)).snapshot.files:
        mine = []
        for piece in chain(*pieces([file], 8)):
            async for page, _ in rows.pages(piece):
                mine += page
        found[file.path.removeprefix(f"{folder}/")] = [
            [
                row.origin.removeprefix(file.path),
                None if row.key is None else row.key.decode(),
                row.failure[1] if row.failure else json.loads(row.value),
            ]
            for row in mine[:6]
        ] + [len(mine)]
    await rows.close()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if sys.argv[2:] == ["write"]:
        write(Path(sys.argv[1]))
    asyncio.run(main(Path(sys.argv[1])))
