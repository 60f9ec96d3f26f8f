"""Fault 10, and the stream processed again."""

import asyncio
import json
import signal
from typing import Any

from elasticsearch import AsyncElasticsearch

from agents.elastic import connect
from models.embedder import Embedder
from streams.identity import chunk_id, entry_id
from tests.harness import World
from tests.oracle import assert_true
from tests.stack.test_faults import text


def test_more_bad_records_than_the_limit_stop_the_worker_and_it_is_remembered(world: World, embedder: Embedder) -> None:
    """Fault 10: a few are dead letters; most of a thousand stop the worker, also at its next start."""

    async def scenario() -> None:
        await world.create(partitions=2)
        limit = {"PENSTOCK_DEAD_LETTERS__MAX_RATIO": "0.1"}
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(100))
        await world.produce((f"bad-{i}".encode(), b"{") for i in range(80))
        worker = world.start_worker(limit)
        await world.settled(worker=worker)
        await world.produce((f"bad-{i}".encode(), b"{") for i in range(80, 160))
        assert await asyncio.to_thread(worker.process.wait, 60) == 3
        said = worker.log.read_text().splitlines()[-1]
        assert "more than dead_letters.max_ratio = 0.1" in said
        letters, lag = len(await world.dead_letters()), await world.lag()
        assert lag > 0

        second = world.start_worker(limit)
        assert await asyncio.to_thread(second.process.wait, 60) == 3
        assert "penstock dlq resume" in second.log.read_text().splitlines()[-1]
        assert (len(await world.dead_letters()), await world.lag()) == (letters, lag)

        assert "forgot the rejected records of" in world.command("dlq", "resume").stdout
        third = world.start_worker(limit)
        await world.settled(worker=third)
        refused = world.command("dlq", "resume")
        assert (refused.returncode, "1 workers" in refused.stderr) == (3, True), refused.stderr
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_rebuild_in_place_processes_the_stream_again(world: World, embedder: Embedder) -> None:
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
        assert world.command("index", "rebuild").returncode == 2
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
