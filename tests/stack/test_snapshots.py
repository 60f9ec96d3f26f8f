"""Snapshots beside the stream: whatever files say, before, during and after it, the stream's word is the last."""

import asyncio
import csv
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from models.onnx.embedder import OnnxEmbedder
from streams.epochs import Epochs, for_snapshots
from streams.snapshot import record_of
from tests.kit.beam import BINARY, backfilled, require_beam
from tests.kit.harness import World
from tests.kit.oracle import assert_true
from tests.stack.test_faults import text

DAY_MS = 24 * 3600 * 1000
OLD, NEW = 1_790_000_000_000, 1_790_000_000_000 + DAY_MS
WRITE_PARQUET = """
import sys, json, pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.Table.from_pylist(json.load(sys.stdin)), sys.argv[1], row_group_size=4)
"""


def parquet(path: Path, found: list[dict[str, Any]]) -> None:
    require_beam()
    command = [str(BINARY.with_name("python")), "-c", WRITE_PARQUET, str(path)]
    subprocess.run(command, input=orjson.dumps(found), check=True, timeout=120)


def snapshot(world: World, at_ms: int, documents: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """A third of them in each kind of file, all of that time; the world's oracle is told."""
    folder.mkdir()
    found = [{"id": key, **body} for key, body in documents.items()]
    (folder / "a.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in found[::3]))
    parquet(folder / "b.parquet", found[1::3])
    with (folder / "c.csv").open("w", newline="") as opened:
        table = csv.DictWriter(opened, ["id", "text", "author"])
        table.writeheader()
        table.writerows(found[2::3])
    for path in folder.iterdir():
        os.utime(path, (at_ms / 1000, at_ms / 1000))
    (folder / "_SUCCESS").touch()
    for one in found:
        world.produced.append(record_of(world.name, at_ms, "", one["id"].encode(), orjson.dumps(one)))


def without(world: World, at_ms: int, keys: list[str]) -> None:
    """What `--sync` deletes."""
    world.produced += [record_of(world.name, at_ms, "", key.encode(), None) for key in keys]


def test_the_stream_wins_over_snapshots_whenever_they_come(
    world: World, embedder: OnnxEmbedder, tmp_path: Path
) -> None:
    epochs = Epochs((for_snapshots(""),))
    old = {
        f"doc-{number}": {"text": text(number), "author": "Old"} if number % 2 else {"text": text(number)}
        for number in range(60)
    }
    new = {key: old[key] if number % 3 else {"text": f"New. {old[key]['text']}"} for number, key in enumerate(old)}
    gone = [key for key in new if key.endswith("9")]
    new = {key: body for key, body in new.items() if key not in gone}

    async def scenario() -> None:
        await world.create(partitions=2, snapshots=True)
        worker = world.start_worker()
        await world.produce([(b"doc-0", {"text": "The stream's."}), (b"doc-1", None), (b"doc-9", {"text": "Stays."})])
        snapshot(world, OLD, old, tmp_path / "old")
        first = backfilled(world, "--from", str(tmp_path / "old"), "--direct_runner_bundle_repeat=1")
        assert (first["rows"], first["files"], first["dead_lettered"]) == (60, 3, 0)
        await world.produce([(b"doc-2", {"text": "Later than the snapshot."}), (b"only", {"text": "Of the stream."})])
        await world.settled(worker=worker)
        await assert_true(world, embedder, epochs=epochs)

        snapshot(world, NEW, new, tmp_path / "new")
        without(world, NEW, [key for key in gone if key != "doc-9"])
        few = backfilled(world, "--from", f"{tmp_path}/new/*", "--sync", "--max-deletes", "2", code=3)
        assert "5 of 56 documents that came from snapshots are not in this one (doc-" in few, few
        second = backfilled(world, "--from", f"{tmp_path}/new/*", "--sync", "--max-deletes", "5")
        assert (second["settled"], second["embedded"], second["deleted"]) == (54, 0, 5)
        again = backfilled(world, "--from", f"{tmp_path}/old", "--sync")
        assert (again["settled"], again["rows"], again["embedded"], again["deleted"]) == (60, 60, 0, 0)
        await world.settled(worker=worker)
        await assert_true(world, embedder, epochs=epochs)
        clean = world.command("index", "verify")
        assert clean.returncode == 0, clean.stdout

        assert world.command("index", "vacuum", "--before", "0s").returncode == 0
        late = backfilled(world, "--from", f"{tmp_path}/old", code=3)
        assert "documents that were deleted meanwhile would come back" in late

    asyncio.run(scenario())
