"""Vectors that travel in files."""

import asyncio
import shutil
from pathlib import Path

from models.onnx.embedder import OnnxEmbedder
from tests.kit.beam import backfilled
from tests.kit.harness import World
from tests.kit.oracle import assert_true
from tests.stack.test_backfill import history


def test_vectors_come_by_files_from_where_no_index_is_to_where_no_model_is(
    world: World, embedder: OnnxEmbedder, tmp_path: Path
) -> None:
    """Made twice, and loaded where the model's graph is not; workers go on behind the last of them."""
    folder, bare = tmp_path / "vectors", tmp_path / "models"
    shutil.copytree(world.model_folder, bare / world.model_folder.name, ignore=shutil.ignore_patterns("*.onnx*"))
    nowhere = {"PENSTOCK_ELASTICSEARCH__URL": "http://127.0.0.1:9"}

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(history(60))
        first = backfilled(world, "--to", str(folder), extra=nowhere)
        assert (first["files"], first["refused"] > 0, first["chunks"] > 50) == (2, True, True)
        again = backfilled(world, "--to", str(folder), extra=nowhere)
        assert (again["files"], again["files_before"], again["records"]) == (0, 2, 0)
        missing = backfilled(world, "--vectors", str(tmp_path), code=2)
        assert "written beside the files by `penstock backfill --to`" in missing
        await world.produce([(b"later", {"text": "There is no vector of this."})])
        without_model = {"PENSTOCK_MODEL__DIR": str(bare)}
        done = backfilled(world, "--vectors", str(folder), extra=without_model)
        assert (done["embedded"], done["from_topic"]) == (0, len(world.produced) - 1)
        assert done["reused"] > 50
        worker = world.start_worker()
        await world.settled(worker=worker)
        assert worker.metrics()["penstock_chunks_embedded_total"] == 1, "it went on where the files end"
        await assert_true(world, embedder)

    asyncio.run(scenario())
