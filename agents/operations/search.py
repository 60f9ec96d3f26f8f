"""Search an index with the models that it was filled with."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agents.elastic.client import Client
from agents.elastic.errors import translated
from agents.indexing.embedders import close_models, load_model
from agents.operations.rescore import Hit, Rescorer
from agents.settings import Settings, with_model
from models.embedder import Model
from models.manifest import manifest_of
from streams.contract import differences, models_in, spaces_of
from streams.errors import ConfigError, PenstockError, RefusedError
from streams.fuse import fused
from streams.generations import Generation
from streams.ids import chunk_id
from streams.plan import Space
from streams.split import SplitRules

Question = Sequence[tuple[Space, list[float]]]
"""What is asked for in each space: a vector of its model."""
Ask = Callable[[int], Awaitable[list[Hit]]]
"""The so many nearest, best first."""


class QueryModels:
    """Embeds questions with the models that generations were filled with. Each is loaded when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, Model] = {}

    async def question(self, generation: Generation, text: str) -> Question:
        """Of a text, by every model of a generation.

        Raises RefusedError when the files here are of another model, PenstockError when there are none, ConfigError
        when the text has too many tokens, and as `Model.embed_query`.
        """
        found = []
        for space, wanted in zip(spaces_of(generation.contract), models_in(generation.contract), strict=True):
            try:
                found.append((space, await self._model(generation, wanted).embed_query(text)))
            except ValueError as exc:
                raise ConfigError(f"the search text is too long: {exc}") from exc
        return found

    def rescorer(self, generation: Generation, question: Question, most: int) -> Rescorer:
        """By the model of whatever takes no route. `question`: of this generation. Raises as `question`."""
        split = generation.contract["split"]
        rules = SplitRules(**{name: split[name] for name in ("max_chars", "overlap_chars", "max_tokens")})
        model = self._model(generation, models_in(generation.contract)[0])
        return Rescorer(model, rules, question[0][1], most)

    def _model(self, generation: Generation, wanted: dict[str, Any]) -> Model:
        chosen = _with_model(self._settings, generation, wanted)
        model = self._loaded.get(chosen.model.name) or load_model(chosen)
        self._loaded[chosen.model.name] = model
        return model

    def close(self) -> None:
        """Let the models go."""
        close_models(self._loaded.values())


def _with_model(settings: Settings, generation: Generation, wanted: dict[str, Any]) -> Settings:
    """The settings with this model: a configured one, else the one that the contract names."""
    rows: list[str] = []
    for name in dict.fromkeys((*settings.models, wanted["name"])):
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


def require_document_vectors(generation: Generation) -> None:
    """Raises ConfigError where documents of this generation have no vectors of their own."""
    if generation.contract["split"].get("document_vector", "none") == "none":
        raise ConfigError(
            f'documents of {generation.index} have no vectors of their own: set split.document_vector = "mean", then '
            "`penstock index rebuild`, workers of the group that it names, and `penstock index promote`"
        )


async def vector_of_document(client: Client, settings: Settings, generation: Generation, doc_id: str) -> Question:
    """A document's own vector, for others of the same model. Raises PenstockError when the index has no such document,
    or none with chunks."""
    require_document_vectors(generation)
    spaces = spaces_of(generation.contract)
    with translated(settings.elasticsearch.url):
        found = await client.options(ignore_status=404).get(
            index=generation.index,
            id=chunk_id(doc_id, 0),
            source_includes=[space.names.document or "" for space in spaces],
        )
    source = found.get("_source", {})
    asked = [(space, source[space.names.document]) for space in spaces if space.names.document in source]
    if not asked:
        raise PenstockError(
            f"{generation.index} has no document {doc_id}, or it was deleted: `penstock search --documents TEXT` shows "
            "ids of documents"
        )
    return asked


async def search(client: Client, settings: Settings, generation: Generation, question: Question, k: int) -> list[Hit]:
    """The k nearest chunks of a generation, best first; of several models by the ranks that these give them.

    The index itself is asked and not the alias, which may point at another model's vectors a moment later.
    """
    fields = [(space.names.vector, vector) for space, vector in question]
    return await _nearest(client, settings, generation, fields, k)


async def search_rescored(
    client: Client, settings: Settings, generation: Generation, question: Question, rescorer: Rescorer, k: int
) -> list[Hit]:
    """The k best chunks by the default model alone: of its own field, and those of the others that are rescored."""
    own, *others = [(space.names.vector, vector) for space, vector in question]
    hits = await _nearest(client, settings, generation, [own], k)
    if others:
        hits += await rescorer.rescored(await _nearest(client, settings, generation, others, rescorer.most))
    return sorted(hits, key=lambda hit: -hit["score"])[:k]


async def search_documents(
    client: Client, settings: Settings, generation: Generation, question: Question, k: int, *, but: str | None = None
) -> list[Hit]:
    """The k nearest documents, each as its first chunk, with `id` the document's. `but`: one that is left out.

    Raises ConfigError where documents have no vectors of their own.
    """
    require_document_vectors(generation)
    others = {"bool": {"must_not": {"term": {"metadata.doc_id": but}}}} if but else None
    fields = [(space.names.document or "", vector) for space, vector in question]
    hits = await _nearest(client, settings, generation, fields, k, others)
    return [{**hit, "id": hit["metadata"]["doc_id"]} for hit in hits]


async def _nearest(
    client: Client,
    settings: Settings,
    generation: Generation,
    fields: Sequence[tuple[str, list[float]]],
    k: int,
    only: dict[str, Any] | None = None,
) -> list[Hit]:
    """`fields`: each with the vector that is asked for there."""
    text = generation.contract["fields"]["text"]
    vectors = [name for space in spaces_of(generation.contract) for name in (space.names.vector, space.names.document)]
    excluded = [*(name for name in vectors if name), "penstock.signature"]
    with translated(settings.elasticsearch.url):
        rankings = []
        for field, vector in fields:
            knn: dict[str, Any] = {"field": field, "query_vector": vector, "k": k, "num_candidates": max(100, 10 * k)}
            knn |= {"filter": only} if only else {}
            answer = await client.search(index=generation.index, knn=knn, source_excludes=excluded, size=k)
            rankings.append([_hit(row, text) for row in answer["hits"]["hits"]])
        if len(fields) == 1:
            return rankings[0]
        sizes = [await _documents_with(client, generation, field) for field, _ in fields]
    return [{**hit, "score": score} for hit, score in fused(rankings, sizes)[:k]]


async def _documents_with(client: Client, generation: Generation, field: str) -> int:
    """As many as have a vector there: each of them has one first chunk."""
    first = {"bool": {"filter": [{"exists": {"field": field}}, {"term": {"metadata.chunk": 0}}]}}
    return int((await client.count(index=generation.index, query=first))["count"])


def _hit(row: dict[str, Any], text: str) -> Hit:
    source = row["_source"]
    return {
        "score": row["_score"],
        "id": row["_id"],
        "text": source.get(text, ""),
        "metadata": source.get("metadata", {}),
        "penstock": source.get("penstock", {}),  # none in a row that others put there
    }
