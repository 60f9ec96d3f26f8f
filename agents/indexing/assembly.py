"""What records meet on their way into the index, connected: for workers, and for commands that write beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agents.configured import field_names, split_rules
from agents.elastic.bulk import ElasticStore
from agents.elastic.chunks import ChunkIndex
from agents.elastic.client import Client, connect
from agents.elastic.entries import Registry
from agents.elastic.index import Index
from agents.elastic.requests import Requests
from agents.elastic.store import Store
from agents.fail_points import FailPoints
from agents.indexing.budget import Budget
from agents.indexing.embedders import batch_size
from agents.indexing.preflight import Checked
from agents.indexing.stages import Parts
from agents.kafka.dead_letters import DeadLetterTopic
from agents.metrics import Metrics
from agents.schemas.form import form_of
from agents.settings import Settings
from streams.protocol import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """`parts`: for stages; the rest is what they are made of, for who asks the index something else."""

    client: Client
    requests: Requests
    store: Store
    registry: Registry
    chunks: ChunkIndex
    parts: Parts


@asynccontextmanager
async def assemble(
    settings: Settings,
    checked: Checked,
    *,
    metrics: Metrics | None = None,
    budget: Budget | None = None,
    fail_points: FailPoints | None = None,
) -> AsyncIterator[Assembly]:
    """Connect to the index that was checked, and to the dead-letter topic; until the context ends.

    Requests are repeated until they are answered. A worker hands in what it shares with others; a command has its own.
    """
    identity, manifest, names = checked.identity, checked.embedder.manifest, field_names(settings)
    metrics, points = metrics or Metrics(), fail_points or FailPoints()
    async with connect(settings.elasticsearch) as client:
        await Index(client, settings).complete(identity.index)
        requests = Requests(settings.delivery, metrics)
        store = ElasticStore(client, requests, metrics, points)
        registry = Registry(store, identity.registry_alias)
        chunks = ChunkIndex(store, metrics, points, write_alias=identity.write_alias, names=names)
        letters = DeadLetterTopic(settings, checked.home(settings), metrics)
        await letters.start()
        try:
            parts = Parts(
                embedder=checked.embedder,
                epochs=identity.epochs,
                rules=split_rules(settings, manifest),
                target=Target(
                    chunk_index_uuid=identity.chunk_index_uuid,
                    model=manifest.name,
                    names=names,
                    unverified=checked.unverified,
                ),
                registry=registry,
                chunks=chunks,
                dead_letters=letters,
                budget=budget or Budget(settings.batch.max_inflight_bytes),
                metrics=metrics,
                fail_points=points,
                batch=batch_size(checked.embedder),
                form=form_of(settings, metrics),
                reject=settings.quality.reject,
            )
            yield Assembly(client=client, requests=requests, store=store, registry=registry, chunks=chunks, parts=parts)
        finally:
            await letters.stop()
