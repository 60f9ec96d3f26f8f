"""`penstock backfill --from`: rows of a snapshot's files into an index, below all that the stream says.

    1  the index, with room for snapshots; where there is none it is made, and workers fill it from the topic as well
    2  others take the rows through the stages of a worker, in any order, twice or at the same time: versions commute
    3  --sync: the index is told that this snapshot is whole; of an older one that comes later nothing stays that this
       one lacks
    4  what only snapshots have that are older than the newest whole one is deleted, as of its time

Nothing is claimed: where workers begin does not change. A snapshot that is older than what vacuum has forgotten is
refused: a document that was deleted since could come back.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agents.clock import moment
from agents.elastic.client import connect
from agents.elastic.errors import translated
from agents.elastic.index import Index
from agents.elastic.notes import SNAPSHOTS_NOTE, SYNC_NOTE, VACUUM_NOTE
from agents.elastic.requests import scan
from agents.indexing.assembly import Assembly, assemble
from agents.indexing.preflight import Checked, check, create_index
from agents.indexing.stages import Stages
from agents.operations.filling import Fill, Task, require_same_sink, unforgotten
from agents.progress import Report
from agents.schemas.form import own_headers
from agents.settings import Settings
from streams.errors import RefusedError
from streams.ids import version
from streams.registry import Entry, from_source, is_of_older_snapshot
from streams.snapshot import EPOCH, SNAPSHOT, Snapshot, record_of, time_of

BATCH = 256
MOST_NOTED = 100
"""Patterns whose last files are remembered."""
SHOWN = 3


@dataclass(slots=True, kw_only=True)
class Loaded:
    """What was done. `settled`: of the rows, those that the index had, or has newer ones of. `deleted`: documents that
    only older snapshots have; None: nobody looked, or not all of this one could be read. `changed`: its files were
    while they were read."""

    index: str
    group: str
    at: str
    files: int
    rows: int = 0
    settled: int = 0
    embedded: int = 0
    reused: int = 0
    dead_lettered: int = 0
    deleted: int | None = None
    changed: bool = False
    seconds: float = 0.0


async def load_snapshot(
    settings: Settings,
    snapshot: Snapshot,
    fill: Fill,
    report: Report,
    *,
    unchanged: Callable[[], bool],
    told_ms: int | None = None,
    sync: bool = False,
    max_deletes: int | None = None,
) -> Loaded:
    """Returns when all rows are in the index, or in the dead letters. Twice is harmless; workers may run.

    `unchanged`: whether its files still are those that were listed; blocks. `told_ms`: the time that it is of, where
    somebody says so. `sync`: it has all documents there are but the stream's, and what it lacks is deleted: at most
    `max_deletes`, or a tenth of what came from snapshots. Raises RefusedError where the index has no room for
    snapshots, where this one is too old, and where too much would go.
    """
    began = time.monotonic()
    with translated(settings.elasticsearch.url, "; run it again to go on"):
        await create_index(settings, snapshots=True)
        checked = await check(settings)
        try:
            async with connect(settings.elasticsearch) as client:
                index, name = Index(client, settings), checked.identity.index
                snapshot = await _timed(index, name, snapshot, told_ms)
                loaded = Loaded(
                    index=name, group=settings.source.group, at=moment(snapshot.at_ms), files=len(snapshot.files)
                )
                async with unforgotten(settings, checked.identity, snapshot.pattern):
                    await index.bind(name, checked.topic.log)
                    _require_young(await index.notes(name), snapshot.at_ms)
                    task = Task(settings=settings, index=name, sink=checked.identity.sink, snapshot=snapshot)
                    _count(loaded, await fill(task))
                    await require_same_sink(settings, checked.identity)
                    notes = await index.notes(name)
                    _require_young(notes, snapshot.at_ms)
                    loaded.changed = not await asyncio.to_thread(unchanged)
                    sound = sync and not loaded.dead_lettered and not loaded.changed
                    noted = int(notes.get(SYNC_NOTE) or 0)
                    if newest := max(noted, snapshot.at_ms if sound else 0):
                        async with assemble(settings, checked) as assembly:
                            run = _Sync(settings, checked, assembly, newest)
                            if newest > noted:
                                await run.require_few(max_deletes)
                                await index.note(name, **{SYNC_NOTE: newest})
                            loaded.deleted = await run.delete(report)
        finally:
            checked.close()
    loaded.seconds = round(time.monotonic() - began, 1)
    return loaded


async def _timed(index: Index, name: str, snapshot: Snapshot, told_ms: int | None) -> Snapshot:
    """Of its own time, which is noted before the first row is: killed, it has the same one again."""
    known: dict[str, Any] = (await index.notes(name)).get(SNAPSHOTS_NOTE) or {}
    noted = known.pop(snapshot.pattern, None)
    now_ms = int(time.time() * 1000)
    at_ms = time_of(snapshot, (noted[0], noted[1]) if noted else None, now_ms) if told_ms is None else told_ms
    kept = dict([*known.items(), (snapshot.pattern, [snapshot.tag, at_ms])][-MOST_NOTED:])
    await index.note(name, **{SNAPSHOTS_NOTE: kept})
    return replace(snapshot, at_ms=at_ms)


def _require_young(notes: dict[str, object], at_ms: int) -> None:
    horizon = notes.get(VACUUM_NOTE)
    if isinstance(horizon, int) and at_ms < horizon:
        raise RefusedError(
            f"the snapshot is of {moment(at_ms)}, and deletions before {moment(horizon)} are forgotten since `penstock "
            "index vacuum`: documents that were deleted meanwhile would come back. Take a newer one; `--at` tells the "
            "time that it is of"
        )


def _count(loaded: Loaded, counted: Counter[str]) -> None:
    loaded.rows, loaded.settled = counted["records"], counted["settled"]
    loaded.embedded, loaded.reused = counted["embedded"], counted["reused"]
    loaded.dead_lettered = counted["dead_lettered"]


class _Sync:
    """Deletes what only older snapshots have than the one of this time, which is whole."""

    def __init__(self, settings: Settings, checked: Checked, assembly: Assembly, at_ms: int) -> None:
        self._settings = settings
        self._checked = checked
        self._assembly = assembly
        self._at_ms = at_ms
        self._stages = Stages(assembly.parts)

    async def require_few(self, most: int | None) -> None:
        """Raises RefusedError where more would go than may."""
        documents, gone, examples = 0, 0, list[str]()
        async for entries in self._entries():
            documents += sum(entry.n > 0 for entry in entries)
            missing = self._missing(entries)
            gone += len(missing)
            examples += missing[: SHOWN - len(examples)]
        may = documents // 10 if most is None else most
        if gone > may:
            raise RefusedError(
                f"{gone} of {documents} documents that came from snapshots are not in this one ({', '.join(examples)}"
                f"{'…' if gone > len(examples) else ''}), more than --max-deletes allows ({may}): none was deleted. If "
                f"they are to go, run `penstock backfill --from … --sync --max-deletes {gone}`"
            )

    async def delete(self, report: Report) -> int:
        """Returns how many went."""
        deleted = 0
        async for entries in self._entries():
            missing = self._missing(entries)
            for start in range(0, len(missing), BATCH):
                deleted += await self._delete(missing[start : start + BATCH])
                report("deleting", deleted, deleted)
        return deleted

    async def _entries(self) -> AsyncIterator[list[Entry]]:
        identity = self._checked.identity
        ours = [
            {"term": {"partition": SNAPSHOT}},
            {"term": {"chunk_index_uuid": identity.chunk_index_uuid}},
        ]
        async for hits, _ in scan(self._assembly.client, identity.registry, {"bool": {"filter": ours}}):
            yield [from_source(hit["_source"]) for hit in hits]

    def _missing(self, entries: Sequence[Entry]) -> list[str]:
        mine = version(EPOCH, self._at_ms)
        return [entry.doc_id for entry in entries if is_of_older_snapshot(entry, mine)]

    async def _delete(self, docs: Sequence[str]) -> int:
        """As the planner says: what the stream has taken over since stays."""
        headers, topic = own_headers(self._settings), self._settings.source.topic
        records = [record_of(topic, self._at_ms, "--sync", doc.encode(), None, headers) for doc in docs]
        works = [self._stages.work_of(record) for record in records]
        await self._stages.prepare(works)
        await self._stages.through(works)
        return sum(work.outcome == "stored" for work in works)
