"""`penstock backfill`: what the topic has, into an index, by an engine for batches.

Where nothing was processed yet, into the index that workers of these settings would fill, and they go on from there.
Else into a generation of its own, while readers and workers keep the present one: as `penstock index rebuild`, whose
way through the topic many processes share here.
"""

import time
from typing import Any

from agents.configured import contract_of, manifests_of
from agents.elastic.client import connect
from agents.elastic.errors import translated
from agents.elastic.index import Index
from agents.indexing.embedders import absent_models, load_models
from agents.indexing.preflight import check, create_index
from agents.kafka.claims import read_claims
from agents.kafka.reader import log_reader
from agents.operations.filling import Filed, Fill, fill_ranges
from agents.operations.rebuild import Rebuilt, rebuild
from agents.progress import Report
from agents.settings import Settings
from streams.generations import serving_one


async def backfill(
    settings: Settings,
    fill: Fill,
    report: Report,
    *,
    in_place: bool = False,
    embed_all: bool = False,
    filed: Filed | None = None,
) -> Rebuilt:
    """Returns when everything that is in the topic now is in the index. Twice is harmless: what is settled is left out.

    `in_place`: into the index that the workers of these settings fill, from their claims on, though there are some.
    `embed_all`: as `rebuild` takes it. `filed`: who has the vectors, where no model is here. Raises as `rebuild`.
    """
    if in_place or await _is_first(settings):
        return await _first(settings, fill, filed)
    return await rebuild(
        settings, offset=None, at_ms=None, rate=None, report=report, embed_all=embed_all, fill=fill, filed=filed
    )


async def _is_first(settings: Settings) -> bool:
    """Whether no worker has processed anything for the index that serves, or there is none."""
    async with log_reader(settings) as reader, connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        serving = serving_one(await index.generations())
        if serving is None:
            return True
        return serving.group in (None, settings.source.group) and not await read_claims(reader, settings)


async def _first(settings: Settings, fill: Fill, filed: Filed | None) -> Rebuilt:
    began = time.monotonic()
    with translated(settings.elasticsearch.url, "; run it again to go on"):
        await create_index(settings)
        checked = await check(settings, load=absent_models if filed else load_models)
        try:
            async with log_reader(settings) as reader, connect(settings.elasticsearch) as client:
                identity = checked.identity
                await Index(client, settings).bind(identity.index, checked.topic.log)
                starts = dict.fromkeys(range(checked.partitions), 0)
                _, counted = await fill_ranges(reader, settings, identity, checked.history, starts, fill, filed=filed)
        finally:
            checked.close()
    result = Rebuilt(index=identity.index, group=settings.source.group, serving=True)
    result.count(counted)
    result.seconds = round(time.monotonic() - began, 1)
    return result


async def log_now(settings: Settings) -> tuple[dict[int, range], dict[str, Any]]:
    """What the topic holds, by partition, and the contract that an index of it would have; no index is asked.

    Raises PenstockError where Kafka is away, or a model is missing.
    """
    async with log_reader(settings) as reader:
        topic = await reader.require_topic(settings.source.topic)
        bounds = await reader.bounds(settings.source.topic, range(topic.partitions))
        contract = contract_of(settings, manifests_of(settings), topic)
    return {number: range(one.begin, one.end) for number, one in bounds.items()}, contract
