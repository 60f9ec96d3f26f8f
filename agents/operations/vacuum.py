"""Deletes what only guards against the past: stubs, and the entries of deleted documents, older than a horizon.

While they are there, nothing old can come back, however late it arrives. Elasticsearch forgets what was deleted, so a
worker that slept for longer than the horizon could revive a chunk: that is what the horizon is for.
"""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from agents.elastic.client import connect
from agents.elastic.errors import translated
from agents.elastic.index import Index
from agents.elastic.notes import VACUUM_NOTE
from agents.elastic.requests import scan
from agents.elastic.store import Operation
from agents.indexing.assembly import Assembly, assemble
from agents.indexing.preflight import Checked
from agents.kafka.lag import partition_rows
from agents.kafka.reader import log_reader
from agents.operations.filling import fills_in
from agents.operations.letters import read_letters
from agents.progress import Report
from agents.settings import Settings
from streams.epochs import epoch_of_version
from streams.errors import RefusedError
from streams.plan import Conflict, Outcome
from streams.registry import Entry, from_source, may_go


class Vacuum:
    """One run over an index and its registry. `before_ms`: the horizon, epoch milliseconds."""

    def __init__(self, settings: Settings, checked: Checked, assembly: Assembly, before_ms: int, dry_run: bool) -> None:
        self._settings = settings
        self._identity = checked.identity
        self._assembly = assembly
        self._before_ms = before_ms
        self._dry_run = dry_run
        self._settled: dict[int, int] = {}
        self.named: set[str | None] = set()
        """Documents that a dead letter is about: without its entry, a replay of the letter would revive it."""
        self.deleted: Counter[str] = Counter()
        self.oldest_epoch = 0
        """Of what the topic still holds: a record of an earlier epoch than a deletion's would revive the document."""

    async def run(self, settled: dict[int, int], report: Report) -> None:
        """Stubs first: an entry goes when nothing of its document is left."""
        self._settled = settled
        stubs = {
            "bool": {
                "filter": [
                    {"term": {"penstock.stub": True}},
                    {"range": {"penstock.indexed_at": {"lt": self._before_ms, "format": "epoch_millis"}}},
                ]
            }
        }
        async for hits in self._pages("stubs", self._identity.index, stubs, report):
            await self._stubs(hits)
        gone = {
            "bool": {
                "filter": [
                    {"term": {"state": "done"}},
                    {"term": {"n": 0}},
                    {"range": {"updated_at": {"lt": self._before_ms, "format": "epoch_millis"}}},
                ]
            }
        }
        async for hits in self._pages("entries", self._identity.registry, gone, report):
            await self._entries(hits)

    async def _stubs(self, hits: list[Any]) -> None:
        places = [(hit["_source"]["metadata"]["doc_id"], hit["_source"]["metadata"]["chunk"]) for hit in hits]
        stored = await self._assembly.registry.read(doc for doc, _ in places)
        operations = []
        for hit, (doc, number) in zip(hits, places, strict=True):
            entry = stored[doc].entry if doc in stored else None
            if may_go(entry, number) and (entry is None or (self._over(entry) and not self._guards(entry))):
                meta = {"_id": hit["_id"], "version": hit["_version"], "version_type": "external_gte"}
                operations.append(Operation(action="delete", meta=meta))
        await self._send("stubs", self._identity.write_alias, operations)

    async def _entries(self, hits: list[Any]) -> None:
        stored = await self._assembly.registry.read(from_source(hit["_source"]).doc_id for hit in hits)
        operations = []
        for hit in hits:
            found = stored.get(hit["_source"]["doc_id"])
            if not found or found.entry.doc_id in self.named:
                continue
            if self._guards(found.entry):
                self.deleted["kept"] += 1
                continue
            if found.entry == from_source(hit["_source"]) and self._over(found.entry):
                meta = {"_id": hit["_id"], "if_seq_no": found.seq_no, "if_primary_term": found.primary_term}
                operations.append(Operation(action="delete", meta=meta))
        await self._send("entries", self._identity.registry_alias, operations)

    def _guards(self, entry: Entry) -> bool:
        """Whether it is a deletion that a record of an earlier epoch, or a dead letter, would undo.

        Its stubs stay, too: a registry that is lost is made again from them.
        """
        newer = epoch_of_version(entry.version) > self.oldest_epoch
        return not entry.n and (newer or entry.doc_id in self.named)

    def _over(self, entry: Entry) -> bool:
        """Whether nothing is under way for it, nor may be: its record is settled, and so are those before it."""
        settled = self._identity.epochs.version(entry.partition, self._settled.get(entry.partition, 0))
        return entry.state == "done" and entry.version < settled

    async def _send(self, what: str, alias: str, operations: list[Operation]) -> None:
        if not operations:
            return
        outcomes: list[Outcome | None] = [None] * len(operations)
        if not self._dry_run:
            outcomes = [*await self._assembly.store.send(alias, operations, require_alias=True)]
        self.deleted[what] += sum(not isinstance(outcome, Conflict) for outcome in outcomes)

    async def _pages(self, what: str, index: str, query: dict[str, Any], report: Report) -> AsyncIterator[list[Any]]:
        seen = 0
        report(what, 0, 0)
        with translated(self._settings.elasticsearch.url, "; what is deleted so far stays deleted, run it again"):
            fields = {"excludes": [way.space.names.vector for way in self._assembly.parts.ways]}
            async for hits, total in scan(self._assembly.client, index, query, fields):
                seen += len(hits)
                yield hits
                report(what, seen, total)


async def vacuum(
    settings: Settings, checked: Checked, *, before_ms: int, dry_run: bool, report: Report
) -> Counter[str]:
    """How many stubs and entries were deleted, or would be. Twice is harmless; workers may run."""
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        await index.require_verified(checked.identity, settings.source.group)  # else a loss would look like a deletion
        notes = await index.notes(checked.identity.index)
        if since := min(fills_in(notes).values(), default=None):
            raise RefusedError(
                f"a backfill of {checked.identity.index} began at {since}, and has not ended: an older record would "
                "come back where this deletes. `penstock backfill` goes on with it, then vacuum"
            )
        for one in await index.generations():
            if one.rebuild and one.rebuild.get("base") == checked.identity.index:
                raise RefusedError(
                    f"the rebuild of {one.index} takes from {checked.identity.index}, and has not ended: it would not "
                    "know of these deletions. `penstock index rebuild` goes on with it, then vacuum"
                )
        if not dry_run and checked.identity.epochs.have_room_for_snapshots:  # before anything is forgotten
            horizon = max(before_ms, notes.get(VACUUM_NOTE) or 0)
            await index.note(checked.identity.index, **{VACUUM_NOTE: horizon})
    async with log_reader(settings) as reader:
        rows = await partition_rows(reader, settings, checked.partitions, checked.identity.sink)
        bounds = await reader.bounds(settings.source.topic, range(checked.partitions))
        written = await reader.written(settings.source.topic, bounds)  # what is held back comes, too
        there = {number: one.begin for number, one in bounds.items() if one.begin < written[number]}
        held = [checked.identity.epochs.of(number, begin) for number, begin in there.items()]
        oldest = min(held, default=len(checked.identity.epochs.cuts))
        letters = await read_letters(reader, settings, checked.home(settings))
    async with assemble(settings, checked) as assembly:
        run = Vacuum(settings, checked, assembly, before_ms, dry_run)
        run.oldest_epoch = oldest
        run.named = {letter.doc_id for letter in letters if letter.origin != "foreign"}
        await run.run({row["partition"]: row["settled_offset"] for row in rows}, report)
    return run.deleted
