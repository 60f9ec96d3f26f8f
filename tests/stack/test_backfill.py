"""Batches on Apache Beam beside the stream: the same ids and versions, proved by digest and oracle."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.elastic.notes import FILL_NOTE
from models.onnx.embedder import OnnxEmbedder
from tests.kit.beam import BINARY, REPEATED, backfilled, batch_of, require_beam, start_backfill
from tests.kit.harness import PATIENCE_S, World
from tests.kit.oracle import assert_true
from tests.kit.two_models import rows
from tests.stack.test_faults import text


def history(count: int) -> list[tuple[bytes | None, object]]:
    """Documents, of which some are edited, deleted, brought back and broken, in this order."""
    keys = [f"doc-{number}".encode() for number in range(count)]
    found: list[tuple[bytes | None, object]] = [(key, {"text": text(number)}) for number, key in enumerate(keys)]
    found += [(key, {"text": f"Edited. {text(number)}"}) for number, key in enumerate(keys) if number % 5 == 0]
    found += [(key, None) for key in keys[::7]]
    found += [(key, b"{") for key in keys[3::50]]
    found += [(key, {"text": text(number)}) for number, key in enumerate(keys) if number % 35 == 0]
    return [*found, (None, {"text": "no key"}), *((key, {"text": text(number)}) for number, key in enumerate(keys[:4]))]


@contextmanager
def begun(world: World, *arguments: str, extra: dict[str, str] | None = None) -> "Iterator[subprocess.Popen[str]]":
    process = start_backfill(world, *arguments, extra=extra)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_first_load_is_as_a_stream_would_have_made_it(world: World, embedder: OnnxEmbedder) -> None:
    """Killed in the middle, and begun again; then workers go on."""

    async def scenario() -> None:
        await world.create(partitions=3)
        await world.produce(history(200))
        unknown = backfilled(world, "--direct_num_worker=2", code=2)
        assert "neither Penstock nor Beam has an option --direct_num_worker=2" in unknown
        gate = world.gate()
        gate.let(1)
        with begun(world, extra=gate.environment) as killed:
            batch = await batch_of(killed)
            await gate.holds(killed, child=batch.pid)
        batch.wait(PATIENCE_S)  # it ends with who began it
        held = world.command("index", "vacuum", "--before", "0s")
        assert (held.returncode, "`penstock backfill` goes on with it" in held.stderr) == (3, True), held.stderr
        prices = {"PENSTOCK_COST__MODELS": json.dumps({world.settings.model.name: {"million_tokens": 1000}})}
        done = backfilled(world, extra=prices)
        assert (done["group"], done["serving"], done["from_index"]) == (world.name, True, 0)
        assert 0 < done["embedded"] < 200
        (spent,) = rows(world.command("cost", "--json", extra=prices))["rows"]
        assert (spent["documents"], spent["cost"]) == (done["embedded"], spent["tokens"] / 1000)
        assert await world.lag() == 0
        again = backfilled(world, "--in-place")
        assert (again["from_topic"], again["embedded"]) == (0, 0)
        async with connect(world.settings.elasticsearch) as client:
            assert FILL_NOTE not in await Index(client, world.settings).notes(done["index"])

        worker = world.start_worker()
        await world.produce([(b"doc-1", {"text": "newer"}), (b"doc-2", None), (b"new", {"text": "new"})])
        await world.settled(worker=worker)
        assert worker.metrics()["penstock_chunks_embedded_total"] == 2, "it went on where the backfill ended"
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_a_generation_beside_workers_and_publishers_is_the_same_as_theirs(world: World, embedder: OnnxEmbedder) -> None:
    """Of two processes, with every bundle twice. What is published meanwhile is left to workers of its group."""

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(history(120))
        worker = world.start_worker()
        await world.settled(worker=worker)
        old, new = (f"{world.name}-all-minilm-l6-v2-00000{number}" for number in (1, 2))
        instead = {
            ".venv-beam/bin/penstock": str(BINARY),
            "--direct_num_workers=2": " ".join(["--direct_num_workers=2", "--embed-all", *REPEATED]),
            "penstock-2": f"{world.name}-2",
            "penstock-new-000002": new,
            "penstock-old-000001": f"{old} --min-cosine 0.9999",
        }
        require_beam()
        chapter = "Fill an index by many processes"
        following = asyncio.create_task(world.follow(chapter, instead))
        number = 0
        while not following.done():
            await world.produce([(f"doc-{number % 130}".encode(), {"text": f"Meanwhile {number}."})])
            number += 1
            await asyncio.sleep(0.2)
        await following
        await world.settled(worker=worker)
        await assert_true(world, embedder)  # of the index that serves; the digest tells of the other one
        await world.follow(chapter, instead, block=1)
        alike = rows(world.command("index", "digest", "--against", old, "--min-cosine", "0.9999", "--json"))
        assert (alike["index"], alike["against"]["same"], alike["unfinished"]) == (new, True, 0)
        assert alike["against"]["vectors"] >= 100

    asyncio.run(scenario())
