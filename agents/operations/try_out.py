"""What becomes of the newest records of a topic under these settings: for who writes a mapping. Changes nothing."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal

from agents.configured import manifests_of, routes_of, split_rules
from agents.kafka.reader import LogReader, log_reader
from agents.schemas.form import form_of
from agents.settings import Settings
from models.tokens import tokens_of
from streams.errors import PenstockError
from streams.flags import Flag
from streams.form import Form
from streams.plan import language_of
from streams.quality import judged, refusal, repaired
from streams.record import Document, Record, Rejected
from streams.routes import DEFAULT, route_of
from streams.split import chunk_document

MANY = 20
"""Offsets of a partition that are looked at for each record that is asked for: some are markers, or compacted away."""
logger = logging.getLogger(__name__)

REGISTRY_S = 5.0
"""For a schema registry that does not answer: somebody sits before this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A record: where it is, and what becomes of it. `chunks`: None without the model's tokenizer at hand, as are
    `language` and `flags`, with how many chunks have each. `repaired`: what a chunk that was decoded wrongly may have
    been. `route`, `model`: which it takes, where there are several.

    `missing`: fields that the mapping names and the record does not have, each with its rules: `team (metadata)`.
    """

    partition: int
    offset: int
    key: str
    becomes: Literal["document", "deletion", "rejected"]
    id: str | None = None
    reason: str | None = None
    title: str | None = None
    url: str | None = None
    author: str | None = None
    timestamp: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    route: str | None = None
    model: str | None = None
    chunks: int | None = None
    language: str | None = None
    flags: dict[Flag, int] | None = None
    text: str | None = None
    repaired: str | None = None
    missing: list[str] = field(default_factory=list)


async def try_out(settings: Settings, count: int) -> list[Tried]:
    """Of the newest `count` records, oldest first.

    Raises PenstockError when the topic is missing, or Kafka or the schema registry away.
    """
    form, split = form_of(settings, patience_s=REGISTRY_S), _splitter(settings)
    async with log_reader(settings) as reader:
        records = await _newest(reader, settings.source.topic, count)
    await form.ready(records)
    return [_tried(record, form, split) for record in records]


async def _newest(reader: LogReader, topic: str, count: int) -> list[Record]:
    found = list[Record]()
    async for page, _ in reader.pages(topic, await reader.require_partitions(topic), last=MANY * count):
        found = sorted([*found, *page.records], key=lambda one: (one.timestamp_ms, one.partition, one.offset))[-count:]
    return found


class _Splitter:
    """The chunks that a document has, with its model's tokenizer."""

    def __init__(self, settings: Settings) -> None:
        self._routes = routes_of(settings)
        self._ways = {
            name: (split_rules(settings, manifest), tokens_of(settings.model.dir / name, manifest).encode)
            for name, manifest in zip(settings.models, manifests_of(settings), strict=True)
        }
        self._default = settings.model.name
        self._reject = settings.quality.reject

    def add(self, tried: Tried, document: Document) -> Tried:
        """What its chunks tell."""
        if self._routes:
            route = route_of(document, self._routes)
            tried = replace(
                tried, route=route.name if route else DEFAULT, model=route.model if route else self._default
            )
        made = chunk_document(document, *self._ways[tried.model or self._default])
        if isinstance(made, Rejected):
            return replace(tried, becomes="rejected", reason=made.message)
        verdict = judged(document, made)
        refused = refusal(document, made, verdict, self._reject)
        garbled = next((chunk for number, chunk in enumerate(made) if "mojibake" in verdict.of(number)), None)
        return replace(
            tried,
            becomes="rejected" if refused else tried.becomes,
            reason=refused.message if refused else None,
            chunks=len(made),
            language=language_of(document, made[0], verdict) if made else None,
            flags=dict(Counter(chain.from_iterable(verdict.flags))),
            repaired=repaired(garbled.text) if garbled else None,
        )


def _splitter(settings: Settings) -> _Splitter | None:
    try:
        return _Splitter(settings)
    except PenstockError as exc:  # a mapping can be tried without
        logger.warning("routes, chunks, flags and languages are not told: %s", exc)
        return None


def _tried(record: Record, form: Form, split: _Splitter | None) -> Tried:
    key = (record.key or b"").decode(errors="backslashreplace")
    tried = Tried(
        partition=record.partition, offset=record.offset, key=key, becomes="rejected", missing=form.missing(record)
    )
    document = form.decode(record)
    if isinstance(document, Rejected):
        return replace(tried, id=form.doc_id(record), reason=document.message)
    tried = replace(
        tried,
        becomes="document" if document.chunks or (document.text or "").strip() else "deletion",
        id=document.id,
        title=document.title,
        url=document.url,
        author=document.author,
        timestamp=document.timestamp,
        metadata=document.metadata,
        text=_text(document),
    )
    return split.add(tried, document) if split else tried


def _text(document: Document) -> str | None:
    if document.chunks:
        return "\n\n".join(chunk.text for chunk in document.chunks)
    return document.text or None


def missing(rows: Sequence[Tried]) -> dict[str, int]:
    """In how many records each field is missing that the mapping names, most often first; a tombstone has none."""
    return dict(Counter(name for row in rows for name in row.missing).most_common())


def rejected(rows: Sequence[Tried]) -> int:
    """How many are."""
    return sum(row.becomes == "rejected" for row in rows)
