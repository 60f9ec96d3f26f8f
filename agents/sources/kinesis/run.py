"""A stream and Kafka, connected, for as long as it takes; and how far it is, for people."""

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import partial

from agents.kafka.reader import log_reader
from agents.settings import Settings
from agents.sources.kinesis import (
    Checkpoint,
    Described,
    ExpiredError,
    MadeAnewError,
    Missed,
    NoShardError,
    Page,
    Place,
    Shard,
    Stream,
    Summary,
    ThrottledError,
    TrimmedError,
)
from agents.sources.kinesis.bridge import Bridge, Options, uncancelled
from agents.sources.kinesis.memory import Remembered, remembered
from agents.sources.kinesis.pace import Pace
from agents.sources.kinesis.shards import gap, gone, revived
from agents.sources.publish import Wait, publisher
from agents.sources.state import State, state_topic
from agents.sources.topic import largest_record, source_topic
from streams.errors import AwayError

logger = logging.getLogger(__name__)

AWAY = Pace(backoff_s=0.5, longest_s=30.0)
TRIES = 5
LOOKS = 8
"""Shards that are asked at once, how far behind they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a shard is. `behind_ms`: of its newest record; None where nobody can say, or it is read to its end.

    `missed`: what would be.
    """

    shard: Shard
    checkpoint: Checkpoint | None
    behind_ms: int | None
    missed: Missed | None


async def run(settings: Settings, stream: Stream, options: Options, summary: Summary, wait: Wait) -> None:
    """Until cancelled; `once`: until it is up to now. While Kafka or Kinesis is away it waits, but not with `once`.

    Raises PenstockError where one refuses, or somebody else has begun to publish for this stream.
    """
    attempt = 0
    while True:
        before = summary.published
        try:
            await uncancelled(partial(_connected, settings, stream, options, summary, wait))
            return
        except MadeAnewError as exc:
            logger.warning("the stream is begun with anew", extra={"reason": str(exc)})
        except AwayError as exc:
            if options.once:
                raise
            logger.warning("waiting for a server that is away", extra={"reason": str(exc)})
        attempt = 1 if summary.published > before else attempt + 1
        options = replace(options, forget=False)  # what was missed since stays listed
        await asyncio.sleep(AWAY.after_refusal_s(attempt))


async def _connected(settings: Settings, stream: Stream, options: Options, summary: Summary, wait: Wait) -> None:
    source = (await stream.describe()).name
    async with log_reader(settings) as reader:
        topic = await source_topic(reader, settings, options.partitions)
        topic = topic or await reader.require_topic(settings.source.topic)
        told = await state_topic(reader, settings.sources_topic, make=True)
        limit = await largest_record(reader, settings)
        options = replace(options, naming=replace(options.naming, limit=limit))
        with State(topic.log) as state:
            async with publisher(settings, reader, state, source, topic.partitions, options.max_lag, wait) as to:
                await told.read_into(state)  # now that nobody else publishes for this stream
                await Bridge(stream, to, state, options, summary, Pace()).run()


async def standing(settings: Settings, stream: Stream) -> tuple[list[Standing], list[Missed], bool]:
    """Of each shard; what is listed as missed; and whether the source topic is another one than was published to.

    Nothing is changed, and a bridge that runs is not disturbed.
    """
    described = await stream.describe()
    async with log_reader(settings) as reader:
        topic = await source_topic(reader, settings, None)
        told = await state_topic(reader, settings.sources_topic, make=False)
        with State(topic.log if topic else "") as state:
            await told.read_into(state)
            known = remembered(state.stream_rows(described.name), state.log)
    if known.begun and known.begun.made_ms != described.made_ms:
        known.checkpoints.clear()
    shards = {shard.id: shard for shard in await stream.shards()}
    known.checkpoints |= revived(shards, known.checkpoints)
    names = sorted(shards.keys() | {name for name, checkpoint in known.checkpoints.items() if not checkpoint.ended})
    slots = asyncio.Semaphore(LOOKS)

    async def look(name: str) -> Standing:
        async with slots:
            shard = shards.get(name, Shard(id=name, open=False))
            return await _look(stream, shard, known, described, listed=name in shards)

    return await asyncio.gather(*map(look, names)), list(known.missed.values()), known.anew


async def _look(stream: Stream, shard: Shard, known: Remembered, described: Described, *, listed: bool) -> Standing:
    at = known.checkpoints.get(shard.id)
    behind_ms, missed = None, None
    for attempt in range(1, TRIES + 1) if at is None or not at.ended else ():
        try:
            page = await _first(stream, shard, at, known.begun.from_ms if known.begun else None)
        except (ThrottledError, ExpiredError, TrimmedError, NoShardError) as exc:
            if isinstance(exc, NoShardError) and not listed:
                missed = gone(shard.id, at, described.now_ms, described.retention_ms)
                break
            await asyncio.sleep(AWAY.after_refusal_s(attempt))
            continue
        behind_ms = page.behind_ms
        if at and (page.records or not page.behind_ms):
            first = (page.records[0].sequence, page.records[0].arrived_ms) if page.records else None
            missed = gap(shard.id, at, first, page.now_ms, described.retention_ms)
        break
    return Standing(shard=shard, checkpoint=at, behind_ms=behind_ms, missed=missed)


async def _first(stream: Stream, shard: Shard, at: Checkpoint | None, from_ms: int | None) -> Page:
    """The record where a shard would be gone on with."""
    sequence = at.sequence if at else None
    try:
        iterator = await stream.iterator(shard.id, Place(sequence=sequence, at_ms=None if sequence else from_ms))
    except TrimmedError:
        if sequence is None:
            raise
        iterator = await stream.iterator(shard.id, Place())
    return await stream.page(iterator, 1)
