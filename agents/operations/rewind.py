"""Claims set back by hand, for tools: only ever lower, so that they stay true, and only while no worker runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agents.kafka.claims import claim_writer, read_claims
from agents.kafka.reader import LogReader, log_reader
from agents.settings import Settings
from streams.claim import Claim, Fingerprint, void
from streams.errors import RefusedError
from streams.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """One partition: the settled offset before and after."""

    partition: int
    before: int
    after: int


async def rewind(settings: Settings, *, offset: int | None = None, at_ms: int | None = None) -> list[Rewound]:
    """Have the records from an offset, from a time, or all of them processed again. Returns what was set back.

    Raises RefusedError while workers run: each has the claims in its memory, and would write them again.
    """
    async with log_reader(settings) as reader:
        claims = await _claims_of_stopped(reader, settings)
        topic, partitions = settings.source.topic, list(claims)
        bounds = await reader.bounds(topic, partitions)
        times = await reader.offsets_at(topic, partitions, at_ms) if at_ms is not None else {}
        rows, changes = [], {}
        for partition, claim in claims.items():
            begin, end = bounds[partition].begin, bounds[partition].end
            after = begin if offset is None else max(begin, offset)
            if at_ms is not None:
                after = times.get(partition, end)
            if after > claim.offset:
                continue
            rows.append(Rewound(partition=partition, before=claim.offset + 1, after=after))
            changes[partition] = (
                await _lowered(reader, topic, partition, claim, after) if after > begin else void(claim)
            )
        await _write(settings, changes)
    return rows


async def resume(settings: Settings) -> int:
    """Forget how many records were rejected lately, on every partition. Returns how many had any."""
    async with log_reader(settings) as reader:
        claims = await _claims_of_stopped(reader, settings)
        changes = {
            partition: replace(claim, share=Share()) for partition, claim in claims.items() if claim.share.rejected
        }
        await _write(settings, changes)
    return len(changes)


async def lower_claims(reader: LogReader, settings: Settings, offsets: Mapping[int, int]) -> None:
    """Have everything from these offsets on processed again, by partition. Only while no worker runs."""
    topic, claims = settings.source.topic, await read_claims(reader, settings)
    above = {number: claim for number, claim in claims.items() if claim.offset >= offsets.get(number, claim.offset + 1)}
    bounds = await reader.bounds(topic, above)
    changes = {
        number: await _lowered(reader, topic, number, claim, offsets[number])
        if offsets[number] > bounds[number].begin
        else void(claim)
        for number, claim in above.items()
    }
    await _write(settings, changes)


async def require_stopped(reader: LogReader, settings: Settings) -> None:
    """Raises RefusedError while workers run: each has the claims in its memory, and would write them again."""
    members = await reader.group_members(settings.source.group)
    if members:
        raise RefusedError(
            f"workers of {settings.source.group} are running ({len(members)}), and hold their claims in memory: "
            f"stop them first (one that was killed counts for another {settings.kafka.session_timeout_s:g} s)"
        )


async def _claims_of_stopped(reader: LogReader, settings: Settings) -> dict[int, Claim]:
    """The claims of partitions that are there, while nobody writes any."""
    await require_stopped(reader, settings)
    count = await reader.require_partitions(settings.source.topic)
    return {partition: claim for partition, claim in (await read_claims(reader, settings)).items() if partition < count}


async def _lowered(reader: LogReader, topic: str, partition: int, claim: Claim, after: int) -> Claim:
    record = await reader.record_at(topic, partition, after - 1)
    known = None if record is None else Fingerprint.of(record)
    return replace(claim, offset=after - 1, record=known, share=Share())


async def _write(settings: Settings, claims: Mapping[int, Claim | None]) -> None:
    async with claim_writer(settings) as write:
        for partition, claim in claims.items():
            await write(partition, claim)
