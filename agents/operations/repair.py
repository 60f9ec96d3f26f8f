"""Mends what a verification found, by version only: nothing that is newer than a record is ever overwritten.

A damaged document's record is read from the topic and goes through the stages once more, at its own version; chunks
that nobody asks for become stubs at theirs. Where the record is gone, what is whole in the index stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from agents.clock import utc_now
from agents.indexing.assembly import Assembly
from agents.indexing.stages import Stages
from agents.kafka.reader import LogReader
from agents.operations.letters import pages
from agents.settings import Settings
from streams.dead_letter import Home
from streams.epochs import epoch_of_version, offset_of_version
from streams.examine import Place, Row
from streams.ids import chunk_id
from streams.plan import ChunkWrite
from streams.ports import Chunks, Entries
from streams.record import Record
from streams.registry import UNKNOWN, Stored
from streams.salvage import Left

TOGETHER_BYTES = 1024**2
"""Of records that are repaired together."""


async def keep(
    left: Left, stored: Stored | None, rows: Mapping[int, Row], chunks: Chunks, entries: Entries, topic: str
) -> None:
    """What is left of a document whose record is gone becomes all that there is of it. Twice is harmless.

    1. stubs over all other chunks
    2. the entry, in the place of the one that was read (None: absent)
    A crash between the two leaves the same to be kept. A newer record that comes in between wins both.
    """
    n = left.entry.n
    # 1
    await stub(left.entry.doc_id, {k: row for k, row in rows.items() if k >= n and not row.stub}, chunks, topic)
    # 2
    await entries.swap([(left.entry, stored)])


async def stub(doc: str, orphans: Mapping[int, Row], chunks: Chunks, topic: str) -> None:
    """Empty stubs in the place of chunks that must not be there, at the versions that these have."""
    now = utc_now()
    writes = [
        ChunkWrite(
            id=chunk_id(doc, number),
            version=row.version,
            source={
                "metadata": {"doc_id": doc, "chunk": number},
                "penstock": {
                    "topic": topic,
                    "partition": row.partition,
                    "offset": offset_of_version(row.record_version),
                    "epoch": epoch_of_version(row.record_version),
                    "indexed_at": now,
                    "stub": True,
                },
            },
            over_equal=True,
        )
        for number, row in orphans.items()
    ]
    await chunks.write(writes)


class Repairer:
    """Repairs documents."""

    def __init__(self, settings: Settings, assembly: Assembly, reader: LogReader, home: Home) -> None:
        self._settings = settings
        self._home = home
        self._assembly = assembly
        self._reader = reader
        self._stages = Stages(assembly.parts)

    async def documents(self, places: Iterable[Place]) -> None:
        """The records at these places, of a document each, once more. Refused again, one is a dead letter.

        Twice is harmless. Records of about 1 MiB are in memory together.
        """
        records, size = list[Record](), 0
        for place in sorted(places):
            record = await self._record(place)
            if record is None:
                continue
            records.append(record)
            size += record.size_bytes
            if size >= TOGETHER_BYTES:
                await self._again(records)
                records, size = [], 0
        if records:
            await self._again(records)

    async def _again(self, records: Sequence[Record], epoch: int | None = None) -> None:
        await self._stages.ready(records)
        works = [self._stages.work_of(record, 2, repair=True, epoch=epoch) for record in records]
        await self._stages.prepare(works)
        await self._stages.through(works)

    async def letters(self, wanted: set[tuple[int, Place]]) -> None:
        """Records that only dead letters have, once more. `wanted`: their epochs and places. Twice is harmless."""
        left = set(wanted)
        async for found, _ in pages(self._reader, self._settings, self._home):
            whole = [letter for letter in found if letter.origin == "own" and letter.left_out is None]
            due = {(letter.epoch, letter.place): letter for letter in whole}
            for key in left & due.keys():
                await self._again([due[key].record], epoch=key[0])
            left -= due.keys()
            if not left:
                return

    async def forget(self, stored: Stored, rows: Mapping[int, Row], chunk_index_uuid: str) -> None:
        """What is published of a document next is written, unchanged or not, and leaves none of its chunks behind.

        Twice is harmless.
        """
        entry = stored.entry
        hi = max(entry.hi, *(number + 1 for number in rows), 0)
        forgotten = replace(entry, content_hash=UNKNOWN, hi=hi, chunk_index_uuid=chunk_index_uuid)
        if forgotten != entry:
            await self._assembly.registry.swap([(forgotten, stored)])

    async def letter(self, place: Place) -> None:
        """The record at this place is refused as it is, and its dead letter is missing."""
        record = await self._record(place)
        if record is None:
            return
        await self._stages.ready([record])
        works = [self._stages.work_of(record)]
        await self._stages.prepare(works)
        await self._stages.write(works)

    async def stubs(self, doc: str, orphans: Mapping[int, Row]) -> None:
        """Empty stubs in the place of chunks that must not be there, at the versions that these have."""
        await stub(doc, orphans, self._assembly.chunks, self._settings.source.topic)

    async def keep(self, left: Left, stored: Stored | None, rows: Mapping[int, Row]) -> None:
        """As the function of this name."""
        parts = self._assembly.parts
        await keep(left, stored, rows, parts.chunks, parts.registry, self._settings.source.topic)

    async def _record(self, place: Place) -> Record | None:
        return await self._reader.record_at(self._settings.source.topic, *place)
