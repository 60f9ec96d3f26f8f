"""The ports in memory keep what is said of them; the real ones: `tests.stack.test_ports`."""

import asyncio

from models.memory import MemoryEmbedder, vector_of
from streams.memory import MemoryChunks, MemoryClaims, MemoryDeadLetters, MemoryEntries, MemoryLog
from streams.plan import FieldNames
from streams.record import Record
from tests.kit import ports


def test_log() -> None:
    log = MemoryLog()
    for offset in (0, *ports.RECORDS):
        log.partitions[0].append(ports.record(offset))
    log.partitions[0].delete_before(ports.BEGIN)
    log.partitions[0].end, log.partitions[0].held_back = ports.END, ports.HELD_BACK
    asyncio.run(ports.holds_for_log(log, "t"))


def test_claims() -> None:
    claims = MemoryClaims()

    async def next_owner() -> MemoryClaims:
        return claims

    asyncio.run(ports.holds_for_claims(claims, next_owner))


def test_dead_letters() -> None:
    letters = MemoryDeadLetters()

    async def sent() -> list[tuple[Record, str, int, int]]:
        return [(one.record, one.error, attempt, epoch) for one, attempt, epoch in letters.sent]

    asyncio.run(ports.holds_for_letters(letters, sent))


def test_entries() -> None:
    asyncio.run(ports.holds_for_entries(MemoryEntries()))


def test_embedder() -> None:
    embedder = MemoryEmbedder()

    def swap() -> None:
        embedder.model = lambda text: vector_of(text)[::-1]

    asyncio.run(ports.holds_for_embedder(embedder, 0.9999, swap))


def test_chunks() -> None:
    asyncio.run(ports.holds_for_chunks(MemoryChunks(), FieldNames()))
