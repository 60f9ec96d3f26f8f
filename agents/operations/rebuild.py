"""`penstock index rebuild`: everything once more, into a generation of its own, while readers keep the present one.

    1  the topic, from the start to its end             through the stages, claimed page by page
    2  open dead letters whose record the topic lost    written down again, or they would go with the serving index
    3  what the serving index has newer than all that   from the text there, at the records' own versions
    4  the note that it is under way is taken away; how its vectors are spread is noted, as its baseline

The third are documents that are older than the start, or whose record retention or compaction took; deleted ones too,
whose tombstone is gone while an older record is still in the topic, or in a dead letter.

The generation belongs to a group of its own, whose claims are written as a worker would write them: workers of that
group go on where this ended. Killed, it is found again by its note, and goes on. A start that is later than what the
serving index has settled would leave a hole between the two: it is moved back to that.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from agents.clock import utc_now
from agents.configured import contract_of
from agents.elastic.client import connect
from agents.elastic.errors import translated
from agents.elastic.incarnation import IndexIdentity
from agents.elastic.index import Index, half_rebuilt, settings_of
from agents.elastic.notes import BASELINE_NOTE, GROUP_NOTE, OF_SNAPSHOTS, REBUILD_NOTE
from agents.elastic.requests import scan
from agents.indexing.assembly import Assembly, assemble
from agents.indexing.embedders import absent_models, close_models, load_models
from agents.indexing.preflight import Checked, ensure_topics, prove_all
from agents.indexing.stages import Stages
from agents.kafka.claims import claim_writer, read_claims
from agents.kafka.reader import LogReader, log_reader
from agents.operations.filling import Filed, Fill, fill_ranges
from agents.operations.groups import groups
from agents.operations.letters import listed, pages, read_letters, whole_letter
from agents.operations.promote import progress_of
from agents.operations.rewind import require_stopped
from agents.progress import Report
from agents.settings import Settings
from streams.claim import Claim, Fingerprint
from streams.cost import NOTHING_SPENT
from streams.dead_letter import placed
from streams.epochs import epoch_of_version
from streams.errors import PenstockError, RefusedError
from streams.generations import Generation, alike, next_number, serving_one
from streams.ids import chunk_id, entry_id
from streams.protocol import begun
from streams.record import Record, Rejected
from streams.recover import record_from_chunks
from streams.registry import Entry, Stored, from_source

TAKEN = {"terms": {"state": ["done", "writing"]}}
"""Entries that are looked at. Of one that is still `writing`, though its record is gone, readers see an older version:
it is named as damaged."""
BATCH = 256
"""Documents that go through the stages together."""
TRIES = 4
"""So often a document is looked at whose chunks are not what its entry says, over some seconds."""
Write = Callable[[int, Claim | None], Awaitable[None]]


@dataclass(slots=True)
class Rebuilt:
    """What was done. `embedded`, `reused`: chunks, the latter with vectors of the index that serves. `changing`:
    documents that were being replaced meanwhile: the topic has them.

    `damaged`: those that nothing has: their chunks are not what the registry says, and the topic has lost their record.
    """

    index: str = ""
    group: str = ""
    resumed: bool = False
    serving: bool = False
    from_index: int = 0
    from_topic: int = 0
    embedded: int = 0
    reused: int = 0
    changing: int = 0
    letters: int = 0
    damaged: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, counted: Mapping[str, int]) -> None:
        """What others have done, see `Fill`."""
        self.from_topic += counted.get("records", 0)
        self.embedded += counted.get("embedded", 0)
        self.reused += counted.get("reused", 0)


class Pace:
    """So many documents a second on average, from now on; None: as fast as it goes."""

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._began = time.monotonic()
        self._done = 0

    @property
    def batch(self) -> int:
        """How many to take at once, so that a second is not exceeded by much."""
        return max(1, min(BATCH, int(self._per_s))) if self._per_s else BATCH

    async def passed(self, documents: int) -> None:
        """Wait until these are due."""
        self._done += documents
        if self._per_s:
            await asyncio.sleep(max(0.0, self._began + self._done / self._per_s - time.monotonic()))


async def rebuild(
    settings: Settings,
    *,
    offset: int | None,
    at_ms: int | None,
    rate: float | None,
    report: Report,
    embed_all: bool = False,
    fill: Fill | None = None,
    filed: Filed | None = None,
) -> Rebuilt:
    """Begin, or go on with the one that has not ended. Returns when everything that is in the topic now is in it.

    `offset`, `at_ms`: the start, by offset or by time; without either the topic's first record. `rate`: documents a
    second. `embed_all`: take no vector from the index that serves, though its model and text are the same. `fill`: who
    takes what the topic has, where it is not this process. `filed`: who has the vectors of that, where no model is
    here. Twice is harmless. Raises RefusedError while workers of the new generation's group run.
    """
    began, result = time.monotonic(), Rebuilt()
    models = absent_models(settings) if filed else load_models(settings)
    with ExitStack() as stack, translated(settings.elasticsearch.url, "; run it again to go on"):
        stack.callback(close_models, models)
        await prove_all(models)
        async with log_reader(settings) as reader, connect(settings.elasticsearch) as client:
            index = Index(client, settings)
            topic = await reader.require_topic(settings.source.topic)
            found = await index.generations()
            serving = serving_one(found)
            contract = contract_of(settings, [model.manifest for model in models], topic)
            new = next((one for one in reversed(found) if one.rebuild and not one.serving), None)
            result.resumed = new is not None
            if new is None:
                if serving is None:
                    raise index.none(found)
                if serving.rebuild:
                    raise half_rebuilt(serving, found)
                await index.require_verified(await index.identity(serving), serving.group)
                starts = await _starts(index, reader, settings, serving, offset=offset, at_ms=at_ms)
                new = await _begin(index, found, contract, serving, starts)
            elif offset is not None or at_ms is not None:
                raise RefusedError(
                    f"the rebuild of {new.index} has not ended: go on with it without --from, or begin anew after "
                    f"`penstock index drop {new.index}`"
                )
            await index.open(new.index)
            own = settings_of(settings, new)
            noted = {int(number): start for number, start in (new.rebuild or {}).get("from", {}).items()}
            bounds = await reader.bounds(settings.source.topic, noted)  # retention may have gone on since
            starts = {number: max(start, bounds[number].begin) for number, start in noted.items()}
            base = _base(new, found, starts, compacted=await reader.is_compacted(settings.source.topic))
            if base:
                _require_same_epochs(new, base)
                await index.require_verified(await index.identity(base), base.group)
            await require_stopped(reader, own)
            await ensure_topics(reader, own, topic)
            checked = Checked(models=models, topic=topic, identity=await Index(client, own).identify(contract))
            result.index, result.group = new.index, own.source.group
            former = None if embed_all else base
            async with assemble(own, checked, former=former) as assembly:
                run = _Rebuild(own, checked, assembly, reader, Pace(rate), result)
                ends = await (run.filled(starts, fill, former, filed) if fill else run.from_topic(starts, report))
                if base:
                    identity = await index.identity(base)
                    await run.letters_of(base, identity)  # first: one that is taken up again meanwhile is in both
                    await run.from_index(base, identity.chunk_index_uuid, ends, report)
                    await _require_unchanged(index, new, base, identity)
            found_spread = {way.space.model: way.moments.all for way in assembly.parts.ways}
            baseline = {
                model: {**profile.to_note(), "taken_at": utc_now()}
                for model, profile in found_spread.items()
                if profile
            }
            await index.note(new.index, **{REBUILD_NOTE: None, BASELINE_NOTE: baseline or None})
    result.seconds = round(time.monotonic() - began, 1)
    return result


async def _begin(
    index: Index,
    found: Sequence[Generation],
    contract: dict[str, Any],
    serving: Generation,
    starts: Mapping[int, int],
) -> Generation:
    """A new generation; or the one that `index create` made for this contract, when no group feeds it yet."""
    made = next((one for one in found if not one.group and not one.serving and alike(one.contract, contract)), None)
    if made and not await index.has_registry(made.index):
        raise RefusedError(
            f"{made.index} has no registry: it was copied from another index, or has lost it, and nothing can be built "
            f"into it. A copy that you want to keep needs a name that does not look like one of Penstock's. `penstock "
            f"index drop {made.index}`, then `penstock index rebuild`"
        )
    number = made.number if made else next_number(found)
    theirs = await index.notes(serving.index)
    notes = {
        **{name: theirs.get(name) for name in OF_SNAPSHOTS},
        GROUP_NOTE: f"{index.group}-{number}",
        REBUILD_NOTE: {"base": serving.index, "from": {str(place): start for place, start in starts.items()}},
    }
    if made is None:
        return await index.make(contract, found, notes=notes)
    await index.note(made.index, **notes)
    return await index.generation(made.index)


async def _require_unchanged(index: Index, new: Generation, base: Generation, before: IndexIdentity) -> None:
    """What its registry has forgotten while it was taken from would be missing in the new one, and nobody know it."""
    now = next((one for one in await index.generations() if one.index == base.index), None)
    if now is None:
        return  # dropped since
    _require_same_epochs(new, now)
    identity = await index.identity(now)
    await index.require_verified(identity, now.group)
    if identity.shards != before.shards:
        raise RefusedError(
            f"{base.index} or its registry was restored or made anew while documents were taken from it: `penstock "
            "index rebuild` takes them again"
        )


def _require_same_epochs(new: Generation, base: Generation) -> None:
    """Versions of the one mean nothing in the other, else: the same record is old here and new there."""
    if new.contract["cuts"] != base.contract["cuts"]:
        raise RefusedError(
            f"{base.index}, which serves, and {new.index} do not have the same epochs: one began meanwhile. `penstock "
            f"index drop {new.index}`, then `penstock index rebuild` begins anew"
        )


def _base(
    new: Generation, found: Sequence[Generation], starts: Mapping[int, int], *, compacted: bool
) -> Generation | None:
    """Where documents are taken from that are older than the start; None when it is gone and the topic has them all.

    Raises RefusedError when that generation was dropped since: nobody could tell which are missing.
    """
    name = (new.rebuild or {}).get("base")
    base = next((one for one in found if one.index == name), None)
    if base is None and (any(starts.values()) or new.contract["cuts"] or compacted):
        raise RefusedError(
            f"the rebuild of {new.index} takes what the topic does not have, or has lost, from {name}, which is gone: "
            f"`penstock index drop {new.index}`, then `penstock index rebuild` begins anew from the index that serves"
        )
    return base


async def _starts(
    index: Index, reader: LogReader, settings: Settings, serving: Generation, *, offset: int | None, at_ms: int | None
) -> dict[int, int]:
    """Where the topic takes over, by partition: not below what it still holds, nor above what `serving` has settled."""
    settled = (await progress_of(index, reader, settings, serving)).settled
    topic, numbers = settings.source.topic, range(await reader.require_partitions(settings.source.topic))
    bounds = await reader.bounds(topic, numbers)
    times = await reader.offsets_at(topic, numbers, at_ms) if at_ms is not None else {}
    starts = {}
    for number, bound in bounds.items():
        wanted = bound.begin if offset is None else offset
        if at_ms is not None:
            wanted = times.get(number, bound.end)
        starts[number] = max(bound.begin, min(wanted, settled.get(number, 0)))
    return starts


def _is_due(entry: Entry, there: Stored | None) -> bool:
    """Whether a document of the serving index is to be taken. `there`: its entry in the new one."""
    if there is None:
        return True
    return there.entry.version < entry.version or (there.entry.version == entry.version and there.entry.state != "done")


class _Rebuild:
    """The two sources of one generation."""

    def __init__(
        self,
        settings: Settings,
        checked: Checked,
        assembly: Assembly,
        reader: LogReader,
        pace: Pace,
        result: Rebuilt,
    ) -> None:
        self._settings = settings
        self._checked = checked
        self._assembly = assembly
        self._reader = reader
        self._pace = pace
        self._result = result
        self._stages = Stages(assembly.parts)

    async def from_index(self, base: Generation, uuid: str, ends: Mapping[int, int], report: Report) -> None:
        """What the topic did not give, of records below these offsets; what is above is left to the workers."""
        seen = 0
        async for hits, total in scan(self._assembly.client, f"{base.index}-registry", TAKEN):
            entries = [from_source(hit["_source"]) for hit in hits]
            old = [one for one in entries if self._is_passed(one, ends) and one.chunk_index_uuid == uuid]
            there = await self._assembly.registry.read(entry.doc_id for entry in old)
            due = [entry for entry in old if _is_due(entry, there.get(entry.doc_id))]
            for part in groups(due, lambda entry: entry.n, most=self._pace.batch):
                await self._recover(base, part, ends)
            seen += len(hits)
            report("from the serving index", seen, total)

    async def letters_of(self, base: Generation, identity: IndexIdentity) -> None:
        """Write down again, for the new group, what is open and no record of the topic will lead to. Twice is harmless.

        A pointer whose record is gone leads to nothing, and is left out. A record that was refused halfway is tried
        once more: an entry has to hold older versions back.
        """
        theirs = settings_of(self._settings, base)
        home = identity.home(theirs.source.group)
        rows = await listed(theirs, self._reader, identity, await read_letters(self._reader, theirs, home))
        here = self._checked.home(self._settings)
        known = {letter.about for letter in await read_letters(self._reader, self._settings, here)}
        open_there = [placed(row.letter, here) for row in rows if row.standing == "open"]
        still = await listed(self._settings, self._reader, self._checked.identity, open_there)
        due = {row.letter.about: row.letter for row in still if row.standing == "open"}
        due = {key: letter for key, letter in due.items() if key not in known}
        async for found, _ in pages(self._reader, theirs, home):
            for letter in found:
                last = due.get(letter.about)
                whole = await whole_letter(letter, self._reader) if last else None
                if last is None or whole is None:
                    continue
                del due[letter.about]
                if last.stage == "index":
                    await self._through([(whole.record, last.epoch)])
                else:
                    rejected = Rejected(record=whole.record, stage=last.stage, error=last.error, message=last.message)
                    await self._assembly.parts.dead_letters.send(rejected, attempt=last.attempt, epoch=last.epoch)
                self._result.letters += 1

    def _is_passed(self, entry: Entry, ends: Mapping[int, int]) -> bool:
        return entry.version < self._assembly.parts.epochs.version(entry.partition, ends.get(entry.partition, 0))

    async def _recover(self, base: Generation, entries: Sequence[Entry], ends: Mapping[int, int]) -> None:
        """What is not as its entry says is read again: it is being replaced, or redriven, or it is damaged."""
        waiting = entries
        for attempt in range(TRIES):
            left = await self._take(base, waiting) if waiting else []
            if not left:
                break
            await asyncio.sleep(attempt)
            registry = f"{base.index}-registry"
            ids = [entry_id(doc) for doc in left]
            answers = await self._assembly.store.get(registry, ids)
            now = [from_source(answer["_source"]) for answer in answers if answer["found"]]
            waiting = [entry for entry in now if self._is_passed(entry, ends) and entry.state != "rejected"]
            self._result.changing += len(left) - len(waiting)
        else:
            self._result.damaged += [entry.doc_id for entry in waiting]
        await self._pace.passed(len(entries))

    async def _take(self, base: Generation, entries: Sequence[Entry]) -> list[str]:
        """Returns the documents whose chunks are not what the entries say."""
        text, typed = base.contract["fields"]["text"], base.contract["fields"].get("metadata", {})
        ids = [chunk_id(entry.doc_id, number) for entry in entries for number in range(entry.n)]
        fields = f"{text},metadata,penstock"
        answers = await self._assembly.store.get(base.index, ids, fields)
        rows = iter(answer.get("_source") for answer in answers)
        records, left = [], []
        for entry in entries:
            chunks = [next(rows) for _ in range(entry.n)]
            record = record_from_chunks(entry, self._settings.source.topic, chunks, text_field=text, typed=typed)
            if record is None:
                left.append(entry.doc_id)
                continue
            records.append((record, epoch_of_version(entry.version)))
        await self._through(records)
        self._result.from_index += len(records)
        return left

    async def filled(
        self, starts: Mapping[int, int], fill: Fill, former: Generation | None, filed: Filed | None
    ) -> dict[int, int]:
        """Every record up to the end that the topic has now, by others; claims when all of it is done.

        Returns the ends.
        """
        identity, history = self._checked.identity, self._checked.history
        taken_from = former.index if former else None
        ends, counted = await fill_ranges(
            self._reader, self._settings, identity, history, starts, fill, former=taken_from, filed=filed
        )
        self._result.count(counted)
        return ends

    async def from_topic(self, starts: Mapping[int, int], report: Report) -> dict[int, int]:
        """Every record up to the end that the topic has now, partition by partition; a claim after each batch.

        Returns the ends.
        """
        async with claim_writer(self._settings) as write:
            return await self._from_topic(starts, write, report)

    async def _from_topic(self, starts: Mapping[int, int], write: Write, report: Report) -> dict[int, int]:
        topic, sink, history = self._settings.source.topic, self._checked.identity.sink, self._checked.history
        bounds = await self._reader.bounds(topic, starts)
        claims = await read_claims(self._reader, self._settings)

        def claimed(number: int, offset: int, record: Fingerprint | None = None) -> Claim:
            spend = claims[number].spend if number in claims else NOTHING_SPENT
            return Claim(offset=offset, sink=sink, record=record, history=history, spend=spend)

        offsets = {}
        for number, start in starts.items():
            claim = claims.get(number)
            offsets[number] = max(start, claim.offset + 1) if claim and claim.sink == sink else start
            if offsets[number] > bounds[number].begin:
                await write(number, claimed(number, offsets[number] - 1))
        total = sum(max(0, bounds[number].end - offset) for number, offset in offsets.items())
        passed = 0
        for number, offset in offsets.items():
            end = bounds[number].end
            while offset < end:
                page = await self._reader.page(topic, number, offset, end)
                if page.start > offset:
                    raise PenstockError(
                        f"{topic}/{number} begins at {page.start} now, retention took what was from {offset} on: run "
                        "it again, and these documents are taken from the serving index"
                    )
                records, position = page.records, page.position
                for start in range(0, len(records), self._pace.batch):
                    part = records[start : start + self._pace.batch]
                    await self._process(part)
                    proof = Fingerprint.of(part[-1])
                    await write(number, claimed(number, part[-1].offset, proof))
                    report("from the topic", passed + part[-1].offset + 1 - offset, total)
                if not records or records[-1].offset + 1 < position:  # a hole at the end of the page
                    await write(number, claimed(number, position - 1))
                passed, offset = passed + position - offset, position
                report("from the topic", passed, total)
        return {number: max(bounds[number].end, offset) for number, offset in offsets.items()}

    async def _process(self, records: Sequence[Record]) -> None:
        await self._through([(record, None) for record in records])
        self._result.from_topic += len(records)
        await self._pace.passed(len(records))

    async def _through(self, records: Sequence[tuple[Record, int | None]]) -> None:
        """All stages, one after the other, as in a worker. With each record its epoch; None: that of the topic."""
        await self._stages.ready([record for record, _ in records])
        works = [self._stages.work_of(record, epoch=epoch) for record, epoch in records]
        await self._stages.prepare(works)
        await self._stages.through(works)
        for work in begun(works):
            self._result.reused += len(work.known)
            self._result.embedded += len(work.chunks) - len(work.known)
