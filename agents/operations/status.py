"""Lag and settlement as the broker and the changelog tell them, with or without a running worker."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from agents.clock import age_s
from agents.configured import contract_of, manifests_of
from agents.elastic.client import connect
from agents.elastic.incarnation import IndexIdentity
from agents.elastic.index import Index
from agents.indexing.embedders import wanted_setup
from agents.indexing.preflight import require_few_rejected
from agents.kafka.claims import read_claims
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader, log_reader
from agents.operations.cost import budget_of
from agents.operations.letters import listed, read_letters
from agents.settings import Settings
from models.api.wire import shown_url
from models.manifest import ServiceManifest, manifest_of
from streams.contract import Described
from streams.errors import NoIndexError, PenstockError, RefusedError

NO_SINK = "there is no index"
"""Whatever was claimed is void."""
NEWEST_LETTERS = 10_000
"""So many of each partition: `penstock dlq list` reads them all."""


async def read_status(settings: Settings, now: Callable[[], float] = time.time) -> dict[str, Any]:
    """`{lag, held_back, partitions, model, index, workers, budget}`. Claims about another index than today's are void.

    Where there is no index, all are. When Elasticsearch cannot be asked, or refuses, they are taken as they stand, as
    long as they are of this log.
    `index` is null then, and `problem` says why; so it does where no index is behind the readers' alias, where it is
    blocked, where its shards changed and nobody verified it since, and where workers end because of their dead letters.
    """
    async with log_reader(settings) as reader:
        topic = await reader.require_topic(settings.source.topic)
        identity, problem = await identity_or_problem(settings, topic)
        if identity:
            problem = await _ailing(settings, identity) or await _stopped(reader, settings, identity)
        sink = identity.sink if identity else NO_SINK if isinstance(problem, NoIndexError) else None
        rows = await partition_rows(reader, settings, topic.partitions, sink, topic.log)
        for row in rows:
            row["oldest_unsettled_age_s"] = await _age(reader, row) if row["lag"] else None
        workers = await reader.group_members(settings.source.group)
        dead = await _dead_letters(reader, settings, identity)
        claims = await read_claims(reader, settings) if settings.budget.per_day is not None else {}
    return {
        "lag": sum(row["lag"] for row in rows),
        "held_back": sum(row["held_back"] for row in rows),
        "partitions": rows,
        "model": settings.model.name,
        "setup": _setup(settings),
        "index": identity.index if identity else None,
        "problem": str(problem) if problem else None,
        "workers": workers,
        "dead_letters": dead,
        "budget": budget_of(settings, [claim.spend for claim in claims.values()], now()),
    }


async def _dead_letters(reader: LogReader, settings: Settings, identity: IndexIdentity | None) -> dict[str, int | None]:
    """Of the newest dead letters: how many records, how many are open, and of how many an older version is served."""
    home = identity.home(settings.source.group) if identity else None
    letters = await read_letters(reader, settings, home, last=NEWEST_LETTERS)
    rows = await listed(settings, reader, identity, letters)
    counts: dict[str, int | None] = {"records": len(rows)}
    for name, count in (
        ("open", sum(row.standing == "open" for row in rows)),
        ("older_version_served", sum(row.serves_older for row in rows)),
    ):
        counts[name] = count if identity else None
    return counts


def _setup(settings: Settings) -> str | None:
    """How a worker runs the model on this machine; None before that was measured here."""
    try:
        manifest = manifest_of(settings.model_folder)
        if isinstance(manifest, ServiceManifest):
            return f"{manifest.model} at {shown_url(manifest.url)}"
        from models.onnx.choose import kept

        verdict = kept(settings.model_folder, manifest, wanted_setup(settings))
    except PenstockError:
        return None
    return str(verdict.setup) if verdict else None


async def _age(reader: LogReader, row: Mapping[str, Any]) -> float | None:
    record = (await reader.next_from(row["topic"], row["partition"], row["settled_offset"])).record
    age = None if record is None else age_s(record.timestamp_ms)
    return None if age is None else round(age, 1)


async def _stopped(reader: LogReader, settings: Settings, identity: IndexIdentity) -> PenstockError | None:
    """Why no worker starts, where the last one ended because of its dead letters."""
    claims = await read_claims(reader, settings)
    try:
        require_few_rejected(settings, claims.values(), identity.sink)
    except RefusedError as exc:
        return exc
    return None


async def _ailing(settings: Settings, identity: IndexIdentity) -> PenstockError | None:
    """What is wrong with an index that workers write into all the same."""
    try:
        async with connect(settings.elasticsearch) as client:
            index = Index(client, settings)
            await index.require_served(identity.index)
            await index.require_unblocked(identity.index)
            await index.require_verified(identity, settings.source.group)
    except PenstockError as exc:
        return exc
    return None


async def identity_or_problem(
    settings: Settings, topic: Described
) -> tuple[IndexIdentity | None, PenstockError | None]:
    """The index that these settings write into, or why there is none."""
    try:
        manifests = manifests_of(settings)
        async with connect(settings.elasticsearch) as client:
            return await Index(client, settings).identify(contract_of(settings, manifests, topic)), None
    except PenstockError as exc:
        return None, exc
