"""The topic against the registry against the chunks: what is not as it should be, while workers run.

1. the topic, up to the settled offsets     each document's newest record, into a spool on disk
2. the registry                             every entry with its chunks, held against that record (`examine`)
3. the topic's documents that no entry names
4. the chunk index, ids only                chunks that no entry knows of
5. a sample of the chunks, of all widths    embedded again; where one is wrong, all others of its width, too
6. vectors of their documents, if any       held against the means of the chunks'; and every document without one

What a pass finds suspicious is read again, realtime and of one moment, before it counts. Only records below the
settled offsets count: what workers write meanwhile is newer, and left alone. Where chunks may be missing without
anybody knowing, what was not settled at the beginning is waited for, and looked at, too.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from agents.clock import Deadline
from agents.elastic.errors import translated
from agents.elastic.index import Index
from agents.elastic.notes import Side, set_back
from agents.elastic.requests import PAGE, scan
from agents.indexing.assembly import Assembly, assemble
from agents.indexing.preflight import Checked
from agents.indexing.stages import Stages
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader, log_reader
from agents.operations.document_vectors import DocumentVectors
from agents.operations.groups import groups
from agents.operations.judge import NOTES, OF_THE_CHUNKS, Judge, Seen
from agents.operations.letters import pages
from agents.operations.repair import Repairer
from agents.operations.spool import Known, Spool
from agents.operations.vectors import ALIVE, OF_OTHERS, WITH_STUBS, StoredVectors
from agents.progress import Report
from agents.settings import Settings
from streams.epochs import offset_of_version
from streams.errors import PenstockError, RefusedError
from streams.examine import TOLD, WHERE, Finding, Place, Row, newest_of, row_of
from streams.generations import serving_one
from streams.ids import chunk_id
from streams.protocol import Work
from streams.record import TOO_LARGE, Record
from streams.registry import Entry, Stored, from_source

logger = logging.getLogger(__name__)

KEPT = 100_000
"""Findings that are named, and as many notes; beyond, they are counted only."""
FIRST = ("content lost", "unknown document", "entry ahead", "version ahead", "deleted meanwhile")
"""Kinds that are shown before the others: they do not end by themselves, nor always by `--repair`."""
TRIES = 5
LOOKED_AT_ONCE = 100
"""Documents that are read again together: there may be as many as retention has taken the records of."""
CATCH_UP_S = 60.0
"""Workers have so long for what was not settled when the topic was read."""


@dataclass(slots=True)
class Verified:
    """The result. `documents` have an entry and chunks; `deleted` ones, and rejected ones, have the entry alone.

    `kinds`: how often each kind was found; `findings`, `notes`: the first 100,000; `unsettled`: the lag.

    `held_back`: offsets behind an open transaction. `not_compared`: documents that are too large for this command.
    `fed_by`: the group whose workers fill it; None: nobody's. `serving`: what readers see, where that is another index,
    with the group that fills it.

    `document_vectors`: documents whose own vector was held against the mean of their chunks'. `widths`: of the embedded
    chunks, by tokens of their class at most: how many, and how many had a wrong vector.
    """

    index: str = ""
    documents: int = 0
    deleted: int = 0
    chunks: int = 0
    vectors: int = 0
    document_vectors: int = 0
    unsettled: int = 0
    held_back: int = 0
    not_compared: int = 0
    fed_by: str | None = None
    serving: tuple[str, str | None] | None = None
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    widths: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        """Count them, and keep the first."""
        for finding in findings:
            self.kinds[finding.kind] += 1
            kept = self.notes if finding.kind in NOTES else self.findings
            if len(kept) < KEPT:
                kept.append(finding)

    def first(self, limit: int) -> list[Finding]:
        """So many of those that are kept: damage before what is worth knowing, and first what only people mend."""
        rank = {kind: number for number, kind in enumerate(FIRST)}
        found = sorted(self.findings, key=lambda finding: rank.get(finding.kind, len(FIRST)))
        return [*found, *sorted(self.notes, key=lambda finding: finding.kind == "no record")][:limit]

    @property
    def damaged(self) -> int:
        """How many findings are damage."""
        return sum(count for kind, count in self.kinds.items() if kind not in NOTES)


def _is_too_large(work: Work) -> bool:
    return work.rejected is not None and work.rejected.error == TOO_LARGE


class Verifier:
    """One verification."""

    def __init__(
        self,
        settings: Settings,
        checked: Checked,
        assembly: Assembly,
        reader: LogReader,
        spool: Spool,
        *,
        set_back: frozenset[Side],
        rebuilding: bool,
    ) -> None:
        self._settings = settings
        self._checked = checked
        self._assembly = assembly
        self._reader = reader
        self._stages = Stages(assembly.parts)
        self._spool = spool
        self._judge = Judge(
            checked=checked,
            spool=spool,
            registry_set_back="registry" in set_back,
            chunks_set_back="chunks" in set_back,
            rebuilding=rebuilding,
        )
        self._read_up_to: dict[int, int] = {}
        """Beyond the settled offsets, by keys only."""
        self._wanted: dict[int, int] = {}
        """The log's ends when the topic was read."""
        self._epochs = checked.identity.epochs
        self._lost_letters: list[Place] = []
        numbers = range(len(assembly.parts.ways))
        self._vectors = [StoredVectors(checked, assembly, number) for number in numbers]
        self._means = [DocumentVectors(checked, assembly, number) for number in numbers]

    async def run(self, result: Verified, report: Report, sample: int, *, whole: bool) -> None:
        """All passes. What was found is in `result`, and what to repair in the spool.

        `whole`: not without what was in the topic at the beginning and not settled, if workers settle it within a
        minute.
        """
        began = time.monotonic()
        with translated(self._settings.elasticsearch.url, "; try again"):
            await self._read_letters()
            await self._read_topic(result, report)
            await self._check_registry(result, report)
            for docs in self._spool.unseen():
                for doc in docs:
                    self._spool.suspect(doc)
            await self._check_chunks(result, report)
            for vectors, means in zip(self._vectors, self._means, strict=True):
                await vectors.check(report, -(-sample // len(self._vectors)))
                await means.check(report, vectors.documents)
                result.vectors, result.document_vectors = (
                    result.vectors + vectors.seen,
                    result.document_vectors + means.seen,
                )
                for bound, (count, wrong) in vectors.widths.items():
                    before = result.widths.get(bound, (0, 0))
                    result.widths[bound] = before[0] + count, before[1] + wrong
            for doc in self._wrong_vectors:
                self._spool.suspect(doc)
            if whole and result.unsettled:
                await self._catch_up(result, report)
            await self.confirm(result, report)
        result.seconds = round(time.monotonic() - began, 1)

    @property
    def _wrong_vectors(self) -> set[str]:
        """Documents with any."""
        found = set[str]()
        return found.union(*(one.damaged for one in self._vectors), *(one.damaged for one in self._means))

    async def confirm(self, result: Verified, report: Report) -> None:
        """Read every suspect again, realtime: what is wrong now counts."""
        await self._read_ends()
        suspects, done = self._spool.suspects(), 0
        while part := dict(islice(suspects, LOOKED_AT_ONCE)):
            found, known = await self.look(part), self._spool.known(list(part))
            entries = [self._judge.mine(seen.stored) for seen in found.values()]
            if any(entry and self._judge.is_beyond(entry) for entry in entries):  # the log went on meanwhile
                await self._read_ends()
            for doc, seen in found.items():
                result.add(self._judge.findings(doc, known[doc], seen))
            done += len(part)
            report("looking again", done, self._spool.suspected)
        for vectors, means in zip(self._vectors, self._means, strict=True):
            result.add(await vectors.still_wrong())
            result.add(await means.still_wrong())
        await self._read_letters()
        for place in self._lost_letters:
            if not self._spool.has_letter(self._epochs.of(*place), place):
                result.add([Finding("dead letter missing", f"{place[0]}@{place[1]}", "a rejected record has none")])

    async def repair(self, repairer: Repairer, report: Report, *, accept_data_loss: bool) -> None:
        """Mend every suspect that is damaged. `accept_data_loss`: also by what is older, or by nothing."""
        wrong_vectors, letters = self._wrong_vectors, set[tuple[int, Place]]()
        await self._read_ends()
        suspects, done = self._spool.suspects(), 0
        while part := dict(islice(suspects, LOOKED_AT_ONCE)):
            found, known = await self.look(part), self._spool.known(list(part))
            again, vectors, means = list[Place](), set[str](), set[str]()
            for doc, seen in found.items():
                entry = self._judge.mine(seen.stored)
                asked = self._judge.asked_for(doc, known[doc], seen)
                findings = self._judge.findings(doc, known[doc], seen)
                kinds = {finding.kind for finding in findings} - NOTES
                left = None
                if asked and (kinds - {"orphan chunk"} or doc in wrong_vectors):
                    again.append(asked.place)
                elif asked is None:
                    wrong = {finding.where for finding in findings if finding.kind == "wrong model"}
                    wrong |= {key for one in self._vectors for key in one.wrong_of(doc)}
                    vectors |= wrong
                    means |= {doc} if wrong or any(doc in one.damaged for one in self._means) else set()
                    if "deleted meanwhile" in kinds:
                        left = self._judge.deleted(doc, known[doc], seen)
                    elif kinds & OF_THE_CHUNKS:
                        left = self._judge.left(doc, entry, seen)
                if left and left.lost and (letter := self._judge.letter_of(left.entry)):
                    letters.add(letter)
                elif left and (accept_data_loss or not left.lost):
                    await repairer.keep(left, seen.stored, seen.rows)
                elif left and seen.stored and (entry or seen.stored.entry.n):
                    await repairer.forget(seen.stored, seen.rows, self._checked.identity.chunk_index_uuid)
                if not left and ("orphan chunk" in kinds or (accept_data_loss and "unknown document" in kinds)):
                    await self._stub(repairer, doc, asked, entry, seen)
            await repairer.documents(again)
            for stored in self._vectors:
                await stored.mend(sorted(vectors))
            for of_documents in self._means:
                await of_documents.mend(sorted(means))
            done += len(part)
            report("repairing", done, self._spool.suspected)
        await repairer.letters(letters)
        for place in self._lost_letters:
            await repairer.letter(place)

    async def _stub(self, repairer: Repairer, doc: str, asked: Known | None, entry: Entry | None, seen: Seen) -> None:
        """Of its chunks those that nobody asks for; never what is newer than who does not ask for it."""
        n = asked.newest.n if asked else entry.n if entry and entry.state == "done" else 0
        newest = asked.newest.version if asked else entry.version if entry else None
        rows = {k: row for k, row in seen.rows.items() if k >= n and not row.stub}
        await repairer.stubs(
            doc, {k: row for k, row in rows.items() if newest is None or min(row.version, row.record_version) <= newest}
        )

    async def look(self, suspects: Mapping[str, Sequence[int]]) -> dict[str, Seen]:
        """Documents, each at one moment: its entry did not change while its chunks were read.

        `suspects`: chunk numbers that are looked at besides those that the entry and the records know of.
        """
        known, left, found = self._spool.known(list(suspects)), set(suspects), dict[str, Seen]()
        for attempt in range(TRIES):
            before = await self._assembly.registry.read(sorted(left))
            highest = {
                doc: max(
                    [item.newest.n for item in known[doc]]
                    + [before[doc].entry.hi if doc in before else 0, *(number + 1 for number in suspects[doc])]
                )
                for doc in sorted(left)
            }
            rows = await self._rows([(doc, number) for doc, n in highest.items() for number in range(n)])
            after = await self._assembly.registry.read(sorted(left))
            for doc in highest:
                found[doc] = Seen(stored=before.get(doc), rows=rows.get(doc, {}))
            left = {doc for doc in left if after.get(doc) != before.get(doc)}
            if not left:
                break
            await asyncio.sleep(attempt)
        return {doc: replace(seen, gone=await self._gone(known[doc], seen)) for doc, seen in found.items()}

    async def _gone(self, known: Sequence[Known], seen: Seen) -> frozenset[int]:
        """Which records compaction took: the entry's, and that of its newest chunk."""
        entry = self._judge.mine(seen.stored)
        made = {(row.partition, row.record_version) for row in seen.rows.values() if row.partition is not None}
        newest = [max(made, key=lambda one: one[1])] if made else []
        newest += [(entry.partition, entry.version)] if entry else []
        there = {item.newest.version for item in known}
        gone = set[int]()
        for partition, version in set(newest):
            if version in there or not self._judge.may_be_empty(partition, version):
                continue
            if await self._is_empty(partition, offset_of_version(version)):
                await self._read_on(partition)
                gone.add(version)
        return frozenset(gone)

    def _doc(self, record: Record) -> str:
        """The document of a record, though none may be readable in it."""
        return self._assembly.parts.form.doc_id(record) or (record.key or b"").decode(errors="replace")

    async def _is_empty(self, partition: int, offset: int) -> bool:
        """Whether the log reaches back there, has no record there, and goes on behind it."""
        topic = self._settings.source.topic
        there = await self._reader.records_at(topic, {partition: offset})
        bound = (await self._reader.bounds(topic, [partition]))[partition]
        return partition not in there and bound.begin <= offset < bound.end

    async def _read_on(self, partition: int) -> None:
        """Whose records came since the topic was read: their keys only; they are settled by nobody yet."""
        topic = self._settings.source.topic
        end = (await self._reader.bounds(topic, [partition]))[partition].end
        offset = max(self._judge.bounds[partition], self._read_up_to.get(partition, 0))
        while offset < end:
            page = await self._reader.page(topic, partition, offset, end)
            await self._stages.ready(page.records)
            self._spool.add_coming((self._doc(record) for record in page.records), partition)
            offset = page.position
        self._read_up_to[partition] = offset

    # the passes

    async def _read_ends(self) -> None:
        topic = self._settings.source.topic
        bounds = await self._reader.bounds(topic, range(self._checked.partitions))
        self._judge.ends = {partition: bound.end for partition, bound in bounds.items()}

    async def _read_letters(self) -> None:
        topic = self._settings.dead_letter_topic
        bounds = await self._reader.bounds(topic, range(await self._reader.partitions(topic) or 0))
        self._judge.letters_whole = all(bound.begin == 0 for bound in bounds.values())
        async for found, _ in pages(self._reader, self._settings, self._checked.home(self._settings)):
            self._spool.add_letters(
                (letter.epoch, letter.place, letter.left_out is None)
                for letter in found
                if letter.origin == "own" and letter.row is None  # all rows have one place
            )

    async def _read_topic(self, result: Verified, report: Report) -> None:
        rows = await self._progress()
        self._judge.bounds = {row["partition"]: row["settled_offset"] for row in rows}
        self._wanted = {row["partition"]: row["end_offset"] for row in rows}
        result.unsettled, result.held_back = (sum(row[what] for row in rows) for what in ("lag", "held_back"))
        bounds = await self._reader.bounds(self._settings.source.topic, self._judge.bounds)
        self._judge.begin = {partition: bound.begin for partition, bound in bounds.items()}
        await self._read(self._judge.begin, result, report)

    async def _catch_up(self, result: Verified, report: Report) -> None:
        """The rest of what was in the topic at the beginning; its documents are looked at again."""
        deadline, total = Deadline(CATCH_UP_S), result.unsettled
        while True:
            settled = {row["partition"]: row["settled_offset"] for row in await self._progress()}
            result.unsettled = sum(max(0, end - settled[partition]) for partition, end in self._wanted.items())
            report("waiting for workers", total - result.unsettled, total)
            if not result.unsettled or not deadline.left_s:
                break
            await asyncio.sleep(1)
        await self._read_letters()
        before, self._judge.bounds = self._judge.bounds, settled
        await self._read(before, result, report, again=True)

    async def _progress(self) -> list[dict[str, Any]]:
        checked = self._checked
        return await partition_rows(self._reader, self._settings, checked.partitions, checked.identity.sink)

    async def _read(self, begin: Mapping[int, int], result: Verified, report: Report, *, again: bool = False) -> None:
        """Records from there up to the settled offsets, into the spool. `again`: their documents are suspects."""
        total = sum(max(0, settled - begin[partition]) for partition, settled in self._judge.bounds.items())
        passed = 0
        for partition, settled in self._judge.bounds.items():
            offset = begin[partition]
            while offset < settled:
                page = await self._reader.page(self._settings.source.topic, partition, offset, settled)
                if page.start > offset:
                    told = f"retention took {page.start - offset} records before they were compared"
                    result.add([Finding("lost meanwhile", f"{partition}@{offset}", told)])
                    self._judge.lost.append((partition, range(offset, page.start)))
                for doc in await self._remember(page.records, result):
                    if again:
                        self._spool.suspect(doc)
                passed, offset = passed + page.position - offset, page.position
                report("reading the topic", passed, total)

    async def _remember(self, records: Sequence[Record], result: Verified) -> list[str]:
        """Returns their documents."""
        await self._stages.ready(records)
        works = [self._stages.work_of(record) for record in records]
        await self._stages.prepare(works)
        await self._stages.as_stored(works)
        plain: list[tuple[str, Known]] = []
        lettered: list[tuple[str, Known]] = []
        unlettered: list[Work] = []
        for work in works:
            place = work.record.partition, work.record.offset
            has_letter = self._spool.has_letter(self._epochs.of(*place), place)
            if work.document is None:
                self._spool.add_unread(self._doc(work.record), work.record.partition)
                if not has_letter:
                    unlettered.append(work)
                continue
            newest = newest_of(work.document, work.chunks, work.verdict, self._epochs.of(*place), work.space)
            known = Known(newest=newest, place=place)
            (lettered if has_letter else plain).append((work.document.id, known))
        self._spool.add_records(plain, dead_lettered=False)
        self._spool.add_records(lettered, dead_lettered=True)
        await self._miss_letters(unlettered, result)
        return [work.document.id if work.document else self._doc(work.record) for work in works]

    async def _miss_letters(self, works: Sequence[Work], result: Verified) -> None:
        """Of records that are rejected here and have no dead letter.

        One that is too large for this command, and that a worker took or whose document is newer, may never have had
        one: the limit may have been lowered since.
        """
        entries = await self._assembly.registry.read(self._doc(work.record) for work in works if _is_too_large(work))
        for work in works:
            doc, place = self._doc(work.record), (work.record.partition, work.record.offset)
            entry = self._judge.mine(entries.get(doc)) if _is_too_large(work) else None
            if entry and entry.version >= work.version:
                told = (
                    f"{place[0]}@{place[1]} is too large for batch.max_inflight_bytes = "
                    f"{self._settings.batch.max_inflight_bytes}, and was not compared: verify with the workers' largest"
                )
                self._judge.too_large.add((doc, work.version))
                result.not_compared += entry.version == work.version
                result.add([Finding("too large here", doc, told)])
            elif self._judge.letters_whole:
                self._lost_letters.append(place)

    async def _check_registry(self, result: Verified, report: Report) -> None:
        index = self._checked.identity.registry
        await self._read_ends()
        async for hits, total in scan(self._assembly.client, index, {"match_all": {}}):
            found = [from_source(hit["_source"]) for hit in hits]
            uuid = self._checked.identity.chunk_index_uuid
            entries = {entry.doc_id: entry for entry in found if entry.chunk_index_uuid == uuid}
            self._spool.add_entries((doc, entry.hi) for doc, entry in entries.items())
            await self._check_foreign([entry for entry in found if entry.chunk_index_uuid != uuid])
            known = self._spool.known(list(entries))
            wanted = {doc: max([entry.hi, *(item.newest.n for item in known[doc])]) for doc, entry in entries.items()}
            for group in groups(wanted, wanted.__getitem__):
                rows = await self._rows([(doc, number) for doc in group for number in range(wanted[doc])])
                for doc in group:
                    stored = Stored(entry=entries[doc], seq_no=0, primary_term=0)
                    if self._judge.findings(doc, known[doc], Seen(stored=stored, rows=rows.get(doc, {}))):
                        self._spool.suspect(doc)
            gone = sum(not entry.n for entry in entries.values())
            result.documents += len(entries) - gone
            result.deleted += gone
            report("checking the registry", result.documents + result.deleted, total)

    async def _check_foreign(self, entries: Sequence[Entry]) -> None:
        """Documents of a chunk index before this one: those of which the topic has no record may be lost."""
        if entries and not self._read_up_to:  # workers may be about to write them
            for partition in self._judge.bounds:
                await self._read_on(partition)
        known = self._spool.known([entry.doc_id for entry in entries])
        for entry in entries:
            stored = Stored(entry=entry, seq_no=0, primary_term=0)
            if not known[entry.doc_id] and self._judge.findings(entry.doc_id, [], Seen(stored=stored, rows={})):
                self._spool.suspect(entry.doc_id)

    async def _check_chunks(self, result: Verified, report: Report) -> None:
        index, passed = self._checked.identity.index, 0
        fields = ["metadata.doc_id", "metadata.chunk", "penstock.stub"]
        query = WITH_STUBS if self._judge.registry_set_back else ALIVE  # stubs alone know what was deleted
        async for hits, total in scan(self._assembly.client, index, query, fields):
            rows = [hit["_source"] for hit in hits]
            highest = self._spool.highest(sorted({row["metadata"]["doc_id"] for row in rows}))
            for row in rows:
                doc, number, stub = row["metadata"]["doc_id"], row["metadata"]["chunk"], row["penstock"]["stub"]
                if doc not in highest or (number >= highest[doc] and not stub):
                    self._spool.suspect(doc, [number])
                result.chunks += not stub
            passed += len(rows)
            report("checking the chunks", passed, total)
        others = int((await self._assembly.client.count(index=index, query=OF_OTHERS))["count"])
        if others:
            told = f"rows that Penstock did not write, and leaves alone: {others}. Searches find them"
            result.add([Finding("changed by others", index, told)])

    # reading

    async def _rows(self, wanted: Sequence[tuple[str, int]]) -> dict[str, dict[int, Row]]:
        names = self._assembly.parts.ways[0].space.names
        fields = f"{names.text},{','.join((*WHERE, *TOLD))},metadata.chunks"
        fields += ",penstock.stub,penstock.chunk_hash,penstock.model"
        fields += ",penstock.partition,penstock.epoch,penstock.offset"
        found: dict[str, dict[int, Row]] = {}
        for start in range(0, len(wanted), PAGE):
            part = wanted[start : start + PAGE]
            ids = [chunk_id(doc, number) for doc, number in part]
            rows = await self._assembly.store.get(self._checked.identity.write_alias, ids, fields)
            for (doc, number), row in zip(part, rows, strict=True):
                if row["found"]:
                    source = {"metadata": {}, **row["_source"]}
                    found.setdefault(doc, {})[number] = row_of(source, row["_version"], names.text)
        return found


async def verify(
    settings: Settings, checked: Checked, *, repair: bool, sample: int, report: Report, accept_data_loss: bool = False
) -> tuple[Verified, Verified | None]:
    """What was found, and, with `repair`, what is still there after it. `accept_data_loss`: see `Verifier.repair`.

    Where that is nothing, and nothing was left to settle, it is noted.
    """
    with Spool() as spool:
        async with log_reader(settings) as reader, assemble(settings, checked) as assembly:
            index = Index(assembly.client, settings)
            mine = await index.generation(checked.identity.index)
            result, left = Verified(index=mine.index, fed_by=mine.group), None
            if not mine.serving and (serving := serving_one(await index.generations())):
                result.serving = serving.index, serving.group
            if accept_data_loss and mine.rebuild:
                raise RefusedError(
                    f"the rebuild of {mine.index} has not ended, and what it lacks may still come: `penstock index "
                    "rebuild` goes on with it"
                )
            if repair:
                await index.require_unblocked(mine.index)
            notes = await index.notes(mine.index)
            sides = set_back(notes, checked.identity.shards)
            verifier = Verifier(
                settings, checked, assembly, reader, spool, set_back=sides, rebuilding=bool(mine.rebuild)
            )
            await verifier.run(result, report, sample, whole=bool(sides))
            if repair and result.damaged:
                repairer = Repairer(settings, assembly, reader, checked.home(settings))
                await verifier.repair(repairer, report, accept_data_loss=accept_data_loss)
                left = Verified(
                    index=mine.index,
                    documents=result.documents,
                    deleted=result.deleted,
                    chunks=result.chunks,
                    vectors=result.vectors,
                    document_vectors=result.document_vectors,
                )
                await verifier.confirm(left, report)
            last = left or result
            if not last.damaged and not result.unsettled and not result.not_compared:
                await _vouch(index, checked, notes)
            return result, left


async def _vouch(index: Index, checked: Checked, before: Mapping[str, Any]) -> None:
    try:
        await index.verified(checked.identity, before)
    except PenstockError as exc:  # a login that only reads
        logger.warning("that it is verified could not be noted in the registry", extra={"reason": str(exc)})
