"""Load mode: a first fill without refreshes and replicas, ended by whichever worker sees lag 0, also after a crash."""

import asyncio
from typing import Any

from agents.elastic.client import connect
from agents.elastic.notes import read_notes
from agents.indexing.preflight import create_index
from agents.kafka.reader import log_reader
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import DOOMED, World, until
from tests.kit.oracle import assert_true

MODEL_SPEED = "fast"


async def index_settings(world: World) -> tuple[dict[str, Any], bool]:
    """Settings of the chunk index, and whether it is in load mode."""
    async with connect(world.settings.elasticsearch) as client:
        (name,) = await client.indices.get_alias(name=world.name)
        found = (await client.indices.get_settings(index=name))[name]["settings"]["index"]
        return found, "penstock_load" in await read_notes(client, name)


def test_load_mode_ends_at_lag_0_and_survives_a_crash(world: World, embedder: OnnxEmbedder) -> None:
    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 2, {})
        wanted = world.settings.elasticsearch.model_copy(update={"replicas": 0, "refresh_interval": "2s"})
        settings = world.settings.model_copy(update={"elasticsearch": wanted})
        assert (await create_index(settings, load=True))[1]
        found, loading = await index_settings(world)
        assert (found["refresh_interval"], loading) == ("-1", True)
        await world.produce((f"doc-{i}".encode(), {"text": f"Document {i}. " * 40}) for i in range(1500))
        gate = world.gate()
        first = world.start_worker({**gate.environment, **DOOMED})
        await world.held_in_the_middle(first, gate)
        first.kill()
        assert (await index_settings(world))[1]
        await world.settled(worker=world.start_worker())

        async def ended() -> bool:
            return not (await index_settings(world))[1]

        await until(ended)
        found, _ = await index_settings(world)
        assert (found["refresh_interval"], found["number_of_replicas"]) == ("2s", "0")
        await assert_true(world, embedder)
        assert (await create_index(settings))[1] is False  # the contract is what it was

    asyncio.run(scenario())
