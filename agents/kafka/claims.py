"""Claims on Kafka: the changelog table, one key a partition, written and awaited before anything is acked."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError

from agents.kafka.connection import ACL, REFUSALS, connection, translated
from agents.kafka.reader import LogReader
from agents.settings import Settings
from streams.claim import Claim, Fingerprint, from_bytes, to_bytes
from streams.errors import PenstockError, RefusedError
from streams.ports import Bounds, Log
from streams.share import WINDOW, Share

WRITE_TIMEOUT_S = 60.0
TOOL_TIMEOUT_S = 30.0
"""Of a command, which somebody waits for."""
LOOK_AGAIN_S = 60.0
"""A claim's record is looked at again after so long: the broker sends the whole batch that it is in."""


class ClaimTable:
    """`Claims` over a Faust table."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def read(self, partition: int) -> Claim | None:
        """As recovered from the changelog."""
        return from_bytes(self._table.get(claim_key(partition)))

    async def write(self, partition: int, claim: Claim) -> None:
        """Returns when the broker has it. Raises PenstockError after a minute: better to restart and replay."""
        try:
            sent = self._table.send_changelog(partition, claim_key(partition), to_bytes(claim))
            await asyncio.wait_for(sent, WRITE_TIMEOUT_S)
        except (TimeoutError, KafkaError) as exc:
            reason, check = str(exc) or type(exc).__name__, "that it has min.insync.replicas of its replicas in sync"
            if isinstance(exc, InvalidTimestampError):
                check = "this machine's clock, and the topic's message.timestamp.type: LogAppendTime needs none"
            elif isinstance(exc, REFUSALS):
                check = f"that the login has {ACL}"
            raise PenstockError(
                f"the changelog topic did not take the claim of partition {partition} ({reason}): its records stay "
                f"unacknowledged; check {check}"
            ) from exc


def claim_key(partition: int) -> bytes:
    """Of a partition's claim in the table."""
    return str(partition).encode()


@asynccontextmanager
async def claim_writer(settings: Settings) -> AsyncIterator[Callable[[int, Claim | None], Awaitable[None]]]:
    """Writes a partition's claim into the changelog, or takes it away, and returns when the broker has it.

    Only while no worker of the group runs. Raises PenstockError when the broker does not take it.
    """
    producer = AIOKafkaProducer(**connection(settings), acks="all")
    topic, servers = settings.changelog_topic, settings.kafka.bootstrap_servers

    async def write(partition: int, claim: Claim | None) -> None:
        value = None if claim is None else to_bytes(claim)
        sent = producer.send_and_wait(topic, key=claim_key(partition), value=value, partition=partition)
        with translated(servers):
            await asyncio.wait_for(sent, TOOL_TIMEOUT_S)

    try:
        with translated(servers):
            await producer.start()
        yield write
    finally:
        await producer.stop()


async def read_claims(reader: LogReader, settings: Settings) -> dict[int, Claim]:
    """The newest claims by partition, straight from the changelog topic; for tools, without a worker."""
    records = await reader.last(settings.changelog_topic)
    claims = {partition: from_bytes(record.value) for partition, record in records.items()}
    return {partition: claim for partition, claim in claims.items() if claim is not None}


async def start_offsets(log: Log, topic: str, claims: Mapping[int, Claim | None], sink: str) -> dict[int, int]:
    """Where processing of each partition starts: after a claim that holds, else at the log's start.

    Raises RefusedError when a claim proves that the topic is not the one that was indexed.
    """
    holding = {number: claim if claim is not None and claim.sink == sink else None for number, claim in claims.items()}
    bounds = await require_same_log(log, topic, holding)
    return {number: max(claim.offset + 1 if claim else 0, bounds[number].begin) for number, claim in holding.items()}


async def require_same_log(log: Log, topic: str, claims: Mapping[int, Claim | None]) -> dict[int, Bounds]:
    """Bounds of these partitions, with claims or without.

    Raises RefusedError when a claim proves that its partition is not the log that was indexed.
    """
    bounds = await log.bounds(topic, claims)
    made = {number: claim for number, claim in claims.items() if claim is not None}
    known = {
        number: claim.offset
        for number, claim in made.items()
        if claim.record is not None and bounds[number].begin <= claim.offset < bounds[number].end
    }
    records = await log.records_at(topic, known)
    for number, claim in made.items():
        record = records.get(number)
        if claim.offset >= bounds[number].end:
            found = f"the log ends at {bounds[number].end}"
        elif record is not None and Fingerprint.of(record) != claim.record:
            found = "another record is there now"
        else:
            continue
        raise RefusedError(
            f"{topic}/{number} is not the log that was indexed: offset {claim.offset} was settled, and {found}. "
            "The topic was deleted and made anew, or truncated: stop the workers, then begin a new epoch with "
            "`penstock index epoch bump --why …`; everything in it is then processed, and newer than what is there"
        )
    return bounds


class Looks:
    """`require_same_log` again and again: records once a minute, the log's bounds each time.

    `now`: monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._at: dict[int, float] = {}

    def note(self, numbers: Iterable[int]) -> None:
        """The records of these partitions' claims were looked at just now."""
        self._at |= dict.fromkeys(numbers, self._now())

    async def require_same_log(self, log: Log, topic: str, claims: Mapping[int, Claim]) -> dict[int, Bounds]:
        """Bounds of these partitions. Raises RefusedError as the function does."""
        due = {number for number in claims if self._now() - self._at.get(number, -math.inf) >= LOOK_AGAIN_S}
        at_hand = {number: claim if number in due else replace(claim, record=None) for number, claim in claims.items()}
        bounds = await require_same_log(log, topic, at_hand)
        self.note(due)
        return bounds


def too_many_rejected(share: Share, max_ratio: float) -> RefusedError:
    """What a worker that stops for its dead letters says, then and at every start after it."""
    return RefusedError(
        f"{share.rejected} of the last {max(WINDOW, share.records):,} records were rejected, more than "
        f"dead_letters.max_ratio = {max_ratio}; the last of them are not claimed. See why with `penstock dlq list`; "
        "to go on, `penstock dlq resume`, or raise dead_letters.max_ratio"
    )
