"""Documents of an index that are nearly the same, by the signatures on their first chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.elastic.client import Client
from agents.elastic.errors import translated
from agents.elastic.requests import scan
from agents.operations.rescore import Hit
from agents.operations.search import Ask
from agents.progress import Report
from agents.settings import Settings
from streams.errors import RefusedError
from streams.generations import Generation
from streams.ids import chunk_id
from streams.likeness import MARGIN, clusters, read, similarity

SIGNED = 3
"""Format of indices that have signatures, and of all later ones."""
FIRST_CHUNKS = {
    "bool": {
        "filter": [{"term": {"metadata.chunk": 0}}, {"exists": {"field": "penstock.chunk_hash"}}],
        "must_not": {"term": {"penstock.stub": True}},
    }
}
MOST_HITS = 1000
"""That are looked through for distinct ones."""
ALIKE = 0.8
"""Similarity from which on a search takes two documents for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Documents by id, in the order of their ids. `similarity`: estimated, of the first to the least like it."""

    documents: list[str]
    similarity: float


@dataclass(slots=True, kw_only=True)
class Duplicates:
    """`documents`: how many were compared; `without`: how many have too little text. `groups`: largest first."""

    index: str
    documents: int = 0
    without: int = 0
    groups: list[Group] = field(default_factory=list)

    @property
    def superfluous(self) -> int:
        """Documents beyond one of each group."""
        return sum(len(group.documents) - 1 for group in self.groups)


async def find_duplicates(
    client: Client, settings: Settings, generation: Generation, least: float, report: Report
) -> Duplicates:
    """Groups of documents that are at least so similar. Some 500 bytes a document are in memory.

    Workers may go on meanwhile: a document counts as it was when it was read. Raises RefusedError for an index without
    signatures.
    """
    _require_signatures(generation)
    result, rows = Duplicates(index=generation.index), list[tuple[str, bytes]]()
    passed = 0
    with translated(settings.elasticsearch.url, "; try again"):
        fields = ["metadata.doc_id", "penstock.signature"]
        async for hits, total in scan(client, generation.index, FIRST_CHUNKS, fields):
            for hit in hits:
                signature = hit["_source"].get("penstock", {}).get("signature")
                if signature is None:
                    result.without += 1
                else:
                    rows.append((hit["_source"]["metadata"]["doc_id"], read(signature).tobytes()))
            passed += len(hits)
            report("reading signatures", passed, total)
    result.documents = len(rows)
    rows.sort()
    signatures = np.frombuffer(b"".join(signature for _, signature in rows), np.uint16).reshape(len(rows), -1)
    for found in clusters(signatures, least) if rows else ():
        documents = [rows[row][0] for row in found.members]
        result.groups.append(Group(documents=documents, similarity=round(found.similarity, 2)))
    return result


async def search_distinct(client: Client, settings: Settings, generation: Generation, ask: Ask, k: int) -> list[Hit]:
    """What `ask` finds, without what says nearly the same as a better hit: the same chunk, or a chunk of a document
    that is nearly the same as that hit's. `ask` is called again for more where too few are left.

    Raises RefusedError for an index without signatures.
    """
    _require_signatures(generation)
    wanted = k
    while True:
        wanted = min(MOST_HITS, 4 * wanted)
        hits = await ask(wanted)
        found = await _distinct(client, settings, generation, hits, k)
        if len(found) == k or len(hits) < wanted or wanted == MOST_HITS:
            return found


async def _distinct(
    client: Client, settings: Settings, generation: Generation, hits: Sequence[Hit], k: int
) -> list[Hit]:
    documents = {hit["metadata"].get("doc_id", hit["id"]) for hit in hits}
    signatures = await _signatures(client, settings, generation, sorted(documents)) if documents else {}
    texts, shown, kept = set[str](), dict[str, Any](), list[Hit]()
    for hit in hits:
        document = hit["metadata"].get("doc_id", hit["id"])
        own, text = signatures.get(document), hit["penstock"].get("chunk_hash", hit["id"])
        others = [other for name, other in shown.items() if name != document]
        if text in texts or (own is not None and any(similarity(own, other) >= ALIKE - MARGIN for other in others)):
            continue
        texts.add(text)
        if own is not None:
            shown[document] = own
        kept.append(hit)
        if len(kept) == k:
            break
    return kept


async def _signatures(
    client: Client, settings: Settings, generation: Generation, documents: Sequence[str]
) -> dict[str, Any]:
    with translated(settings.elasticsearch.url):
        answer = await client.mget(
            index=generation.index,
            ids=[chunk_id(document, 0) for document in documents],
            source_includes=["penstock.signature"],
        )
    found = {}
    for document, row in zip(documents, answer["docs"], strict=True):
        signature = row.get("_source", {}).get("penstock", {}).get("signature")
        if signature is not None:
            found[document] = read(signature)
    return found


def _require_signatures(generation: Generation) -> None:
    if (made := generation.contract["format"]) < SIGNED:
        raise RefusedError(
            f"{generation.index} was made by an earlier release of Penstock (format {made}), and its documents have no "
            "signatures: `penstock index rebuild` fills one that has them"
        )
