"""Dead letters through the same stages once more, at their records' own epoch and offset.

Nothing is produced to the source topic, so an old record never becomes the newest one: where a newer record of the
document is in the index, the letter is superseded. No claim is touched. Workers may run meanwhile.
"""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from urllib.parse import unquote_to_bytes, urlsplit

from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.assembly import Assembly, assemble
from agents.indexing.preflight import Checked
from agents.indexing.stages import Stages
from agents.indexing.unwritten import Unwritten
from agents.kafka.reader import LogReader, log_reader
from agents.operations.letters import Filter, Key, listed, pages, read_letters, whole_letter
from agents.settings import Settings
from streams.dead_letter import Letter

BATCH = 64


@dataclass(slots=True)
class Replayed:
    """What came of it: letters by outcome, and one line for each that is still open."""

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


async def replay(
    settings: Settings,
    checked: Checked,
    wanted: Filter,
    *,
    max_attempts: int,
    dry_run: bool,
    report: Callable[[int, int], None],
) -> Replayed:
    """Redrive every open letter that the filter takes. `report`: letters done, of how many.

    A letter that is refused again is written anew, with its attempt counted. Twice is harmless. One about an object of
    a source has no record to redrive: it is named, with what takes it up. Raises RefusedError where the registry may
    have forgotten what is newer than a letter.
    """
    result = Replayed()
    async with AsyncExitStack() as stack:
        async with connect(settings.elasticsearch) as client:
            await Index(client, settings).require_verified(checked.identity, settings.source.group)
        reader = await stack.enter_async_context(log_reader(settings))
        home = checked.home(settings)
        letters = await read_letters(reader, settings, home, objects=True)
        rows = await listed(settings, reader, checked.identity, letters)
        chosen: dict[Key, Letter] = {}
        for row in rows:
            if row.standing != "open" or not wanted.takes(row.letter):
                continue
            if row.letter.source is not None:
                result.outcomes["to_ingest"] += 1
                result.problems.append(_to_ingest(row.letter, row.letter.source))
            elif row.letter.attempt >= max_attempts:
                result.outcomes["given_up"] += 1
                result.problems.append(
                    f"{_name(row.letter)}: {row.letter.attempt} attempts, the last: {_why(row.letter)}"
                )
            else:
                chosen[row.letter.about] = row.letter
        total = len(chosen)
        report(0, total)
        redrive = _Redrive(await stack.enter_async_context(assemble(settings, checked)), dry_run=dry_run)
        async for found, _ in pages(reader, settings, home):
            due = []
            for letter in found:  # the first letter of a record has the same bytes as its later ones
                if letter.origin != "foreign" and (newest := chosen.pop(letter.about, None)):
                    due.append(replace(newest, record=letter.record, left_out=letter.left_out))
            for batch in _batches(due):
                await redrive.run(batch, reader, result)
            report(total - len(chosen), total)
        for letter in chosen.values():
            result.outcomes["letter_gone"] += 1
            result.problems.append(f"{_name(letter)}: its letter was deleted meanwhile")
    return result


class _Redrive:
    """The stages, fed with letters."""

    def __init__(self, assembly: Assembly, *, dry_run: bool) -> None:
        self._assembly = assembly
        self._dry_run = dry_run
        registry = Unwritten(assembly.registry) if dry_run else assembly.registry
        self._stages = Stages(replace(assembly.parts, registry=registry))

    async def run(self, letters: Sequence[Letter], reader: LogReader, result: Replayed) -> None:
        """Some letters, all the way."""
        letters = [letter for letter in [await self._whole(letter, reader, result) for letter in letters] if letter]
        letters.sort(key=lambda letter: letter.version)  # of one document the newest comes last
        await self._stages.ready([letter.record for letter in letters])
        works = [self._stages.work_of(letter.record, letter.attempt + 1, epoch=letter.epoch) for letter in letters]
        await self._stages.prepare(works)
        await self._stages.begin(works)
        if not self._dry_run:
            await self._stages.embed(works)
            await self._stages.write(works)
        for work, letter in zip(works, letters, strict=True):
            result.outcomes["dead_lettered" if work.rejected else work.outcome] += 1
            if work.outcome == "busy":
                result.problems.append(f"{_name(letter)}: a worker is at it; try again")
            elif work.rejected:
                result.problems.append(f"{_name(letter)}: {work.rejected.error}: {work.rejected.message}")

    async def _whole(self, letter: Letter, reader: LogReader, result: Replayed) -> Letter | None:
        """With its value, and its key, from the source topic where the dead letter only points there."""
        if whole := await whole_letter(letter, reader):
            return whole
        result.outcomes["value_gone"] += 1
        gone = f"no longer in {letter.record.topic}"
        if letter.row is not None:
            gone = "in no topic: `penstock backfill --from` takes its file up again"
        result.problems.append(f"{_name(letter)}: too large for the dead letters, and {gone}")
        return None


def _batches(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    """Of one epoch each, so that a place is one record; those whose value is large, and elsewhere, alone."""
    for _, group in groupby(letters, lambda letter: (letter.epoch, letter.left_out)):
        rows = list(group)
        for start in range(0, len(rows), BATCH):
            yield rows[start : start + BATCH]


def _name(letter: Letter) -> str:
    if letter.row is not None:
        return letter.row
    return f"{letter.record.topic}/{letter.record.partition}@{letter.record.offset}"


def _to_ingest(letter: Letter, source: str) -> str:
    return f"{letter.doc_id}: {_why(letter)}: mend it, then run {ingest_command(source)} again"


def ingest_command(source: str) -> str:
    """What ingests a source, by its URI; it may need the options that it had."""
    scheme = source.partition(":")[0]
    kind = {"file": "files", "s3": "s3", "gs": "gcs", "az": "azure", "http": "web", "https": "web"}.get(scheme)
    if kind is None:
        return "`penstock ingest`"
    name = os.fsdecode(unquote_to_bytes(urlsplit(source).path)) if kind == "files" else source
    return f"`penstock ingest {kind} {shlex.quote(name)}`"


def _why(letter: Letter) -> str:
    return f"{letter.error}: {letter.message}"
