"""What is said of each port, held against whatever implements it: the fakes in memory, and the real ones."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest

from models.cosines import cosines
from models.embedder import Embedder
from streams.claim import Claim, Fingerprint
from streams.epochs import History
from streams.errors import ModelChangedError
from streams.flags import NOTHING
from streams.plan import ChunkWrite, Conflict, FieldNames, Space, Written, chunk_hash, content_writes, stub_writes
from streams.ports import Bounds, Chunks, Claims, DeadLetters, Entries, Log
from streams.record import Document, Record, Rejected, decode
from streams.registry import Begin, Wanted, decide, done
from streams.share import Share
from streams.split import Chunk

RECORDS, HOLES, BEGIN, END = (1, 6, 7), (2, 3, 4, 5, 8), 1, 9
"""Of the log of `holds_for_log`: what is below `BEGIN` was deleted; holes are markers, and aborted records."""
HELD_BACK = 2
"""Records behind them, of a transaction that is open."""
DIMS = 384


def record(offset: int) -> Record:
    """One at this offset."""
    value = b'{"text": "Record %d."}' % offset
    return Record(topic="t", partition=0, offset=offset, timestamp_ms=1000 + offset, key=b"%d" % offset, value=value)


async def holds_for_log(log: Log, topic: str) -> None:
    """`RECORDS` alone are read, from whatever offset; what was lost before them is told."""
    assert await log.bounds(topic, [0]) == {0: Bounds(begin=BEGIN, end=END)}
    assert await log.written(topic, [0]) == {0: END + HELD_BACK}
    assert (await log.bounds(topic, []), await log.written(topic, [])) == ({}, {})
    for offset in range(END + 1):
        found = await log.next_from(topic, 0, offset)
        start = max(BEGIN, offset)
        expected = next((place for place in RECORDS if place >= start), None)
        assert (found.record and found.record.offset, found.start) == (expected, start)
        assert found.position == (END if expected is None else expected)
    there = await log.records_at(topic, {0: 6})
    assert (there[0].key, there[0].value, there[0].timestamp_ms) == (b"6", record(6).value, 1006)
    for hole in HOLES:
        assert await log.records_at(topic, {0: hole}) == {}
    assert await log.records_at(topic, {}) == {}
    for end, expected_offsets in ((END, list(RECORDS)), (7, [1, 6])):
        offset, offsets = 0, list[int]()
        while offset < end:
            page = await log.page(topic, 0, offset, end)
            assert page.start == max(BEGIN, offset)
            assert offset < page.position <= end
            offsets += [one.offset for one in page.records]
            offset = page.position
        assert offsets == expected_offsets
        last = await log.page(topic, 0, end, end)
        assert (last.records, last.position) == ([], end)


async def holds_for_claims(claims: Claims, next_owner: Callable[[], Awaitable[Claims]]) -> None:
    """What was written last is what the next owner reads, whole."""
    assert claims.read(1) is None
    first = Claim(offset=4, sink="s", record=Fingerprint.of(record(4)))
    history = History(log="c/t", partitions=2, cuts=[{"at": "", "why": "", "offsets": {"0": 3}}])
    newer = replace(first, offset=7, record=None, share=Share(records=9, rejected=2), history=history)
    await claims.write(1, first)
    assert (await next_owner()).read(1) == first
    await claims.write(1, newer)
    await claims.write(0, first)
    owner = await next_owner()
    assert (owner.read(0), owner.read(1)) == (first, newer)


async def holds_for_letters(
    letters: DeadLetters, sent: Callable[[], Awaitable[list[tuple[Record, str, int, int]]]]
) -> None:
    """It is there when `send` has returned: the record, its error, attempt and epoch; a second time as well."""
    rejected = Rejected(record=record(6), stage="decode", error="NotJson", message="it is not")
    for attempt in (1, 2):
        await letters.send(rejected, attempt=attempt, epoch=3)
        found, *about = (await sent())[-1]
        assert (found.topic, found.partition, found.offset) == ("t", 0, 6)
        assert (found.key, found.value, about) == (b"6", record(6).value, ["NotJson", attempt, 3])
    assert len(await sent()) == 2


async def holds_for_entries(entries: Entries) -> None:
    """Created once, swapped only against what was read, and seen at once."""
    wanted = Wanted(doc_id="d" * 600, partition=0, version=7, n=2, content_hash="h")
    plan = decide(None, wanted, chunk_index_uuid="u")
    assert isinstance(plan, Begin)
    assert await entries.read([wanted.doc_id]) == {}
    (stored,) = await entries.swap([(plan.entry, None)])
    assert stored is not None
    assert await entries.swap([(plan.entry, None)]) == [None]
    assert await entries.read([wanted.doc_id, "absent"]) == {wanted.doc_id: stored}
    (finished,) = await entries.swap([(done(plan.entry), stored)])
    assert finished is not None
    assert await entries.swap([(done(plan.entry), stored)]) == [None]
    assert (await entries.read([wanted.doc_id]))[wanted.doc_id].entry.state == "done"
    assert (await entries.swap([(done(plan.entry), finished), (plan.entry, stored)]))[1] is None


async def holds_for_chunks(chunks: Chunks, names: FieldNames) -> None:
    """The greater version stays; of equal ones what `over_equal` says; vectors are read back by their text's hash."""
    old, new = _content(3, names), _content(5, names)
    refused = next(iter(stub_writes(_document(5), range(1), epoch=0, model="m", indexed_at=AT)))
    assert await chunks.read([new.id], names.vector) == {}
    assert isinstance((await chunks.write([new]))[0], Written)
    assert isinstance((await chunks.write([old]))[0], Conflict)
    assert isinstance((await chunks.write([new]))[0], Conflict), "content does not replace its own version"
    ((key, vector),) = (await chunks.read([new.id, "absent#0"], names.vector)).items()
    assert key == chunk_hash("Record 5.")
    assert np.allclose(vector, VECTOR, atol=1e-6)
    assert await chunks.stubs([new.id]) == {}
    assert await chunks.origins([new.id, "absent#0"]) == {new.id: (new.source["penstock"]["partition"], new.version)}
    assert isinstance((await chunks.write([refused]))[0], Written), "a stub does"
    assert await chunks.origins([new.id]) == {new.id: (new.source["penstock"]["partition"], new.version)}
    assert (await chunks.read([new.id], names.vector), await chunks.stubs([new.id])) == ({}, {new.id: new.version})
    assert isinstance((await chunks.write([new]))[0], Conflict)
    again = replace(new, over_equal=True)
    assert [type(one) for one in await chunks.write([again, old])] == [Written, Conflict]
    assert list(await chunks.read([new.id], names.vector)) == [key]
    foreign = {names.vector: new.source[names.vector], "penstock": {"stub": False}}
    await chunks.write([replace(again, version=new.version + 1, source=foreign)])
    assert await chunks.read([new.id], names.vector) == {}, "of a row that others made nobody knows the text"


async def holds_for_embedder(embedder: Embedder, least: float, swap: Callable[[], None]) -> None:
    """Vectors in the order given, each whatever its neighbours are; of another model none.

    `least`: cosine that equal texts have at least. `swap`: puts another model in the place of this one.
    """
    texts = [f"{'a penstock leads water ' * length}{length}" for length in (9, 0, 30, 1)]
    tokens = list(embedder.encode(texts))
    assert len({len(ids) for ids in tokens}) == len(texts), "of several widths"
    assert await embedder.on_tokenizers(len, [*tokens, []]) == [*map(len, tokens), 0]
    assert await embedder.on_tokenizers(len, []) == []
    made = await embedder.embed(tokens)
    assert (made.vectors.shape, made.failed) == ((4, embedder.dims), {})
    assert made.vectors.dtype == np.float32
    for number, ids in enumerate(tokens):
        alone = (await embedder.embed([ids])).vectors[0]
        assert cosines(alone, made.vectors[number]) >= least
        distances = np.abs(made.vectors - alone).max(axis=1)
        assert int(distances.argmin()) == number, "that of no other text"
    assert (await embedder.embed([])).vectors.shape == (0, embedder.dims)
    assert min(made.canary, await embedder.prove()) >= least
    swap()
    for asked in (embedder.embed(tokens), embedder.embed(tokens[:1]), embedder.prove()):
        with pytest.raises(ModelChangedError) as caught:
            await asked
        assert caught.value.cosine < least


AT = "2026-01-01T00:00:00.000Z"
VECTOR = np.eye(1, DIMS, 5, dtype=np.float32)[0]


def _document(offset: int) -> Document:
    found = decode(replace(record(offset), key=b"doc"))
    assert isinstance(found, Document)
    return found


def _content(offset: int, names: FieldNames) -> ChunkWrite:
    chunk = Chunk(text=f"Record {offset}.", ids=[1], start=None, end=None, metadata={})
    space = Space(model="m", dims=DIMS, names=names)
    made = content_writes(
        _document(offset), [chunk], VECTOR[None], epoch=0, space=space, indexed_at=AT, verdict=NOTHING
    )
    return next(iter(made))
