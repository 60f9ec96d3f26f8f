"""Which partitions are ours, how far each one is, and what may enter next.

Admission: only the record with the expected offset enters; a lower one is acked when it is claimed already;
a higher one is dropped unacknowledged and the consumer seeks back, at most once a second.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from agents.clock import age_s
from agents.indexing.budget import Budget
from agents.kafka.claims import Looks, require_same_log, start_offsets, too_many_rejected
from agents.metrics import Metrics
from streams.claim import Claim, Fingerprint
from streams.cost import NOTHING_SPENT, Spend
from streams.epochs import History
from streams.ledger import Admission, Ledger
from streams.ports import Claims, Log
from streams.record import Record
from streams.share import Share

SEEK_EVERY_S = 1.0
STILL_S = 3.0
"""A partition with lag that delivered nothing for so long is looked at: Faust skipped, or a hole ends the log."""
WAITING_S = 30.0
"""One whose records are on their way is sought back after so long: others are worked first, or the model is slow. Each
time twice as long, because Faust keeps what it has, and the budget counts a record once."""
MOST_DOUBLINGS = 5

logger = logging.getLogger(__name__)


class Acknowledge(Protocol):
    """Anything with an `ack`, such as a Faust event."""

    def ack(self) -> Any:
        """Tell Faust that its offset may be committed."""


@dataclass(slots=True)
class Open:
    """A record that entered and is not acked yet."""

    offset: int
    event: Acknowledge
    record: Record


class Partition:
    """One assigned partition."""

    def __init__(self, number: int, stored: Claim, now: float) -> None:
        self.number = number
        self.ledger = Ledger(stored.offset + 1)
        self.claimed = stored.offset
        self.stored = stored
        self.confirmed: int | None = None
        """Offset of the claim, once its record was looked at for what is settled next."""
        self.share = stored.share
        self.spend = stored.spend
        """Of what is claimed, and of what is being claimed."""
        self.spent: dict[int, Spend] = {}
        """On records that are settled and not claimed yet, by offset."""
        self.open: deque[Open] = deque()
        self.end: int | None = None
        self.held_back: int | None = None
        self.last_delivery = self.last_progress = now
        self.last_seek = 0.0
        self.seeks_at_expected = 0
        self.proved: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record belongs; of a partition that was revoked since, nothing is claimed any more."""

    partition: Partition
    offset: int


Seek = Callable[[Mapping[int, int]], Awaitable[None]]
Fetched = Callable[[int], Awaitable[int | None]]
"""The offset up to which a partition was handed over by its fetches; None where that cannot be told now."""
Passed = Callable[[int, int], None]
"""Of a partition nothing up to an offset, which is a hole, is left to be acked: Faust may commit it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What claims are about: the source topic, and the identity of the index and its registry."""

    topic: str
    sink: str
    max_ratio: float = 1.0
    """Of rejected records: above it `judge` refuses to go on."""
    history: History | None = None
    """Of the log, kept with every claim."""
    indexed: Mapping[int, int] = field(default_factory=dict)
    """The offset after the newest record that the index knows of, by partition: of one that was restored there is no
    claim that holds."""


class Assignment:
    """All assigned partitions of the source topic.

    `patient`: the log, asked for as long as a claim may take. `now`: monotonic seconds.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        claims: Claims,
        log: Log,
        patient: Log,
        seek: Seek,
        fetched: Fetched,
        passed: Passed,
        metrics: Metrics,
        budget: Budget,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topic = subject.topic
        self._sink = subject.sink
        self._max_ratio = subject.max_ratio
        self._history = subject.history
        self._indexed = subject.indexed
        self._now = now
        self._claims = claims
        self._log = log
        self._patient = patient
        self._looks = Looks(now)
        self._seek = seek
        self._fetched = fetched
        self._passed = passed
        self._metrics = metrics
        self._budget = budget
        self._partitions: dict[int, Partition] = {}
        self._last: dict[int, Claim] = {}
        """Of partitions that were ours, as we wrote them last."""
        self.received = False
        self.claimed: Counter[str] = Counter()
        """Nano that claims of this worker have added to what was spent, by UTC day."""

    async def assign(self, numbers: Iterable[int]) -> None:
        """Take these partitions, each from its claim on, or from the log's start where that is later by now.

        Raises RefusedError when the topic was replaced, or a worker stopped for its dead letters.
        """
        self._remember()
        claims = {number: self._claims.read(number) for number in numbers}
        starts = await start_offsets(self._patient, self.topic, claims, self._sink)
        held = {number: claim for number, claim in claims.items() if claim is not None and claim.sink == self._sink}
        shares = Share.of_all(claim.share for claim in held.values())
        if shares.stopped and shares.exceeds(self._max_ratio):  # of a worker beside this one
            raise too_many_rejected(shares, self._max_ratio)
        if shares.full or shares.stopped:  # of several workers, each of which went on; or the limit was raised since
            held = {number: replace(claim, share=Share()) for number, claim in held.items()}
        now = self._now()
        fresh = {
            number: Partition(number, self._begin(start, held.get(number), self._spent(number, claims[number])), now)
            for number, start in starts.items()
        }
        self._looks.note(fresh)
        self.revoke()
        self._partitions = fresh
        self.received = True
        self._metrics.rebalances.inc()
        for partition in fresh.values():
            for metric in (self._metrics.end_to_end_seconds, self._metrics.records_lost):
                metric.labels(self.topic, str(partition.number))  # there, as 0, from the start
            self._metrics.settled_offset.labels(self.topic, str(partition.number)).set(starts[partition.number])
        logger.info("partitions assigned", extra={"topic": self.topic, "start": starts})
        for number, start in starts.items():
            claim = held.get(number)
            seen = claim.offset + 1 if claim else self._indexed.get(number, start)
            if seen < start:
                self._lose(fresh[number], seen, start)
        await asyncio.gather(
            *(
                self._claims.write(number, partition.stored)
                for number, partition in fresh.items()
                if partition.stored != claims[number]
            )
        )

    def _remember(self) -> None:
        self._last |= {number: partition.stored for number, partition in self._partitions.items()}

    def _spent(self, number: int, read: Claim | None) -> Spend:
        """In this partition: as its claim tells it, or our last one. A worker that slept may have written a lower claim
        behind ours: it joined again, and that made this rebalance."""
        ours = self._last.get(number)
        spent = NOTHING_SPENT if read is None else read.spend
        return spent.or_more(ours.spend) if read and ours and read.sink == ours.sink else spent

    def _begin(self, start: int, held: Claim | None, spend: Spend) -> Claim:
        """The claim that a partition begins with: whatever retention takes from there on is missed, and counted once.

        Of one that waits or is idle, too; it is also told what is known of the log by now. What was spent stays spent,
        though the claim that says so is void.
        """
        if held is not None and held.offset + 1 == start:
            return replace(held, history=self._history, spend=spend)
        share = Share() if held is None else held.share
        return Claim(offset=start - 1, sink=self._sink, record=None, share=share, history=self._history, spend=spend)

    @property
    def empty(self) -> bool:
        """Whether no partition is ours: another worker has them, or the topic is gone."""
        return not self._partitions

    def revoke(self) -> None:
        """Forget all partitions: what is in flight is finished, but nothing is claimed or acked for it."""
        for number in self._partitions:
            self._metrics.forget(self.topic, number)
        self._remember()
        self._partitions = {}
        self._budget.clear()

    async def admit(self, delivered: Iterable[tuple[Record, int, Acknowledge]]) -> list[tuple[Position, Record]]:
        """Of delivered records those that may be processed, in order. Seeks back where there is a gap.

        With each comes an offset: from there up to the record the log holds nothing, as the fetch has shown.
        """
        admitted, gaps = [], {}
        for record, after, event in delivered:
            partition = self._partitions.get(record.partition)
            if partition is None:
                self._budget.release(record.partition, record.offset)
                continue
            partition.last_delivery = self._now()
            match partition.ledger.offer(record.offset, after):
                case Admission.ENTER:
                    partition.seeks_at_expected = 0
                    partition.open.append(Open(record.offset, event, record))
                    admitted.append((Position(partition, record.offset), record))
                case Admission.SKIP:
                    if record.offset <= partition.claimed:
                        self._budget.release(partition.number, record.offset)
                        event.ack()
                case Admission.GAP:
                    self._budget.release(partition.number, record.offset)
                    gaps[partition.number] = partition
        for partition in gaps.values():
            await self._close_gap(partition)
        return admitted

    async def judge(self, positions: Sequence[Position], rejected: Sequence[bool]) -> None:
        """Count rejected records, before they are settled.

        Raises RefusedError when there are too many: nothing of this batch is claimed then, and the next start
        refuses too, because the count is stored with the claims.
        """
        ours = [
            (position.partition, bad)
            for position, bad in zip(positions, rejected, strict=True)
            if self._partitions.get(position.partition.number) is position.partition
        ]
        for partition, bad in ours:
            partition.share = partition.share.plus(Share(records=1, rejected=int(bad)))
        total = Share.of_all(partition.share for partition in self._partitions.values())
        if total.exceeds(self._max_ratio):
            for partition in {partition.number: partition for partition, _ in ours}.values():
                judged = replace(partition.stored, share=replace(partition.share, stopped=True))
                await self._claims.write(partition.number, judged)
            raise too_many_rejected(total, self._max_ratio)
        if total.full:
            await self._next_window()

    async def _next_window(self) -> None:
        """Count from 0, also in the claims of partitions that are idle: at the next start their old counts are nobody's
        last records."""
        for partition in list(self._partitions.values()):
            partition.share = Share()
            if partition.stored.share != Share():
                partition.stored = replace(partition.stored, share=Share())
                await self._claims.write(partition.number, partition.stored)

    async def confirm(self, positions: Iterable[Position]) -> None:
        """Look whether these records were fetched from the log that the claims are about, while they are written.

        Raises RefusedError when the topic was made anew under our hands: a claim on another log would hide what is
        below it. The last claimed record is looked at, and any moment since the fetch will do: if it is still there,
        so was it when they were fetched.
        """
        await self._confirm({position.partition for position in positions})

    def spends(self) -> dict[int, Spend]:
        """What was spent on each of our partitions, as far as it is claimed."""
        return {number: partition.stored.spend for number, partition in self._partitions.items()}

    async def claim_again(self, numbers: Iterable[int]) -> None:
        """Write the claims of these partitions again, as far as they are ours: somebody who had them before wrote lower
        ones. Where one is on its way it does that by itself, and an older one must not come behind it."""
        for number in numbers:
            partition = self._partitions.get(number)
            if partition and partition.ledger.claimable <= partition.claimed:
                await self._claims.write(number, partition.stored)

    async def settle(self, positions: Sequence[Position], spends: Sequence[Spend] = ()) -> None:
        """These records are durable, superseded or dead-lettered: move the claims, then ack.

        `spends`: on each of them, where that is counted. It goes into the first claim that covers the record.

        1. settle in the ledgers
        2. write the claim of each partition that moved, awaited; looks at the log first where nobody did (`confirm`)
        3. ack what the claim covers
        """
        touched = set()
        for position in positions:  # 1
            position.partition.ledger.settle(position.offset)
            touched.add(position.partition)
        for position, spend in zip(positions, spends, strict=False):
            if spend and position.offset > position.partition.claimed:
                position.partition.spent[position.offset] = spend
        await self._confirm({partition for partition in touched if partition.confirmed != partition.stored.offset})
        await asyncio.gather(*(self._claim(partition) for partition in touched))
        for partition in touched:
            partition.confirmed = None  # what is fetched from now on may be of another log

    async def _claim(self, partition: Partition) -> None:
        claimable = partition.ledger.claimable
        if claimable <= partition.claimed or self._partitions.get(partition.number) is not partition:
            return
        covered = [entry for entry in partition.open if entry.offset <= claimable]
        if covered and partition.ledger.open_count:
            claimable = covered[-1].offset  # a record, which can be looked at again, and not the hole behind it
        last = covered[-1] if covered and covered[-1].offset == claimable else None
        record = Fingerprint.of(last.record) if last else None
        added = [partition.spent.pop(offset) for offset in sorted(partition.spent) if offset <= claimable]
        partition.spend = partition.spend.plus(*added)
        claim = Claim(
            offset=claimable,
            sink=self._sink,
            record=record,
            share=partition.share,
            history=self._history,
            spend=partition.spend,
        )
        await self._claims.write(partition.number, claim)  # 2
        partition.stored = claim
        for row in (row for spend in added for row in spend.rows):
            self.claimed[row.day] += row.cost
        partition.claimed = max(partition.claimed, claimable)
        partition.last_progress = self._now()
        end_to_end = self._metrics.end_to_end_seconds.labels(self.topic, str(partition.number))
        now_ms = time.time() * 1000
        for entry in covered:  # 3
            partition.open.popleft()
            self._budget.release(partition.number, entry.offset)
            entry.event.ack()
            if (age := age_s(entry.record.timestamp_ms, now_ms)) is not None:
                end_to_end.observe(age)
        current = self._partitions.get(partition.number)
        if current is None:  # revoked meanwhile
            self._metrics.forget(self.topic, partition.number)
        elif current is partition:
            if not covered or covered[-1].offset < claimable:
                self._passed(partition.number, claimable)
            self._metrics.settled_offset.labels(self.topic, str(partition.number)).set(partition.claimed + 1)

    async def _confirm(self, partitions: Iterable[Partition]) -> None:
        ours = {
            partition: partition.stored
            for partition in partitions
            if self._partitions.get(partition.number) is partition
        }
        await require_same_log(self._patient, self.topic, {part.number: claim for part, claim in ours.items()})
        self._looks.note(partition.number for partition in ours)
        for partition, claim in ours.items():
            partition.confirmed = claim.offset

    async def watch(self, *, paused: bool = False) -> None:
        """Ask for the end offsets, export lag and what is held back, seek back where deliveries stopped short.

        Raises RefusedError when the topic was made anew.

        `paused`: fetching is, so that nothing was to be delivered.
        """
        partitions = list(self._partitions.values())
        self._let_go_of_what_faust_dropped(partitions)
        claims = {partition.number: partition.stored for partition in partitions}
        written = await self._log.written(self.topic, claims)  # first: what is committed meanwhile is not held back
        bounds = await self._looks.require_same_log(self._log, self.topic, claims)
        for partition in partitions:
            if self._partitions.get(partition.number) is not partition:
                continue
            partition.end = max(bounds[partition.number].end, partition.claimed + 1)  # claimed while we asked
            partition.held_back = max(0, written[partition.number] - partition.end)
            labels = self.topic, str(partition.number)
            self._metrics.lag.labels(*labels).set(partition.end - partition.claimed - 1)
            self._metrics.held_back.labels(*labels).set(partition.held_back)
            self._show_age(partition)
            if partition.end == partition.claimed + 1:
                partition.last_progress = self._now()  # idle is not stalled
            quiet_s = self._now() - partition.last_delivery
            if partition.ledger.expected < partition.end and not paused and not partition.open and quiet_s > STILL_S:
                waiting_s = WAITING_S * 2 ** min(partition.seeks_at_expected, MOST_DOUBLINGS)
                if quiet_s > waiting_s or not await self._on_its_way(partition):
                    await self._close_gap(partition, prove=True)
                elif partition.proved != partition.ledger.expected:
                    partition.proved = partition.ledger.expected
                    await self._step_over_hole(partition)

    def _let_go_of_what_faust_dropped(self, partitions: Sequence[Partition]) -> None:
        """It clears its queue when it resumes. Where all that the budget has room for was in there, nothing would be
        fetched any more: what is missing is seen when something comes behind it."""
        if self._budget.full and all(
            not partition.open and self._now() - partition.last_delivery > STILL_S for partition in partitions
        ):
            self._budget.clear()

    async def _on_its_way(self, partition: Partition) -> bool:
        """Whether what is expected was not handed over yet, or waits in Faust: a seek would not bring it on."""
        if self._budget.holds(partition.number):
            return True
        fetched = await self._fetched(partition.number)
        return fetched is not None and fetched <= partition.ledger.expected

    def _show_age(self, partition: Partition) -> None:
        labels = self.topic, str(partition.number)
        if partition.end == partition.claimed + 1:
            self._metrics.oldest_age.labels(*labels).set(0)
        elif partition.open and (age := age_s(partition.open[0].record.timestamp_ms)) is not None:
            self._metrics.oldest_age.labels(*labels).set(age)
        else:  # not fetched yet, or published without a time
            self._metrics.oldest_age.remove(*labels)

    def behind_claim(self, committed: Mapping[int, int]) -> dict[int, dict[str, int]]:
        """Partitions whose committed offset is below what is claimed, with both."""
        return {
            number: {"committed": offset, "claimed": self._partitions[number].claimed + 1}
            for number, offset in committed.items()
            if number in self._partitions and offset <= self._partitions[number].claimed
        }

    def forget_lag(self) -> None:
        """The broker does not tell end offsets: an absent lag is better than an old one."""
        for partition in self._partitions.values():
            partition.end = partition.held_back = None
            for gauge in (self._metrics.lag, self._metrics.held_back, self._metrics.oldest_age):
                gauge.remove(self.topic, str(partition.number))

    def snapshot(self) -> list[dict[str, Any]]:
        """State by partition, for `/statusz`."""
        now = self._now()
        return [
            {
                "topic": self.topic,
                "partition": partition.number,
                "end_offset": partition.end,
                "settled_offset": partition.claimed + 1,
                "lag": None if partition.end is None else max(0, partition.end - partition.claimed - 1),
                "held_back": partition.held_back,
                "open": len(partition.open),
                "since_progress_s": round(now - partition.last_progress, 1),
            }
            for partition in self._partitions.values()
        ]

    async def _close_gap(self, partition: Partition, *, prove: bool = False) -> None:
        """Seek back to the expected offset, unless the log proves to have a hole there.

        Without `prove` the log is asked only when two seeks did not help.
        """
        now = self._now()
        if now - partition.last_seek < SEEK_EVERY_S:
            return
        partition.last_seek = partition.last_delivery = now
        if prove or partition.seeks_at_expected >= 2:
            await self._step_over_hole(partition)
            if partition.end is not None and partition.ledger.expected >= partition.end:
                return
        expected = partition.ledger.expected
        partition.seeks_at_expected += 1
        logger.info(
            "seeking back to the next expected record", extra={"partition": partition.number, "offset": expected}
        )
        await self._seek({partition.number: expected})

    async def _step_over_hole(self, partition: Partition) -> None:
        """Compaction and transactions leave holes, also at the end of the log: expect what follows.

        What retention took before we saw it is no hole: it is lost, and counted.
        """
        expected = partition.ledger.expected
        found = await self._log.next_from(self.topic, partition.number, expected)
        ours = self._partitions.get(partition.number) is partition
        if found.position <= expected or partition.ledger.expected != expected or not ours:
            return
        if found.start > expected:
            self._lose(partition, expected, found.start)
        if found.position > found.start:
            hole = {"partition": partition.number, "from": found.start, "to": found.position}
            level = logging.DEBUG if found.position - found.start == 1 else logging.INFO  # the mark of a transaction
            logger.log(level, "no records there: they were compacted, or are marks of transactions", extra=hole)
        partition.ledger.step_over(found.position)
        partition.seeks_at_expected = 0
        if not partition.open:
            await self._claim(partition)

    def _lose(self, partition: Partition, first: int, start: int) -> None:
        """Retention took what is below `start`; from `first` on nobody had read it."""
        self._metrics.records_lost.labels(self.topic, str(partition.number)).inc(start - first)
        logger.error(
            "records were lost to retention: it took them before they were read; see the runbook",
            extra={
                "topic": self.topic,
                "partition": partition.number,
                "records": start - first,
                "from": first,
                "to": start - 1,
            },
        )
