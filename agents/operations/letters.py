"""The dead letters as a list: what was rejected, why, and what became of it since."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from agents.elastic.bulk import ElasticStore
from agents.elastic.client import connect
from agents.elastic.entries import Registry
from agents.elastic.incarnation import IndexIdentity
from agents.elastic.index import Index, settings_of
from agents.elastic.requests import Requests
from agents.fail_points import FailPoints
from agents.kafka.reader import LogReader
from agents.metrics import Metrics
from agents.schemas.form import form_of
from agents.settings import Settings
from agents.sources import failures
from streams.dead_letter import (
    Home,
    Letter,
    Standing,
    belongs,
    made_whole,
    newest,
    object_standing,
    placed,
    read_letter,
    serves_older,
    standing,
)
from streams.errors import PenstockError
from streams.form import OWN_FORM, Form
from streams.record import Record
from streams.registry import Entry

ENTRIES_AT_ONCE = 500
Key = tuple[object, ...]
"""What a letter is about, `Letter.about`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which letters. Times are epoch milliseconds; None: any."""

    stage: str | None = None
    error: str | None = None
    key: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        return (
            self.stage in (None, letter.stage)
            and self.error in (None, letter.error)
            and self.key in (None, letter.doc_id)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A letter, and what became of its record, or object. `standing`: None when the index could not be asked."""

    letter: Letter
    standing: Standing | None
    serves_older: bool


async def rows_of(
    reader: LogReader, settings: Settings, last: int | None = None
) -> AsyncIterator[tuple[list[tuple[Letter | None, Record]], int]]:
    """The dead-letter topic, page by page: every row with its letter, and how many offsets were passed.

    None: no dead letter of this source topic. What is purged meanwhile is left out. `last`: only so many of each
    partition.
    """
    topic, form = settings.dead_letter_topic, form_of(settings)
    async for page, passed in reader.pages(topic, await reader.partitions(topic) or 0, last):
        await form.ready(page.records)
        yield [(_letter(record, settings, form), record) for record in page.records], passed


async def pages(
    reader: LogReader, settings: Settings, home: Home | None, last: int | None = None, *, objects: bool = False
) -> AsyncIterator[tuple[list[Letter], int]]:
    """The letters of this group, or about this index, page by page, and how many offsets were passed.

    `home`: the index that they are looked at from; None when it is not known. `objects`: those about objects of
    sources, too, which have no record.
    """
    nowhere = Home(group=settings.source.group, index="", log="")
    async for rows, passed in rows_of(reader, settings, last):
        found = [letter for letter, _ in rows if letter and (objects or letter.source is None)]
        found = [letter for letter in found if belongs(letter, home or nowhere)]
        yield [placed(letter, home) for letter in found] if home else found, passed


def _letter(record: Record, settings: Settings, form: Form) -> Letter | None:
    try:
        letter = read_letter(record.key, record.value, record.headers, record.timestamp_ms, form)
    except ValueError:
        return None
    return letter if letter.record.topic == settings.source.topic else None


async def read_letters(
    reader: LogReader,
    settings: Settings,
    home: Home | None,
    report: Callable[[int], None] = lambda _: None,
    last: int | None = None,
    *,
    objects: bool = False,
) -> list[Letter]:
    """The newest letter of each record, without its value: that may be large. `report`: offsets passed.

    `objects`: as `pages`.
    """
    letters: list[Letter] = []
    form = form_of(settings)
    async for found, passed in pages(reader, settings, home, last, objects=objects):
        for letter in found:
            unknown = letter.left_out is not None and letter.doc_id is None
            whole = (await whole_letter(letter, reader, form) if unknown else None) or letter
            letters.append(replace(whole, record=replace(whole.record, value=None)))
        report(passed)
    return newest(letters)


async def whole_letter(letter: Letter, reader: LogReader, form: Form = OWN_FORM) -> Letter | None:
    """With what was too large for the dead letters; None when the source topic does not have it any more."""
    if letter.left_out is None:
        return letter
    record = letter.record
    there = await reader.record_at(record.topic, record.partition, record.offset)
    await form.ready([there] if there else [])
    return made_whole(letter, there, form)


async def listed(
    settings: Settings, reader: LogReader, identity: IndexIdentity | None, letters: Sequence[Letter]
) -> list[Listed]:
    """What became of each letter. Raises PenstockError when the registry cannot be read.

    Of an object the sources' own topic tells that, all of which is read if there is such a letter.
    """
    entries: dict[str, Entry] = {}
    if identity:
        about = [one.doc_id for one in letters if one.doc_id and one.source is None and one.origin != "foreign"]
        entries = await _entries(settings, identity, about)
    failing = None
    if any(letter.source is not None for letter in letters):
        failing = await failures.standing(reader, settings.sources_topic)

    def became(letter: Letter) -> Listed:
        if letter.source is not None:
            stands = None if failing is None else object_standing(letter, failing)
            return Listed(letter=letter, standing=stands, serves_older=False)
        if identity is None:
            return Listed(letter=letter, standing=None, serves_older=False)
        entry = entries.get(letter.doc_id or "")
        return Listed(letter=letter, standing=standing(letter, entry), serves_older=serves_older(letter, entry))

    return [became(letter) for letter in letters]


async def _entries(settings: Settings, identity: IndexIdentity, doc_ids: Sequence[str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    metrics = Metrics()
    async with connect(settings.elasticsearch) as client:
        store = ElasticStore(client, Requests(settings.delivery, metrics), metrics, FailPoints())
        registry = Registry(store, identity.registry)
        for start in range(0, len(doc_ids), ENTRIES_AT_ONCE):
            for doc_id, stored in (await registry.read(doc_ids[start : start + ENTRIES_AT_ONCE])).items():
                if stored.entry.chunk_index_uuid == identity.chunk_index_uuid:
                    found[doc_id] = stored.entry
    return found


def reasons(rows: Sequence[Listed]) -> list[dict[str, Any]]:
    """How many letters there are of each stage and error, and how many of them are open; most first."""
    every = Counter((row.letter.stage, row.letter.error) for row in rows)
    still = Counter((row.letter.stage, row.letter.error) for row in rows if row.standing in ("open", None))
    return [
        {"stage": stage, "error": error, "letters": count, "open": still[stage, error]}
        for (stage, error), count in every.most_common()
    ]


async def purgeable(
    settings: Settings, reader: LogReader, identity: IndexIdentity | None, before_ms: int | None
) -> tuple[dict[int, int], int]:
    """Up to which offset each partition of the topic can be emptied, and how many letters that are.

    Those up to the first that has to stay: an open letter of this group, or about an object (with `before_ms`: one that
    is younger, whatever became of it), or of another group that feeds an index of this topic; or what is none of this
    topic.
    Letters that come meanwhile stay: the end is asked for before anything is looked at.
    """
    topic = settings.dead_letter_topic
    bounds = await reader.bounds(topic, range(await reader.partitions(topic) or 0))
    home = identity.home(settings.source.group) if identity else None
    open_here = set[Key]()
    if before_ms is None:
        letters = await read_letters(reader, settings, home, objects=True)
        rows = await listed(settings, reader, identity, letters)
        open_here = {row.letter.about for row in rows if row.standing in ("open", None)}
    others = await _open_elsewhere(settings, reader)
    ends = {partition: bound.end for partition, bound in bounds.items()}
    count = 0
    async for found, _ in rows_of(reader, settings):
        for letter, record in found:
            if letter is None:
                stays = True
            else:
                mine = belongs(letter, home) if home else letter.group == settings.source.group
                old = before_ms is not None and letter.at_ms < before_ms
                stays = mine and not old and (before_ms is not None or _is_among(letter, home, open_here))
                stays |= any(belongs(letter, one) and _is_among(letter, one, keep) for one, keep in others)
            if record.offset >= ends[record.partition]:
                continue
            if stays:
                ends[record.partition] = record.offset
            else:
                count += 1
    return {partition: end for partition, end in ends.items() if end > bounds[partition].begin}, count


def _is_among(letter: Letter, home: Home | None, keys: Set[Key]) -> bool:
    return (placed(letter, home) if home else letter).about in keys


async def _open_elsewhere(settings: Settings, reader: LogReader) -> list[tuple[Home, set[Key]]]:
    """Of each other group that feeds an index from this topic: its open letters.

    All of them, where that index cannot be asked, or nobody has verified it since it was set back.

    Groups that feed no index any more hold nothing up.
    """
    found: list[tuple[Home, set[Key]]] = []
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        for generation in await index.fed_from(settings.source.topic):
            if generation.group in (None, settings.source.group):
                continue
            own, identity, believed = settings_of(settings, generation), None, None
            with suppress(PenstockError):
                identity = await index.identity(generation, opened=False)
                await index.require_verified(identity, generation.group)  # else its registry may say too much
                believed = identity
            home = identity.home(own.source.group) if identity else None
            rows = await listed(own, reader, believed, await read_letters(reader, own, home))
            keep = {row.letter.about for row in rows if row.standing in ("open", None)}
            found.append((home or Home(group=own.source.group, index="", log=""), keep))
    return found
