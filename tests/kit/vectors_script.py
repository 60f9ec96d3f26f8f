"""Runs in Beam's environment: vector files written, and read back; TFRecord by Beam's own reader, too."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from apache_beam.io.tfrecordio import _TFRecordUtil
from pyarrow.parquet import read_schema

from agents.beam.examples import row_of_example
from agents.beam.ranges import Range
from agents.beam.session import Format
from agents.beam.vectors import Filed, VectorFile, filed, left_of, on_grid, rows_of, tiled

FORMATS: tuple[Format, ...] = ("parquet", "jsonl", "tfrecord")
ROWS: list[dict[str, Any]] = [
    {
        "id": f"doc-{number}",
        "chunk": number,
        "text": "täxt " * number,
        "metadata": '{"chunk": 0}',
        "vector": np.asarray([number, -0.1, 3e-9], dtype=np.float32),
        "model": "m",
        "chunk_hash": f"h{number}",
        "partition": 1,
        "offset": 2**40 + number,
        "version": 2**48 + number,
    }
    for number in range(20)
]


def same(rows: list[dict[str, Any]]) -> bool:
    """As they were."""
    return len(rows) == len(ROWS) and all(
        one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
        for one, other in zip(rows, ROWS, strict=True)
    )


def main(folder: Path) -> dict[str, Any]:
    """What was found."""
    found: dict[str, Any] = {}
    for form in FORMATS:
        file = VectorFile(str(folder), Range(1, 0, 20), form, {"model": {"name": "m"}})
        file.add(ROWS[:7])
        file.add([])
        file.add(ROWS[7:])
        seen = [one.path for one in filed(str(folder))]
        file.close()
        path = folder / f"part-1-0-20.{form}"
        found[form] = [str(path) in seen, same(list(rows_of(str(path))))]
    with (folder / "part-1-0-20.tfrecord").open("rb") as opened:
        examples = []
        while (data := _TFRecordUtil.read_record(opened)) is not None:
            examples.append(row_of_example(data))
    found["beam reads them"] = same(examples)
    found["contract"] = json.loads(read_schema(folder / "part-1-0-20.parquet").metadata[b"penstock.contract"])
    (folder / "part-1-0-20.tfrecord").write_bytes((folder / "part-1-0-20.tfrecord").read_bytes()[:-3])
    try:
        list(rows_of(str(folder / "part-1-0-20.tfrecord")))
    except ValueError as exc:
        found["cut"] = str(exc)
    log = {0: range(500, 6100), 1: range(0)}
    grid = on_grid(log)
    found["grid"] = [[one.partition, one.start, one.end] for one in grid]
    there = [Filed(one, f"f{one.start}") for one in grid if one.start != 4000]
    found["left"] = [one.start for one in left_of(grid, there)]
    longer = [*there, Filed(Range(0, 4000, 5000), "short"), Filed(Range(0, 4000, 6000), "f4000")]
    for name, files in (("a hole", there), ("whole", sorted(longer, key=lambda one: (one.part.start, one.part.end)))):
        taken, ends = tiled({0: range(700, 6050)}, files)
        found[name] = [[[one.part.start, one.part.end, one.path] for one in taken], ends[0]]
    return found


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
