"""Whether the topic is the log that an index holds: an index belongs to a log, not to a topic's name.

1. the log's identity (cluster and topic id), which is part of the contract
2. the claims: each is about a record, which must be the one that is there
3. the registry: no version may be beyond the log's end

The last two are for brokers that give a topic no id, and for logs that were truncated. Where one says no, the records
that come have lower versions than what is there, and would lose against it in silence.
"""

from collections.abc import Mapping
from typing import Any

from agents.elastic.client import Client
from agents.elastic.errors import translated
from agents.elastic.incarnation import IndexIdentity
from agents.kafka.claims import require_same_log
from agents.settings import Settings
from streams.claim import Claim
from streams.epochs import another_log, begin_epoch, epoch_of_version
from streams.ports import Log


async def require_indexed_log(
    log: Log,
    client: Client,
    settings: Settings,
    identity: IndexIdentity,
    claims: Mapping[int, Claim],
    partitions: int,
) -> dict[int, int]:
    """Claims and registry against the log as it is now. Raises RefusedError where one contradicts the other.

    `claims`: of the group; those about another sink prove nothing. `partitions`: how many of them to look at. Returns
    the registry's newest version of each.
    """
    topic = settings.source.topic
    await require_same_log(
        log,
        topic,
        {number: claim for number, claim in claims.items() if claim.sink == identity.sink and number < partitions},
    )
    newest = await newest_versions(client, settings, identity, partitions)
    # after the versions: workers may go on meanwhile; a cut may be behind an open transaction
    beyond = identity.epochs.beyond(newest, await log.written(topic, range(partitions)))
    if beyond:
        number, end = next(iter(beyond.items()))
        what = f"{identity.registry} has versions of records beyond the end of {topic}/{number}, which ends at {end}"
        raise another_log(topic, what, begin_epoch(None, settings.source.group))
    return newest


async def newest_versions(
    client: Client, settings: Settings, identity: IndexIdentity, partitions: int
) -> dict[int, int]:
    """The greatest version in the registry, by partition, of so many. Raises PenstockError when it cannot be read."""
    # no row more than there can be: an index may allow few
    present = {"range": {"partition": {"gte": 0, "lt": partitions}}}  # not those of snapshots
    rows = await _newest(client, settings, identity, present, size=partitions, collapse={"field": "partition"})
    return {row["partition"]: row["version"] for row in rows}


async def newest_epoch(client: Client, settings: Settings, identity: IndexIdentity) -> int:
    """Of all that the registry knows of. Raises PenstockError when it cannot be read."""
    rows = await _newest(client, settings, identity, size=1)
    return epoch_of_version(rows[0]["version"]) if rows else 0


async def _newest(
    client: Client, settings: Settings, identity: IndexIdentity, *only: dict[str, Any], size: int, **how: Any
) -> list[dict[str, Any]]:
    ours = {"term": {"chunk_index_uuid": identity.chunk_index_uuid}}
    source: Any = ["partition", "version"]
    with translated(settings.elasticsearch.url):
        answer = await client.search(
            index=identity.registry,
            query={"bool": {"filter": [ours, *only]}},
            sort=[{"version": "desc"}],
            size=size,
            source=source,
            **how,
        )
    return [hit["_source"] for hit in answer["hits"]["hits"]]
