"""`penstock index verify` on 200,000 chunks: how long it takes, and how much memory."""

import asyncio
import json
import subprocess
import time
from typing import Any

import orjson
import psutil
import pytest

from agents.elastic.client import connect
from tests.kit.harness import PENSTOCK, World

DOCUMENTS, CHUNKS = 20_000, 10

QUICK = """
import zlib
import numpy as np
import models.onnx.embedder
from models.onnx.session import Session

def run(self, batch):
    rng = np.random.default_rng(zlib.crc32(b"".join(np.asarray(row).tobytes() for row in batch)))
    vectors = rng.standard_normal((len(batch), self._manifest.dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

Session.run = run
models.onnx.embedder.golden_cosine = lambda *_: 1.0
"""
"""A worker whose vectors are random: with the model, 200,000 chunks would take an hour here."""


@pytest.mark.timeout(1800)
def test_verify_of_200000_chunks(world: World, summary: dict[str, Any]) -> None:
    async def scenario() -> None:
        await world.create(partitions=4)
        for start in range(0, DOCUMENTS, 2000):
            await world.produce(
                (f"doc-{i}".encode(), orjson.dumps({"chunks": [{"text": f"{i}, part {n}."} for n in range(CHUNKS)]}))
                for i in range(start, start + 2000)
            )
            world.produced.clear()
        worker = world.start_worker(change=QUICK)
        await world.settled(worker=worker, timeout_s=1200)
        assert worker.terminate() == 0
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            await client.index(index=f"{index}-registry", id="doc-777", document=await _writing(client, index))
        found, seconds, peak = await asyncio.to_thread(verified, world)
        assert (found["documents"], found["chunks"]) == (DOCUMENTS, DOCUMENTS * CHUNKS)
        assert found["kinds"] == {"left writing": 1}
        summary["verify, 200,000 chunks: seconds"] = round(seconds)
        summary["verify, 200,000 chunks: peak RSS MiB"] = round(peak / 1024**2)

    asyncio.run(scenario())


def verified(world: World) -> tuple[Any, float, int]:
    """What `index verify --json` printed, how long it took, and the most memory that it had."""
    began, peak = time.monotonic(), 0
    command = [str(PENSTOCK), "index", "verify", "--json", "--sample", "0"]
    with subprocess.Popen(
        command, env=world.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            time.sleep(0.2)
        assert process.stdout is not None
        return json.loads(process.stdout.read()), time.monotonic() - began, peak


async def _writing(client: Any, index: str) -> dict[str, Any]:
    source: dict[str, Any] = (await client.get(index=f"{index}-registry", id="doc-777"))["_source"]
    return source | {"state": "writing"}
