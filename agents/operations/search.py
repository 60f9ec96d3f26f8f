"""Search an index with the model that it was filled with."""

from collections.abc import Awaitable, Callable
from typing import Any

from agents.elastic.client import Client
from agents.elastic.errors import translated
from agents.settings import Settings, with_model
from models.embedder import Model
from models.manifest import manifest_of
from streams.contract import differences
from streams.document_vector import FIELD
from streams.errors import ConfigError, PenstockError, RefusedError
from streams.generations import Generation
from streams.ids import chunk_id

Hit = dict[str, Any]
"""`score`, `id`, `text`, `metadata`, `penstock`."""
Ask = Callable[[int], Awaitable[list[Hit]]]
"""The so many nearest, best first."""


def with_model_of(settings: Settings, generation: Generation) -> Settings:
    """The settings with a model whose vectors a generation has: the configured one, else the one that it names.

    Raises RefusedError when the files here are of another model, PenstockError when there are none.
    """
    wanted = generation.contract["model"]
    for name in dict.fromkeys((settings.model.name, wanted["name"])):
        chosen = with_model(settings, name)
        try:
            here = manifest_of(chosen.model_folder).contract()
        except PenstockError:
            if name == wanted["name"]:
                raise
            continue
        rows = differences({"model": wanted}, {"model": here})
        if not rows:
            return chosen
    raise RefusedError(
        f"the index {generation.index} was filled with another model: {'; '.join(rows)}; export that one"
    )


async def embed_query(embedder: Model, text: str) -> list[float]:
    """The vector of a question. Raises ConfigError when it has too many tokens, and as `Model.embed_query`."""
    try:
        return await embedder.embed_query(text)
    except ValueError as exc:
        raise ConfigError(f"the search text is too long: {exc}") from exc


def require_document_vectors(generation: Generation) -> None:
    """Raises ConfigError where documents of this generation have no vectors of their own."""
    if generation.contract["split"].get("document_vector", "none") == "none":
        raise ConfigError(
            f'documents of {generation.index} have no vectors of their own: set split.document_vector = "mean", then '
            "`penstock index rebuild`, workers of the group that it names, and `penstock index promote`"
        )


async def vector_of_document(client: Client, settings: Settings, generation: Generation, doc_id: str) -> list[float]:
    """A document's own vector. Raises PenstockError when the index has no such document, or none with chunks."""
    require_document_vectors(generation)
    with translated(settings.elasticsearch.url):
        found = await client.options(ignore_status=404).get(
            index=generation.index, id=chunk_id(doc_id, 0), source_includes=[FIELD]
        )
    vector: list[float] | None = found.get("_source", {}).get(FIELD)
    if vector is None:
        raise PenstockError(
            f"{generation.index} has no document {doc_id}, or it was deleted: `penstock search --documents TEXT` shows "
            "ids of documents"
        )
    return vector


async def search(client: Client, settings: Settings, generation: Generation, vector: list[float], k: int) -> list[Hit]:
    """The k nearest chunks of a generation, best first.

    The index itself is asked and not the alias, which may point at another model's vectors a moment later.
    """
    return await _nearest(client, settings, generation, generation.contract["fields"]["vector"], vector, k)


async def search_documents(
    client: Client, settings: Settings, generation: Generation, vector: list[float], k: int, *, but: str | None = None
) -> list[Hit]:
    """The k nearest documents, each as its first chunk, with `id` the document's. `but`: one that is left out.

    Raises ConfigError where documents have no vectors of their own.
    """
    require_document_vectors(generation)
    others = {"bool": {"must_not": {"term": {"metadata.doc_id": but}}}} if but else None
    hits = await _nearest(client, settings, generation, FIELD, vector, k, others)
    return [{**hit, "id": hit["metadata"]["doc_id"]} for hit in hits]


async def _nearest(
    client: Client,
    settings: Settings,
    generation: Generation,
    field: str,
    vector: list[float],
    k: int,
    only: dict[str, Any] | None = None,
) -> list[Hit]:
    fields = generation.contract["fields"]
    knn: dict[str, Any] = {"field": field, "query_vector": vector, "k": k, "num_candidates": max(100, 10 * k)}
    knn |= {"filter": only} if only else {}
    with translated(settings.elasticsearch.url):
        answer = await client.search(
            index=generation.index,
            knn=knn,
            source_excludes=[fields["vector"], FIELD, "penstock.signature"],
            size=k,
        )
    return [
        {
            "score": hit["_score"],
            "id": hit["_id"],
            "text": hit["_source"].get(fields["text"], ""),
            "metadata": hit["_source"].get("metadata", {}),
            "penstock": hit["_source"].get("penstock", {}),  # none in a row that others put there
        }
        for hit in answer["hits"]["hits"]
    ]
