"""Faults 6, 7, 8, 9, 13, 22, 31 and 36: whatever Elasticsearch does, on real processes, the oracle holds."""

import asyncio
import hashlib
import json
from collections import Counter
from typing import Any

import orjson
import psutil
import pytest

from agents.elastic.client import connect
from agents.settings.sections import LifecycleSettings
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import DOOMED, PATIENCE_S, World, until
from tests.kit.oracle import assert_true
from tests.kit.proxy import Act, bulk_body, is_chunks, items_of, proxy
from tests.stack.test_faults import text

MODEL_SPEED = "fast"


async def metric_is(world: World, name: str, *values: float) -> bool:
    """Whether the last worker shows one of these values."""
    return (await asyncio.to_thread(world.workers[-1].metrics)).get(name) in values


def test_throttled_and_unavailable(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 6, whole requests: the breaker opens, fetching pauses, nothing is dead-lettered, it recovers alone."""

    async def scenario() -> None:
        await world.create()
        async with proxy(world.servers.elasticsearch_port) as between:
            worker = world.start_worker(between.environment)
            await world.ready(worker)
            statuses = iter([429, 503] * 500)
            between.rule = lambda path, body: Act(status=next(statuses))
            await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(300))
            await until(lambda: metric_is(world, 'penstock_breaker_state{target="elasticsearch"}', 1, 2))
            await until(lambda: metric_is(world, "penstock_paused", 1))
            assert (await asyncio.to_thread(worker.get, "/readyz"))[0] == 503
            assert (await asyncio.to_thread(worker.get, "/livez"))[0] == 200
            before = sum(between.seen.values())
            await asyncio.sleep(3)
            assert sum(between.seen.values()) - before <= 6  # a probe at a time, further and further apart
            between.rule = lambda path, body: None
            await world.settled(worker=worker)
            metrics = await asyncio.to_thread(worker.metrics)
            assert metrics['penstock_breaker_state{target="elasticsearch"}'] == 0
            await until(lambda: metric_is(world, "penstock_paused", 0))
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_mixed_outcomes_of_one_bulk(world: World, embedder: OnnxEmbedder) -> None:
    """Faults 6 and 9, single items: a throttled one is sent again alone, a refused one stubs its document alone."""
    sent: Counter[str] = Counter()
    refused = "doc-7"

    def rule(path: str, body: bytes) -> Act | None:
        if not is_chunks(path):
            return None
        items = items_of(body)
        changed = []
        for action, source in items:
            key = next(iter(action.values()))["_id"]
            sent[key] += 1
            wrong = key == f"{refused}#1" and "text" in source
            changed.append((action, {"surprise": 1} if wrong else source))
        throttled = {key for key in sent if key.endswith("3#0") and sent[key] <= 2}
        kept = [item for item in changed if next(iter(item[0].values()))["_id"] not in throttled]

        def answer(found: Any) -> Any:
            rows = iter(found["items"])
            busy = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "on purpose"}}
            keys = [next(iter(action.values()))["_id"] for action, _ in items]
            return {**found, "items": [{"index": busy} if key in throttled else next(rows) for key in keys]}

        return Act(body=bulk_body(kept), answer=answer) if kept else Act(status=429)

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 60)}) for i in range(20))
        async with proxy(world.servers.elasticsearch_port) as between:
            between.rule = rule
            worker = world.start_worker(between.environment)
            await world.settled(worker=worker)
        found, registry = await world.chunks(), await world.registry()
        assert registry[refused]["state"] == "rejected"
        assert all(row["penstock"]["stub"] for row in found.values() if row["metadata"]["doc_id"] == refused)
        (letter,) = await world.dead_letters()
        assert (letter.key, dict(letter.headers)["__connect.errors.stage"]) == (refused.encode(), b"index")
        assert sent["doc-3#0"] == 3
        assert max(count for key, count in sent.items() if not key.endswith("3#0") and refused not in key) == 1
        world.produced = [record for record in world.produced if record.key != refused.encode()]
        await assert_true(world, embedder, also_rejected={(letter.partition, 7)}, ignore={refused})

    asyncio.run(scenario())


def test_lost_answers_and_kill_in_between(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 7: every third answer is lost after the request was carried out; the same ids and versions again."""

    async def scenario() -> None:
        await world.create()
        async with proxy(world.servers.elasticsearch_port) as between:
            numbers = iter(range(10**6))

            def lose(path: str, _: bytes) -> Act:
                """Not those of the checks at a start: they need several answers in a row."""
                return Act(lose_answer=path.split("?")[0].endswith(("_bulk", "_mget")) and next(numbers) % 3 == 2)

            between.rule = lose
            await world.produce((f"doc-{i % 50}".encode(), {"text": text(i, 1 + i % 9)}) for i in range(400))
            gate = world.gate()
            first = world.start_worker({**between.environment, **gate.environment, **DOOMED})
            await world.held_in_the_middle(first, gate)
            first.kill()
            await world.settled(worker=world.start_worker(between.environment))
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_documents_larger_than_a_batch_a_bulk_and_anything(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 13: split by bytes when the server says 413; what is too large to handle leaves a pointer and a hash."""
    large = b'{"text":"' + b"word " * 300_000 + b'"}'

    def rule(path: str, body: bytes) -> Act | None:
        return Act(status=413) if is_chunks(path) and len(body) > 100_000 else None

    async def scenario() -> None:
        await world.create(partitions=1, configs={"max.message.bytes": "4000000"})
        many = {"chunks": [{"text": f"Chunk {i} of many."} for i in range(700)]}
        await world.produce([(b"many", many), (b"large", large), (b"small", {"text": "small"})])
        async with proxy(world.servers.elasticsearch_port) as between:
            between.rule = rule
            limits = {"PENSTOCK_BATCH__MAX_INFLIGHT_BYTES": str(4 * 1024**2)}
            await world.shrink_dead_letters(1_000_000)
            worker = world.start_worker({**between.environment, **limits})
            await world.settled(worker=worker)
        (letter,) = await world.dead_letters()
        headers = dict(letter.headers)
        assert letter.value is None
        assert headers["penstock.value.sha256"].decode() == hashlib.sha256(large).hexdigest()
        assert headers["penstock.value.bytes"].decode() == str(len(large))
        assert b"max_inflight_bytes" in headers["__connect.errors.exception.message"]
        world.produced = [record for record in world.produced if record.key != b"large"]
        await assert_true(world, embedder, also_rejected={(0, 1)})

    asyncio.run(scenario())


@pytest.mark.parametrize("block", ["read_only_allow_delete", "write", "closed", "copies"])
def test_index_blocked_as_by_a_full_disk(world: World, embedder: OnnxEmbedder, block: str) -> None:
    """Fault 22: retried until it is unblocked, nothing is dead-lettered; also where somebody does it by hand.

    `copies`: of a shard, that an index wants for each write, are on a node that is away: the server waits for them.
    """

    async def shut(client: Any, index: str, value: bool | None) -> None:
        if block == "copies":
            settings = {"number_of_replicas": 1, "index.write.wait_for_active_shards": 2 if value else 1}
            await client.indices.put_settings(index=index, settings=settings)
        elif block != "closed":
            await client.indices.put_settings(index=index, settings={f"index.blocks.{block}": value})
        elif value:
            await client.indices.close(index=index)
        else:
            await client.indices.open(index=index)

    async def scenario() -> None:
        await world.create()
        index = f"{world.name}-{world.settings.model.name.lower()}-000001"
        worker = world.start_worker({"PENSTOCK_LIFECYCLE__STALL_S": "5"})
        await world.ready(worker)
        async with connect(world.settings.elasticsearch) as client:
            await shut(client, index, True)
            await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(100))

            async def noticed() -> bool:
                await shut(client, index, True)  # every half a minute Elasticsearch takes a block by "disk" away itself
                return await metric_is(world, 'penstock_breaker_state{target="elasticsearch"}', 1, 2)

            # after three answers: of a second each, or of the minute that the server by itself would wait for copies
            patience_s = LifecycleSettings().stall_s if block == "copies" else PATIENCE_S
            await until(noticed, patience_s, every_s=0.5)
            assert await world.lag() == 100
            if block == "write":
                told = json.loads(world.command("status", "--json").stdout)["problem"]
                assert f"index.blocks.write of {index} is set" in told
            await shut(client, index, None)
        await world.settled(worker=worker)
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_an_answer_that_takes_longer_than_a_stall_is_waited_for(world: World, embedder: OnnxEmbedder) -> None:
    """Time that Elasticsearch takes is no worker's that stands still: a restart would ask the same again."""

    async def scenario() -> None:
        await world.create(partitions=1)
        async with proxy(world.servers.elasticsearch_port) as between:
            worker = world.start_worker({**between.environment, "PENSTOCK_LIFECYCLE__STALL_S": "5"})
            await world.ready(worker)
            between.rule = lambda path, body: Act(delay_s=15) if path.endswith("_mget") else None
            await world.produce([(b"doc", {"text": text(1)})])
            await until(lambda: asyncio.sleep(0, between.seen.get("_mget", 0) > 0))
            await world.settled(worker=worker)
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_slow_elasticsearch_over_a_deep_backlog_keeps_to_the_budget(world: World) -> None:
    """Fault 31: 400 MB wait in Kafka, 8 MiB may be held; the rest stays where it is."""
    budget = 8 * 1024**2
    filler = "x" * 4000

    async def scenario() -> None:
        await world.create(partitions=2)
        value = orjson.dumps({"text": "One chunk.", "metadata": {f"k{i}": filler for i in range(100)}})
        await world.produce((f"doc-{i}".encode(), value) for i in range(1000))
        async with proxy(world.servers.elasticsearch_port) as between:
            worker = world.start_worker({**between.environment, "PENSTOCK_BATCH__MAX_INFLIGHT_BYTES": str(budget)})
            await world.ready(worker)
            process = psutil.Process(worker.process.pid)
            base = process.memory_info().rss
            between.rule = lambda path, body: Act(delay_s=1.0)
            most = held = 0.0

            async def look() -> bool:
                nonlocal most, held
                most = max(most, process.memory_info().rss)
                held = max(held, (await asyncio.to_thread(worker.metrics))["penstock_inflight_bytes"])
                return held >= budget

            await until(look)
            for _ in range(20):
                await look()
                await asyncio.sleep(0.3)
            assert budget <= held <= budget + 8 * 1024**2, held  # what was on its way when it paused
            assert most - base < 150 * 1024**2, (most - base) / 1024**2
            assert 0 < await world.lag() <= 1000

    asyncio.run(scenario())
