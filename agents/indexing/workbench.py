"""The stages with connections of their own: for commands that write into the index beside the workers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from elasticsearch import AsyncElasticsearch

from agents.configured import field_names, split_rules
from agents.elastic.bulk import Bulk
from agents.elastic.chunks import ChunkIndex
from agents.elastic.client import connect
from agents.elastic.entries import Registry
from agents.elastic.index import Index
from agents.elastic.requests import Requests
from agents.fail_points import FailPoints
from agents.indexing.budget import Budget
from agents.indexing.preflight import Checked
from agents.indexing.stages import Parts
from agents.kafka.dead_letters import DeadLetters
from agents.metrics import Metrics
from agents.settings import Settings
from streams.epochs import Epochs
from streams.protocol import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What a command works with. `parts`: for stages; `epochs`: of the records that go through them, by
    place; `current`: the epoch of a record that is in the topic now."""

    client: AsyncElasticsearch
    requests: Requests
    bulk: Bulk
    registry: Registry
    chunks: ChunkIndex
    parts: Parts
    epochs: dict[tuple[int, int], int]
    current: Epochs


@asynccontextmanager
async def workbench(settings: Settings, checked: Checked) -> AsyncIterator[Workbench]:
    """Connect to the index that was checked. Requests are repeated until they are answered, as a worker does."""
    identity, metrics, points = checked.identity, Metrics(), FailPoints()
    manifest, names = checked.embedder.manifest, field_names(settings)
    epochs: dict[tuple[int, int], int] = {}
    async with connect(settings.elasticsearch) as client:
        await Index(client, settings).complete(identity.index)
        requests = Requests(settings.delivery, metrics)
        bulk = Bulk(client, requests, metrics, points)
        registry = Registry(client, requests, bulk, identity.registry_alias)
        chunks = ChunkIndex(client, requests, bulk, metrics, points, write_alias=identity.write_alias, names=names)
        letters = DeadLetters(settings, checked.home(settings), metrics)
        await letters.start()
        try:
            parts = Parts(
                embedder=checked.embedder,
                rules=split_rules(settings, manifest),
                target=Target(
                    chunk_index_uuid=identity.chunk_index_uuid,
                    model=manifest.name,
                    names=names,
                    epoch=lambda partition, offset: epochs[partition, offset],
                ),
                registry=registry,
                chunks=chunks,
                dead_letters=letters,
                budget=Budget(settings.batch.max_inflight_bytes),
                metrics=metrics,
                fail_points=points,
            )
            yield Workbench(
                client=client,
                requests=requests,
                bulk=bulk,
                registry=registry,
                chunks=chunks,
                parts=parts,
                epochs=epochs,
                current=identity.epochs,
            )
        finally:
            await letters.stop()
