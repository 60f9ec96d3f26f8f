"""The dead letters as a list: what was rejected, why, and what became of it since."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agents.bulk import Bulk
from agents.elastic import Requests, connect
from agents.fail_points import FailPoints
from agents.identity import IndexIdentity
from agents.kafka import LogReader, record_of
from agents.metrics import Metrics
from agents.registry import Registry
from agents.settings import Settings
from streams.dead_letter import Letter, Standing, made_whole, newest, read_letter, serves_older, standing
from streams.registry import Entry

ENTRIES_AT_ONCE = 500


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
    """A letter, and what became of its record. `standing`: None when the index could not be asked."""

    letter: Letter
    standing: Standing | None
    serves_older: bool


async def pages(
    reader: LogReader, settings: Settings, last: int | None = None
) -> AsyncIterator[tuple[list[tuple[Letter, Any]], int]]:
    """The dead-letter topic, page by page: letters with their rows, and how many offsets were passed.

    Records that are no dead letters of this source topic are left out, and those that are purged meanwhile. `last`:
    only so many of each partition.
    """
    topic = settings.dead_letter_topic
    bounds = await reader.bounds(topic, range(await reader.partitions(topic) or 0))
    for partition, bound in bounds.items():
        offset = bound.begin if last is None else max(bound.begin, bound.end - last)
        while offset < bound.end:
            page = await reader.page(topic, partition, offset, bound.end)
            yield [(letter, row) for row in page.rows if (letter := _letter(row, settings))], page.position - offset
            offset = page.position


def _letter(row: Any, settings: Settings) -> Letter | None:
    try:
        letter = read_letter(row.key, row.value, row.headers, row.timestamp)
    except ValueError:
        return None
    return letter if letter.record.topic == settings.source.topic else None


async def read_letters(
    reader: LogReader, settings: Settings, report: Callable[[int], None] = lambda _: None, last: int | None = None
) -> list[Letter]:
    """The newest letter of each record, without its value: that may be large. `report`: offsets passed."""
    letters: list[Letter] = []
    async for found, passed in pages(reader, settings, last):
        for letter, _ in found:
            whole = (await whole_letter(letter, reader) if letter.key_left_out else None) or letter  # for its key
            letters.append(replace(whole, record=replace(whole.record, value=None)))
        report(passed)
    return newest(letters)


async def whole_letter(letter: Letter, reader: LogReader) -> Letter | None:
    """With what was too large for the dead letters; None when the source topic does not have it any more."""
    if letter.left_out is None:
        return letter
    record = letter.record
    found = (await reader.next_from(record.topic, record.partition, record.offset)).record
    return made_whole(letter, record_of(found) if found else None)


async def listed(settings: Settings, identity: IndexIdentity | None, letters: Sequence[Letter]) -> list[Listed]:
    """What became of each letter. Raises PenstockError when the registry cannot be read."""
    if identity is None:
        return [Listed(letter=letter, standing=None, serves_older=False) for letter in letters]
    entries = await _entries(settings, identity, [letter.doc_id for letter in letters if letter.doc_id])
    return [
        Listed(
            letter=letter,
            standing=standing(letter, entry := entries.get(letter.doc_id or "")),
            serves_older=serves_older(letter, entry),
        )
        for letter in letters
    ]


async def _entries(settings: Settings, identity: IndexIdentity, doc_ids: Sequence[str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    metrics = Metrics()
    async with connect(settings.elasticsearch) as client:
        requests = Requests(settings.delivery, metrics)
        bulk = Bulk(client, requests, metrics, FailPoints())
        registry = Registry(client, requests, bulk, identity.registry_alias)
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
    """Up to which offset each partition of the topic can be emptied, and how many records that are.

    Records up to the first open letter, or all that are older than `before_ms`, whatever became of them.
    """
    topic = settings.dead_letter_topic
    keep: set[tuple[int, int, int]] = set()
    if before_ms is None:
        rows = await listed(settings, identity, await read_letters(reader, settings))
        keep = {(row.letter.epoch, *row.letter.place) for row in rows if row.standing in ("open", None)}
    bounds = await reader.bounds(topic, range(await reader.partitions(topic) or 0))
    ends = {partition: bound.end for partition, bound in bounds.items()}
    async for found, _ in pages(reader, settings):
        for letter, row in found:
            kept = letter.at_ms >= before_ms if before_ms is not None else (letter.epoch, *letter.place) in keep
            if kept:
                ends[row.partition] = min(ends[row.partition], row.offset)
    ends = {partition: end for partition, end in ends.items() if end > bounds[partition].begin}
    return ends, sum(end - bounds[partition].begin for partition, end in ends.items())
