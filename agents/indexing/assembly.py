"""What records meet on their way into the index, connected: for workers, and for commands that write beside them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agents.configured import routes_of, split_rules
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
from agents.indexing.meter import Meter
from agents.indexing.preflight import Checked
from agents.indexing.stages import Former, Parts, Way
from agents.kafka.dead_letters import DeadLetterTopic
from agents.metrics import Metrics
from agents.schemas.form import form_of
from agents.settings import Settings
from models.embedder import Model
from streams.contract import differences, models_in, spaces_of
from streams.generations import Generation
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
    former: Generation | None = None,
    meter: Meter | None = None,
) -> AsyncIterator[Assembly]:
    """Connect to the index that was checked, and to the dead-letter topic; until the context ends.

    Requests are repeated until they are answered. A worker hands in what it shares with others; a command has its own.
    `former`: an index whose vectors are taken where model and text are the same.
    """
    identity = checked.identity
    metrics, points = metrics or Metrics(), fail_points or FailPoints()
    async with connect(settings.elasticsearch) as client:
        await Index(client, settings).complete(identity.index)
        requests = Requests(settings.delivery, metrics)
        store = ElasticStore(client, requests, metrics, points)
        registry = Registry(store, identity.registry_alias)
        chunks = ChunkIndex(store, metrics, points, write_alias=identity.write_alias)
        letters = DeadLetterTopic(settings, checked.home(settings), metrics)
        await letters.start()
        try:
            parts = Parts(
                ways=ways_of(settings, identity.contract, checked.models),
                routes=routes_of(settings),
                refuge=settings.budget.refuge,
                epochs=identity.epochs,
                target=Target(chunk_index_uuid=identity.chunk_index_uuid, unverified=checked.unverified),
                registry=registry,
                chunks=chunks,
                dead_letters=letters,
                budget=budget or Budget(settings.batch.max_inflight_bytes),
                metrics=metrics,
                fail_points=points,
                form=form_of(settings, metrics),
                reject=settings.quality.reject,
                former=_former(former, identity.contract, store, metrics, points) if former else None,
                meter=meter,
            )
            yield Assembly(client=client, requests=requests, store=store, registry=registry, chunks=chunks, parts=parts)
        finally:
            await letters.stop()


def ways_of(settings: Settings, contract: dict[str, Any], models: Sequence[Model]) -> list[Way]:
    """The default one first. `contract`: of the index; `models`: of the settings."""
    return [
        Way(space=space, rules=split_rules(settings, model.manifest), embedder=model, batch=batch_size(model))
        for space, model in zip(spaces_of(contract), models, strict=True)
    ]


def _former(one: Generation, contract: dict[str, Any], store: Store, metrics: Metrics, points: FailPoints) -> Former:
    """Of the models that both have, whatever they are called."""
    there = list(zip(spaces_of(one.contract), models_in(one.contract), strict=True))
    here = zip(spaces_of(contract), models_in(contract), strict=True)
    fields = {
        space.names.vector: other.names.vector
        for space, model in here
        for other, its in there
        if not differences({"model": its}, {"model": model})
    }
    return Former(
        chunks=ChunkIndex(store, metrics, points, write_alias=one.index),
        registry=Registry(store, f"{one.index}-registry"),
        fields=fields,
    )
