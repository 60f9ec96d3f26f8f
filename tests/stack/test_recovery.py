"""Fault 10, and the stream processed again."""

import asyncio
import json
import signal
from typing import Any

from elasticsearch import AsyncElasticsearch

from agents.elastic.client import connect
from models.onnx.embedder import OnnxEmbedder
from streams.ids import chunk_id, entry_id
from tests.kit.harness import World
from tests.kit.oracle import assert_true
from tests.stack.test_faults import text

MODEL_SPEED = "fast"


def test_more_bad_records_than_the_limit_stop_the_worker_and_it_is_remembered(
    world: World, embedder: OnnxEmbedder
) -> None:
    """Fault 10: a few are dead letters; most of a thousand stop the worker, also at its next start."""

    async def scenario() -> None:
        await world.create(partitions=2)
        limit = {"PENSTOCK_DEAD_LETTERS__MAX_RATIO": "0.1"}
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(100))
        await world.produce((f"bad-{i}".encode(), b"{") for i in range(80))
        worker = world.start_worker(limit)
        await world.settled(worker=worker)
        await world.produce((f"bad-{i}".encode(), b"{") for i in range(80, 160))
        assert await worker.ended() == 3
        said = worker.log.read_text().splitlines()[-1]
        assert "more than dead_letters.max_ratio = 0.1" in said
        letters, lag = len(await world.dead_letters()), await world.lag()
        assert lag > 0

        second = world.start_worker(limit)
        assert await second.ended() == 3
        assert "penstock dlq resume" in second.log.read_text().splitlines()[-1]
        assert (len(await world.dead_letters()), await world.lag()) == (letters, lag)

        assert "are counted anew; their letters stay" in world.command("dlq", "resume").stdout
        third = world.start_worker(limit)
        await world.settled(worker=third)
        refused = world.command("dlq", "resume")
        assert (refused.returncode, "are running (1)" in refused.stderr) == (3, True), refused.stderr
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_rebuild_in_place_processes_the_stream_again(world: World, embedder: OnnxEmbedder) -> None:
    """A document and its entry are taken out by hand; the claims, set back, bring it back, and embed nothing else."""

    async def damage(client: AsyncElasticsearch) -> None:
        index = next(iter(await client.indices.get_alias(name=world.name)))
        await client.delete(index=index, id=chunk_id("doc-7", 0), refresh=True)
        await client.delete(index=f"{index}-registry", id=entry_id("doc-7"), refresh=True)
        await client.indices.close(index=index)  # else it remembers the version of what was deleted for a minute
        await client.indices.open(index=index, wait_for_active_shards="1")

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(60))
        worker = world.start_worker()
        await world.settled(worker=worker)
        running = world.command("index", "rebuild", "--in-place")
        assert (running.returncode, "stop them first" in running.stderr) == (3, True), running.stderr
        assert worker.terminate() == 0
        async with connect(world.settings.elasticsearch) as client:
            await damage(client)
        nothing = world.command("index", "rebuild", "--in-place", "--from", "2999-01-01")
        assert nothing.stdout.startswith("nothing to set back"), nothing.stderr
        assert world.command("index", "rebuild", "--in-place", "--rate", "5").returncode == 2
        part = rows(world.command("index", "rebuild", "--in-place", "--json", "--from", "20"))
        assert [row["after"] for row in part] == [20, 20]
        assert await world.lag() == 60 - 40 == sum(row["before"] - 20 for row in part)
        whole = rows(world.command("index", "rebuild", "--in-place", "--json", "--from", "1h"))
        assert [(row["before"], row["after"]) for row in whole] == [(20, 0), (20, 0)]
        again = world.start_worker()
        await world.settled(worker=again)
        assert again.metrics()["penstock_chunks_embedded_total"] == 1
        again.process.send_signal(signal.SIGTERM)
        await assert_true(world, embedder)

    asyncio.run(scenario())


def rows(done: Any) -> Any:
    """What `index rebuild --json` printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_vacuum_deletes_what_only_guards_against_the_past(world: World, embedder: OnnxEmbedder) -> None:
    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 60)}) for i in range(12))
        worker = world.start_worker()
        await world.settled(worker=worker)
        shrunk = {f"doc-{i}".encode(): None if i < 4 else {"text": text(i)} for i in range(8)}
        await world.produce(
            [(b"doc-3", b"{"), *shrunk.items()]
        )  # of a document that a dead letter names, entry and stubs stay
        await world.settled(worker=worker)
        before = stubs(await world.chunks())
        guards = {key for key in before if key.startswith("doc-3#")}
        assert vacuumed(world, "--dry-run", "--before", "1h") == {"dry_run": True, "stubs": 0, "entries": 0, "kept": 0}
        dry = vacuumed(world, "--dry-run", "--before", "0s")
        assert dry == {"dry_run": True, "stubs": len(before - guards), "entries": 3, "kept": 0}
        assert stubs(await world.chunks()) == before
        assert vacuumed(world, "--before", "0s") == dry | {"dry_run": False}
        assert stubs(await world.chunks()) == guards != set()
        assert [key for key, entry in (await world.registry()).items() if not entry["n"]] == ["doc-3"]
        await world.produce([(b"doc-0", {"text": "It came back."})])
        await world.settled(worker=worker)
        assert vacuumed(world, "--before", "0s") == {"dry_run": False, "stubs": 0, "entries": 0, "kept": 0}
        clean = world.command("index", "verify", "--sample", "0")
        assert clean.returncode == 0, clean.stdout + clean.stderr
        deleted = {f"doc-{i}" for i in range(1, 3)}  # the topic still names them; their entries are gone, as meant
        await assert_true(world, embedder, ignore=deleted)

    asyncio.run(scenario())


def stubs(chunks: dict[str, dict[str, Any]]) -> set[str]:
    """Ids of the stubs."""
    return {key for key, row in chunks.items() if row["penstock"]["stub"]}


def vacuumed(world: World, *arguments: str) -> Any:
    """What `index vacuum --json` printed."""
    return rows(world.command("index", "vacuum", "--json", *arguments))
