"""The rules of the Elasticsearch in memory that the simulation relies on, held against the real one."""

import asyncio
from typing import Any

from elasticsearch import AsyncElasticsearch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.elastic.client import connect
from agents.settings.sections import ElasticsearchSettings
from tests.kit.harness import Servers
from tests.simulation.elastic import REFUSED, MemoryIndex

INDEX = "rules"
MAPPINGS = {"dynamic": "strict", "properties": {"text": {"type": "keyword"}, "n": {"type": "integer"}}}

ids = st.sampled_from(["a", "b"])
versions = st.integers(1, 6)
sources = st.fixed_dictionaries({"text": st.sampled_from(["x", "y", REFUSED])})
external = st.tuples(st.just("external"), ids, versions, st.sampled_from(["external", "external_gte"]), sources)
deletion = st.tuples(st.just("delete"), ids, versions, st.just("external"), st.none())
creation = st.tuples(st.just("create"), ids, st.none(), st.none(), sources)
swap = st.tuples(st.just("swap"), ids, st.integers(-3, 0), st.none(), sources)
"""Compare-and-swap against the sequence number that many operations ago."""
reopening = st.just(("reopen", "", None, None, None))
operations = st.lists(external | deletion | creation | swap | reopening, min_size=1, max_size=12)


def test_in_memory_rules_are_those_of_elasticsearch(servers: Servers) -> None:
    """Versions, compare-and-swap, realtime reads, refused items, and deletions that a reopened shard forgets."""
    compared: list[int] = []

    async def run(steps: list[tuple[Any, ...]]) -> None:
        async with connect(ElasticsearchSettings(url=f"http://127.0.0.1:{servers.elasticsearch_port}")) as client:
            await client.indices.delete(index=INDEX, ignore_unavailable=True)
            await client.indices.create(
                index=INDEX, mappings=MAPPINGS, settings={"number_of_replicas": 0, "number_of_shards": 1}
            )
            memory = MemoryIndex(INDEX, "u")
            last: dict[str, tuple[int, int, int]] = {}  # sequence number, terms of the server and in memory
            for kind, key, number, version_type, source in steps:
                if kind == "reopen":
                    await client.indices.close(index=INDEX)
                    await client.indices.open(index=INDEX, wait_for_active_shards="all")
                    memory.reopen()
                    continue
                action, meta = _operation(kind, key, number, version_type)
                seq_no, term, term_in_memory = last.get(key, (0, 1, 1))
                mine = theirs = meta
                if kind == "swap":
                    theirs = meta | {"if_seq_no": max(0, seq_no + (number or 0)), "if_primary_term": term}
                    mine = theirs | {"if_primary_term": term_in_memory}
                expected = memory.apply(action if action != "delete" else "index", mine, source)
                found = await _send(client, action, theirs, source)
                assert (found["status"], found.get("_seq_no")) == (expected["status"], expected.get("_seq_no")), found
                if "_seq_no" in expected:
                    last[key] = expected["_seq_no"], found["_primary_term"], expected["_primary_term"]
                row = await client.mget(index=INDEX, ids=["a", "b"])
                for doc in row["docs"]:
                    wanted = memory.get(doc["_id"])
                    assert doc["found"] == wanted["found"]
                    names = ("_version", "_seq_no")
                    assert [doc.get(name) for name in names] == [wanted.get(name) for name in names]
                compared.append(1)

    @settings(max_examples=30, suppress_health_check=list(HealthCheck))
    @given(operations)
    def explore(steps: list[tuple[Any, ...]]) -> None:
        asyncio.run(run(steps))

    explore()
    assert len(compared) > 50


def _operation(kind: str, key: str, number: int | None, version_type: str | None) -> tuple[str, dict[str, Any]]:
    meta: dict[str, Any] = {"_id": key}
    if kind in ("external", "delete"):
        return ("index" if kind == "external" else "delete"), meta | {"version": number, "version_type": version_type}
    return ("create" if kind == "create" else "index"), meta


async def _send(
    client: AsyncElasticsearch, action: str, meta: dict[str, Any], source: dict[str, Any] | None
) -> dict[str, Any]:
    lines: list[Any] = [{action: meta}]
    if source is not None:  # what validation lets through and the mapping does not take: a field that is unknown
        lines.append({"surprise": 1} if source["text"] == REFUSED else source)
    answer = await client.bulk(index=INDEX, operations=lines)
    ((_, details),) = answer["items"][0].items()
    found: dict[str, Any] = details
    return found
