"""Faults 4, 8 and 22: the broker and Elasticsearch, each killed and started again; a whole cluster that is shut."""

import asyncio

from agents.elastic.client import connect
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import Gate, Worker, World, until
from tests.kit.oracle import assert_true
from tests.stack.test_elasticsearch_faults import metric_is
from tests.stack.test_faults import text
from tests.stack.test_serve import published, serving

MODEL_SPEED = "fast"
KILLS_SERVERS = True
IMPATIENT = """
import agents.commands.run.ingest_serve as run
from agents.sources.http import Limits
options = run.Options
run.Options = lambda **given: options(**given, limits=Limits(publish_s=2.0))
"""
"""A change: a server that says after two seconds that Kafka did not acknowledge a document."""


async def started(world: World) -> tuple[Worker, Gate]:
    """A worker of 600 documents, before a gate."""
    await world.produce((f"doc-{i}".encode(), {"text": text(i, 5)}) for i in range(600))
    gate = world.gate()
    return world.start_worker(gate.environment), gate


async def held_in_the_middle(world: World) -> tuple[Worker, Gate]:
    """It waits for the vectors of its second batch."""
    await world.create()
    worker, gate = await started(world)
    await world.held_in_the_middle(worker, gate)
    return worker, gate


def test_broker_killed_and_started_again(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 4: the worker reconnects and leaves no gap."""

    async def scenario() -> None:
        worker, gate = await held_in_the_middle(world)
        async with world.servers.away("kafka"):
            gate.open()

            async def noticed() -> bool:
                return worker.process.poll() is not None or "lag is unknown" in worker.log.read_text()

            await until(noticed)
        await until(lambda: _done_or_ended(world), every_s=0.5)
        if worker.process.poll() is not None:  # its watchdog may end it, never with 0
            assert worker.process.returncode == 1, worker.log.read_text()[-2000:]
            await world.settled(worker=world.start_worker())
        await assert_true(world, embedder)

    asyncio.run(scenario())


async def _done_or_ended(world: World) -> bool:
    return world.workers[-1].process.poll() is not None or await world.lag() == 0


def test_elasticsearch_killed_and_started_again(world: World, embedder: OnnxEmbedder) -> None:
    """Fault 8: the worker waits, and goes on without an operator."""

    async def scenario() -> None:
        worker, gate = await held_in_the_middle(world)
        async with world.servers.away("elasticsearch"):
            gate.open()
            await until(lambda: metric_is(world, 'penstock_breaker_state{target="elasticsearch"}', 1, 2))
            assert worker.get("/livez")[0] == 200
        await world.settled(worker=worker)
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_the_cluster_is_made_read_only_and_the_index_closed_before_a_start(
    world: World, embedder: OnnxEmbedder
) -> None:
    """Fault 22, of a whole cluster: workers wait, the first one too; one that starts on a closed index says for what,
    and may ask for few rows at once."""

    async def scenario() -> None:
        async with connect(world.settings.elasticsearch) as client:
            index = f"{world.name}-{world.settings.model.name.lower()}-000001"
            block = "cluster.blocks.read_only_allow_delete"
            await world.create()
            await client.cluster.put_settings(persistent={block: True})
            worker, gate = await started(world)

            async def says_so() -> bool:
                assert worker.process.poll() is None, worker.log.read_text()[-2000:]
                return "waiting for a server that is away" in worker.log.read_text()

            await until(says_so)
            await client.cluster.put_settings(persistent={block: None})
            await world.held_in_the_middle(worker, gate)
            await client.cluster.put_settings(persistent={block: True})
            gate.open()
            await until(lambda: metric_is(world, 'penstock_breaker_state{target="elasticsearch"}', 1, 2))
            await client.cluster.put_settings(persistent={block: None})
            await until(lambda: metric_is(world, 'penstock_breaker_state{target="elasticsearch"}', 0))
            few = {"index.max_result_window": 500}
            await client.indices.put_settings(index=f"{index},{index}-registry", settings=few)
            await client.indices.close(index=index)
            worker.kill()
            after = world.start_worker()

            async def waits() -> bool:
                assert after.process.poll() is None, after.log.read_text()[-2000:]
                return f"{index} is closed: open it" in after.log.read_text()

            await until(waits)
            await client.indices.open(index=index)
        await world.settled(worker=after)
        await assert_true(world, embedder)

    asyncio.run(scenario())


def test_documents_over_http_while_the_broker_is_away(world: World) -> None:
    """None is said to be there that is not; the server goes on by itself."""

    async def scenario() -> None:
        await world.create(2)
        async with serving(world, change=IMPATIENT) as server, server.api.stream() as stream:
            api = server.api
            assert (await api.put("before", {"text": "x"})).status == 200
            stream.send({"id": "line-0", "text": "x"})
            await stream.until(1)
            async with world.servers.away("kafka"):

                async def unavailable() -> bool:
                    answer = await api.put("meanwhile", {"text": "x"})
                    assert answer.status == 503
                    assert int(answer.headers["Retry-After"]) >= 1
                    return (await api.ask("GET", "/readyz")).status == 503

                stream.send({"id": "line-1", "text": "x"})
                await until(unavailable)
                assert (await api.put("wait", {"text": "x"}, "?wait=searchable&timeout=1")).status == 503
                assert (await api.ask("GET", "/livez")).status == 200

            async def taken() -> bool:
                return (await api.put("after", {"text": "x"})).status == 200

            await until(taken)
            stream.send({"id": "line-2", "text": "x"})
            stream.end()
            await stream.over.wait()
            assert len(stream.results) == 3
            known = await published(world)
            assert {"before", "after"} <= known.keys()
            assert {row["id"] for row in stream.results if row["status"] == 200} <= known.keys()
            assert stream.results[2]["status"] == 200
            assert "Traceback" not in server.log.read_text()

    asyncio.run(scenario())
