"""Search an index with the model that it was filled with."""

from typing import Any

from agents.elastic.client import Client
from agents.elastic.errors import translated
from agents.settings import Settings, with_model
from models.manifest import read_manifest
from models.onnx.embedder import OnnxEmbedder
from streams.contract import differences
from streams.errors import ConfigError, PenstockError, RefusedError
from streams.generations import Generation

Hit = dict[str, Any]
"""`score`, `id`, `text`, `metadata`, `penstock`."""


def with_model_of(settings: Settings, generation: Generation) -> Settings:
    """The settings with a model whose vectors a generation has: the configured one, else the one that it names.

    Raises RefusedError when the files here are of another model, PenstockError when there are none.
    """
    wanted = generation.contract["model"]
    for name in dict.fromkeys((settings.model.name, wanted["name"])):
        chosen = with_model(settings, name)
        try:
            here = read_manifest(chosen.model_folder).contract()
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


def embed_query(embedder: OnnxEmbedder, text: str) -> list[float]:
    """The vector of a question. Raises ConfigError when it has too many tokens."""
    try:
        return embedder.embed_query(text)
    except ValueError as exc:
        raise ConfigError(f"the search text is too long: {exc}") from exc


async def search(client: Client, settings: Settings, generation: Generation, vector: list[float], k: int) -> list[Hit]:
    """The k nearest chunks of a generation, best first.

    The index itself is asked and not the alias, which may point at another model's vectors a moment later.
    """
    text, field = generation.contract["fields"]["text"], generation.contract["fields"]["vector"]
    knn = {"field": field, "query_vector": vector, "k": k, "num_candidates": max(100, 10 * k)}
    with translated(settings.elasticsearch.url):
        answer = await client.search(
            index=generation.index, knn=knn, source_excludes=[field, "penstock.signature"], size=k
        )
    return [
        {
            "score": hit["_score"],
            "id": hit["_id"],
            "text": hit["_source"].get(text, ""),
            "metadata": hit["_source"].get("metadata", {}),
            "penstock": hit["_source"].get("penstock", {}),  # none in a row that others put there
        }
        for hit in answer["hits"]["hits"]
    ]
