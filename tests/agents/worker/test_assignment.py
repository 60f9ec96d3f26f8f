"""Admission, gaps, holes and claims, without a broker: fakes keep the order of what was written and acked."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from agents.indexing.budget import Budget
from agents.metrics import Metrics
from agents.worker.assignment import STILL_S, WAITING_S, Assignment, Position, Subject
from streams.claim import Claim, Fingerprint, from_bytes, to_bytes
from streams.cost import NOTHING_SPENT, Row, Spend
from streams.epochs import History
from streams.errors import AwayError, RefusedError
from streams.memory import MemoryClaims, MemoryLog, Partition
from streams.record import Record
from streams.share import Share


class Log(MemoryLog, MemoryClaims):
    """One partition's log, the claims about it, and everything that happened since the assignment, in order."""

    def __init__(
        self,
        offsets: Iterable[int],
        begin: int = 0,
        *,
        markers: int = 0,
        claims: dict[int, Claim] | None = None,
        handed_over: int | None = None,
        partitions: int = 1,
    ) -> None:
        MemoryLog.__init__(self, partitions)
        MemoryClaims.__init__(self, claims or {})
        self.events: list[tuple[str, int]] = []
        self.begun: list[tuple[str, int]] = []
        """At the assignment."""
        self.asked: list[dict[int, int]] = []
        """What single records were asked for."""
        self.passed: list[int] = []
        """Up to which holes Faust may commit."""
        self.now = 100.0
        self.handed_over = handed_over
        self.be(offsets, begin, markers)

    def be(self, offsets: Iterable[int], begin: int = 0, markers: int = 0) -> None:
        """Records at these offsets, of every partition, and markers of transactions at the end."""
        for number in range(len(self.partitions)):
            self.partitions[number] = partition = Partition(begin=begin, end=begin)
            for offset in offsets:
                partition.append(record(offset, number))
            partition.end += markers

    async def write(self, partition: int, claim: Claim) -> None:
        self.events.append(("claim", claim.offset))
        await super().write(partition, claim)

    async def records_at(self, topic: str, offsets: Mapping[int, int]) -> dict[int, Record]:
        if offsets:
            self.asked.append(dict(offsets))
        return await super().records_at(topic, offsets)

    async def seek(self, offsets: Mapping[int, int]) -> None:
        self.events.append(("seek", offsets[0]))

    async def fetched(self, _: int) -> int | None:
        return self.handed_over

    def deliver(self, *offsets: int, after: int | None = None, partition: int = 0) -> list[tuple[Record, int, Any]]:
        """`after`: where the fetch began that brought them; at each of them, else."""
        found, acked = [], self.events
        for offset in offsets:
            event = SimpleNamespace(ack=lambda offset=offset: acked.append(("ack", offset)))
            found.append((record(offset, partition), offset if after is None else after, event))
            after = None if after is None else offset + 1
        return found


def record(offset: int, partition: int = 0) -> Record:
    return Record(topic="t", partition=partition, offset=offset, timestamp_ms=offset, key=b"k", value=b"v")


def claim(offset: int, sink: str = "sink") -> Claim:
    return Claim(offset=offset, sink=sink, record=Fingerprint.of(record(offset)))


async def assigned(
    log: Log,
    max_ratio: float = 1.0,
    history: History | None = None,
    numbers: Iterable[int] = (0,),
    impatient: MemoryLog | None = None,
    indexed: Mapping[int, int] | None = None,
) -> Assignment:
    assignment = Assignment(
        Subject(topic="t", sink="sink", max_ratio=max_ratio, history=history, indexed=indexed or {}),
        claims=log,
        log=impatient or log,
        patient=log,
        seek=log.seek,
        fetched=log.fetched,
        passed=lambda _, offset: log.passed.append(offset),
        metrics=Metrics(),
        budget=Budget(1024),
        now=lambda: log.now,
    )
    await assignment.assign(numbers)
    log.begun, log.events[:] = list(log.events), []
    return assignment


def offsets(admitted: list[tuple[Any, Record]]) -> list[int]:
    return [record.offset for _, record in admitted]


def test_claim_is_written_before_anything_is_acked() -> None:
    async def scenario() -> None:
        log = Log([0, 1, 2])
        assignment = await assigned(log)
        admitted = await assignment.admit(log.deliver(0, 1, 2))
        await assignment.settle([admitted[1][0]])
        assert log.events == []
        await assignment.settle([admitted[0][0]])
        assert log.events == [("claim", 1), ("ack", 0), ("ack", 1)]

    asyncio.run(scenario())


def test_starts_after_the_claim_and_acks_what_is_claimed_already() -> None:
    async def scenario() -> None:
        log = Log(list(range(10)), claims={0: claim(4)})
        assignment = await assigned(log)
        assert offsets(await assignment.admit(log.deliver(3, 4, 5))) == [5]
        assert log.events == [("ack", 3), ("ack", 4)]

    asyncio.run(scenario())


def test_an_assignment_waits_for_the_log_as_long_as_a_claim() -> None:
    """Under a quota an answer takes longer than 15 s: a worker that gave up at each start would never do its work."""

    class Away(MemoryLog):
        async def bounds(self, _: str, __: Iterable[int]) -> Any:
            raise AwayError("no answer for 15 s")

    async def scenario() -> None:
        log = Log([0, 1], claims={0: claim(0)})
        assignment = await assigned(log, impatient=Away())
        assert offsets(await assignment.admit(log.deliver(1))) == [1]

    asyncio.run(scenario())


def test_a_gap_is_sought_back_once_a_second_and_never_acked() -> None:
    async def scenario() -> None:
        log = Log(list(range(10)))
        assignment = await assigned(log)
        assert await assignment.admit(log.deliver(5, 6)) == []
        assert await assignment.admit(log.deliver(7)) == []
        assert log.events == [("seek", 0)]
        log.now += 1.5
        assert await assignment.admit(log.deliver(8)) == []
        assert log.events == [("seek", 0), ("seek", 0)]
        assert offsets(await assignment.admit(log.deliver(0, 1))) == [0, 1]

    asyncio.run(scenario())


def test_holes_that_the_fetch_has_shown_cost_nothing() -> None:
    """Markers of transactions, and whole logs of holes that compaction left."""

    async def scenario() -> None:
        log = Log([2, 5, 6, 9])
        assignment = await assigned(log)
        admitted = await assignment.admit(log.deliver(2, 5, 6, 9, after=0))
        assert offsets(admitted) == [2, 5, 6, 9]
        await assignment.settle([position for position, _ in admitted[:3]])
        assert log.events == [("claim", 6), ("ack", 2), ("ack", 5), ("ack", 6)]
        assert log.claims[0].record is not None

    asyncio.run(scenario())


def test_a_hole_is_stepped_over_only_when_it_is_proved() -> None:
    async def scenario() -> None:
        log = Log([7, 8])  # compacted below 7
        assignment = await assigned(log)
        for _ in range(3):
            log.now += 1.5
            assert await assignment.admit(log.deliver(7)) == []
        assert log.events == [("seek", 0), ("seek", 0), ("claim", 6), ("seek", 7)]
        assert log.passed == [6], "the group's offset goes on, too"
        admitted = await assignment.admit(log.deliver(7))
        assert offsets(admitted) == [7]
        await assignment.settle([admitted[0][0]])
        assert log.passed == [6], "what has a record is acked"

    asyncio.run(scenario())


def lost(assignment: Assignment) -> float | None:
    labels = {"topic": "t", "partition": "0"}
    return assignment._metrics.registry.get_sample_value("penstock_records_lost_total", labels)


def test_what_retention_took_is_lost_and_counted_and_what_is_left_enters(caplog: pytest.LogCaptureFixture) -> None:
    """Records 2-5 were fetched by nobody: the consumer goes on at the log's start, 6, which is a gap here."""

    async def scenario() -> None:
        log = Log(list(range(10)))
        assignment = await assigned(log)
        await assignment.admit(log.deliver(0, 1))
        assert lost(assignment) == 0
        log.be([6, 8, 9], begin=6)
        for _ in range(3):
            log.now += 1.5
            assert await assignment.admit(log.deliver(6)) == []
        assert lost(assignment) == 4
        assert ("seek", 6) in log.events
        assert ("claim", 5) not in log.events, "0 and 1 are in work"
        assert offsets(await assignment.admit(log.deliver(6))) == [6]
        assert lost(assignment) == 4

    asyncio.run(scenario())
    (told,) = [row for row in caplog.records if row.levelname == "ERROR"]
    assert (vars(told)["records"], vars(told)["from"], vars(told)["to"]) == (4, 2, 5)


def test_a_log_that_retention_emptied_is_all_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        log = Log([0, 1])
        assignment = await assigned(log)
        log.be([], begin=2)
        log.now += STILL_S + 1
        await assignment.watch()
        assert (lost(assignment), log.claims[0].offset) == (2, 1)
        assert assignment.snapshot()[0]["settled_offset"] == 2

    asyncio.run(scenario())


def test_what_was_lost_while_no_worker_ran_is_counted_once() -> None:
    async def scenario() -> None:
        log = Log([8, 9], begin=8, claims={0: claim(3)})
        assignment = await assigned(log)
        assert (lost(assignment), log.claims[0].offset) == (4, 7)
        assert lost(await assigned(log)) == 0
        assert offsets(await assignment.admit(log.deliver(8))) == [8]
        assert lost(await assigned(Log([8, 9], begin=8))) == 0, "without a claim nothing was promised"
        assert lost(await assigned(Log([8, 9], begin=8, claims={0: claim(3, sink="another index")}))) == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(("indexed", "missing"), [(4, 4), (8, 0), (9, 0)])
def test_an_index_that_was_restored_lacks_what_retention_took_since(indexed: int, missing: int) -> None:
    """No claim holds for it: what it knows itself is older than the log's start."""

    async def scenario() -> None:
        log = Log([8, 9], begin=8, claims={0: claim(7, sink="before the restore")})
        assert lost(await assigned(log, indexed={0: indexed})) == missing
        assert lost(await assigned(log, indexed={0: indexed})) == 0, "counted once"

    asyncio.run(scenario())


@pytest.mark.parametrize("begin", [0, 5])
def test_what_was_lost_of_a_partition_that_only_waited_is_counted_once(begin: int) -> None:
    """It was assigned, nothing of it was settled yet, and retention came before the next assignment."""

    async def scenario() -> None:
        log = Log(list(range(begin, 20)), begin=begin)
        assert lost(await assigned(log)) == 0
        assert (log.begun, log.claims[0].record) == ([("claim", begin - 1)], None)
        log.partitions[0].delete_before(15)
        assert lost(assignment := await assigned(log)) == 15 - begin
        assert lost(await assigned(log)) == 0
        assert offsets(await assignment.admit(log.deliver(15))) == [15]

    asyncio.run(scenario())


def test_what_was_revoked_while_the_log_was_asked_is_stepped_over_by_nobody() -> None:
    async def scenario() -> None:
        log = Log([6, 7], begin=6)
        assignment = await assigned(Log([0, 1]))
        (partition,) = assignment._partitions.values()
        assignment._log = log
        assignment.revoke()
        await assignment._step_over_hole(partition)
        assert (lost(assignment), partition.ledger.expected) == (0, 0)

    asyncio.run(scenario())


def test_records_that_faust_skipped_at_the_end_of_the_log_are_missed() -> None:
    """No higher record comes that would show the gap: the end offset does."""

    async def scenario() -> None:
        log = Log([0, 1])
        assignment = await assigned(log)
        await assignment.watch()
        assert log.events == []
        log.now += STILL_S + 1
        await assignment.watch()
        assert log.events == [("seek", 0)]

    asyncio.run(scenario())


@pytest.mark.parametrize("waits", ["for its turn", "in Faust"])
def test_what_is_on_its_way_is_not_fetched_again(waits: str) -> None:
    """Other partitions are worked first, or the model is slow: a seek would throw away what is fetched already."""

    async def scenario() -> None:
        log = Log([3, 4], handed_over=0)
        assignment = await assigned(log)
        if waits == "in Faust":
            log.handed_over = 5
            assignment._budget.hold(0, 3, 100)
        for _ in range(5):
            log.now += STILL_S + 1
            await assignment.watch()
        assert log.events == [("claim", 2)], "the hole before it is no reason to wait"
        log.now += WAITING_S
        await assignment.watch()
        assert log.events == [("claim", 2), ("seek", 3)]
        log.now += WAITING_S + 1
        await assignment.watch()
        assert log.events == [("claim", 2), ("seek", 3)], "what waits twice as long would be there a third time"
        log.now += WAITING_S
        await assignment.watch()
        assert log.events == [("claim", 2), ("seek", 3), ("seek", 3)]

    asyncio.run(scenario())


def test_what_faust_dropped_is_fetched_again() -> None:
    async def scenario() -> None:
        log = Log([0, 1], handed_over=2)
        assignment = await assigned(log)
        log.now += STILL_S + 1
        await assignment.watch()
        assert log.events == [("seek", 0)]

    asyncio.run(scenario())


def test_void_claims_replay_and_a_replaced_topic_is_refused() -> None:
    async def scenario() -> None:
        other_sink = Log([0, 1, 2], claims={0: claim(1, sink="another index")})
        assert offsets(await (await assigned(other_sink)).admit(other_sink.deliver(0))) == [0]
        shorter = Log([0, 1], claims={0: claim(5)})
        with pytest.raises(RefusedError, match="the log ends at 2"):
            await assigned(shorter)
        different = Log(list(range(9)), claims={0: Claim(offset=5, sink="sink", record=Fingerprint.of(record(77)))})
        with pytest.raises(RefusedError, match="another record is there now"):
            await assigned(different)
        expired = Log([8, 9], begin=8, claims={0: claim(3)})
        assert offsets(await (await assigned(expired)).admit(expired.deliver(8))) == [8]

    asyncio.run(scenario())


def test_what_comes_late_of_a_partition_that_is_not_ours_is_not_held() -> None:
    async def scenario() -> None:
        log = Log(range(10), partitions=2)
        assignment = await assigned(log)
        budget = assignment._budget
        for number in (0, 1):
            budget.hold(number, 0, 500)
        assert [position.offset for position, _ in await assignment.admit(log.deliver(0, partition=1))] == []
        assert (budget.used, budget.holds(0)) == (500, True)

    asyncio.run(scenario())


@pytest.mark.parametrize(("opened", "quiet_s", "held"), [(0, 4, 0), (1, 4, 2000), (0, 2, 2000)])
def test_a_budget_that_is_full_of_what_faust_dropped_holds_nothing_up(opened: int, quiet_s: float, held: int) -> None:
    async def scenario() -> None:
        log = Log(range(10))
        assignment = await assigned(log)
        budget = assignment._budget
        await assignment.admit(log.deliver(*range(opened)))
        budget.hold(0, 5, 2000)
        log.now += quiet_s
        await assignment.watch(paused=True)
        assert budget.used == held

    asyncio.run(scenario())


def test_what_is_in_flight_at_a_revocation_is_not_claimed() -> None:
    async def scenario() -> None:
        log = Log([0, 1])
        assignment = await assigned(log)
        admitted = await assignment.admit(log.deliver(0, 1))
        await assignment.assign([0])
        await assignment.settle([position for position, _ in admitted])
        assert (log.events, log.claims[0].offset) == ([], -1)

    asyncio.run(scenario())


def test_idle_is_not_stalled_and_unknown_lag_is_absent() -> None:
    async def scenario() -> None:
        log = Log([0], claims={0: claim(0)})
        assignment = await assigned(log)
        log.now += 10_000
        await assignment.watch()
        (row,) = assignment.snapshot()
        assert (row["lag"], row["since_progress_s"]) == (0, 0)
        assignment.forget_lag()
        assert assignment.snapshot()[0]["lag"] is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "value", [None, b"", b"garbage", b"[]", b'{"offset": 1}', b'{"offset": "x", "sink": 1, "record": 3}']
)
def test_what_is_no_claim_counts_as_none(value: bytes | None) -> None:
    assert from_bytes(value) is None


def test_a_claim_is_told_what_is_known_of_its_log_though_nothing_comes() -> None:
    """One of an earlier version, of a rebuild, or from before a cut: the index may be lost before the next record."""

    async def scenario() -> None:
        log = Log([0, 1], claims={0: claim(1)})
        history = History(log="cluster/topic", partitions=1, cuts=[])
        for written in ([("claim", 1)], []):
            assignment = await assigned(log, history=history)
            assert from_bytes(to_bytes(log.claims[0])) == replace(claim(1), history=history)
            assert (log.begun, log.events) == (written, [])
        await assignment.watch()
        assert assignment.snapshot()[0]["lag"] == 0

    asyncio.run(scenario())


def test_claims_survive_storage() -> None:
    assert from_bytes(to_bytes(claim(9))) == claim(9)
    assert from_bytes(to_bytes(Claim(offset=9, sink="s", record=None))) == Claim(offset=9, sink="s", record=None)


def test_a_topic_made_anew_is_seen_before_claims_hide_it() -> None:
    """A look since the fetch is enough, while records are written; what is claimed after it names its own record."""

    async def begun() -> tuple[Log, Assignment, list[Position]]:
        log = Log(range(4), claims={0: claim(0)})
        assignment = await assigned(log)
        positions = [position for position, _ in await assignment.admit(log.deliver(1, 2, 3))]
        await assignment.confirm(positions)
        for number in range(4):
            log.partitions[0].records[number] = replace(record(number), value=b"of another log")
        return log, assignment, positions

    async def scenario() -> None:
        log, assignment, positions = await begun()
        with pytest.raises(RefusedError, match="another record is there now"):
            await assignment.confirm(positions)

        log, assignment, positions = await begun()
        await assignment.settle(positions[:1])
        assert log.claims[0] == claim(1)
        with pytest.raises(RefusedError, match="another record is there now"):
            await assignment.settle(positions[1:])
        assert log.claims[0] == claim(1)

        log, assignment, positions = await begun()
        await assignment.settle(positions[1:])  # moves no claim: the next one begins where this did
        with pytest.raises(RefusedError, match="another record is there now"):
            await assignment.settle(positions[:1])
        assert log.claims[0] == claim(0)

    asyncio.run(scenario())


def test_a_claim_that_stays_is_looked_at_once_a_minute() -> None:
    """The broker sends a whole batch for it, of a megabyte perhaps, and an idle worker asks for months."""

    async def scenario() -> None:
        log = Log(range(4), claims={0: claim(0)})
        assignment = await assigned(log)
        positions = [position for position, _ in await assignment.admit(log.deliver(1, 2, 3))]
        await assignment.settle(positions)
        log.asked.clear()
        for _ in range(30):
            await assignment.watch()
            log.now += 2
        assert log.asked == []
        await assignment.watch()
        assert log.asked == [{0: 3}]
        log.partitions[0].records[3] = replace(record(3), value=b"of another log")
        log.now += 59
        await assignment.watch()
        log.now += 1
        with pytest.raises(RefusedError, match="another record is there now"):
            await assignment.watch()

    asyncio.run(scenario())


def test_a_hole_at_the_end_of_the_log_is_proved_and_claimed() -> None:
    """Fault 38: the markers of a transaction are offsets without a record."""

    async def scenario() -> None:
        log = Log([0, 1], markers=2)
        assignment = await assigned(log)
        admitted = await assignment.admit(log.deliver(0, 1))
        await assignment.settle([position for position, _ in admitted])
        log.now += STILL_S + 1
        await assignment.watch()
        assert log.claims[0] == Claim(offset=3, sink="sink", record=None)
        assert ("seek", 4) not in log.events
        await assignment.watch()
        assert assignment.snapshot()[0]["lag"] == 0

    asyncio.run(scenario())


def test_too_many_rejected_records_are_remembered_with_the_claim_and_counted_from_there() -> None:
    async def scenario() -> None:
        log = Log(list(range(8)))
        assignment = await assigned(log, max_ratio=0.002)
        admitted = [position for position, _ in await assignment.admit(log.deliver(*range(8)))]
        await assignment.judge(admitted[:3], [True, True, False])
        await assignment.settle(admitted[:3])
        with pytest.raises(RefusedError, match=r"3 of the last 1,000 records.*penstock dlq resume"):
            await assignment.judge(admitted[3:5], [True, False])
        assert log.claims[0] == replace(claim(2), share=Share(records=5, rejected=3, stopped=True))
        with pytest.raises(RefusedError, match=r"3 of the last 1,000 records"):
            await assigned(log, max_ratio=0.002)  # also one beside it, which gets the partition
        again = await assigned(log, max_ratio=0.004)  # those that are not claimed come again, and count once
        admitted = [position for position, _ in await again.admit(log.deliver(*range(3, 8)))]
        await again.judge(admitted, [True] * 4 + [False])
        await again.settle(admitted)
        assert log.claims[0] == replace(claim(7), share=Share(records=5, rejected=4))

    asyncio.run(scenario())


def test_rejected_records_of_long_ago_stop_nobody() -> None:
    """They lie on partitions that are idle since; what came after them on others was fine."""

    async def scenario() -> None:
        log = Log(range(1000), partitions=3)
        assignment = await assigned(log, max_ratio=0.5, numbers=range(3))

        async def work(partition: int, first: int, records: int, rejected: int) -> None:
            delivered = log.deliver(*range(first, first + records), partition=partition)
            positions = [position for position, _ in await assignment.admit(delivered)]
            await assignment.judge(positions, [number < rejected for number in range(records)])
            await assignment.settle(positions)

        await work(0, 0, 600, 480)
        await work(1, 0, 400, 0)
        await work(2, 0, 600, 480)
        await work(1, 400, 500, 0)
        shares = [log.claims[number].share for number in range(3)]
        assert shares == [Share(), Share(records=0), Share()]
        again = await assigned(log, max_ratio=0.5, numbers=range(3))
        ((position, _),) = await again.admit(log.deliver(900, partition=1))
        await again.judge([position], [False])

    asyncio.run(scenario())


def test_counts_of_several_workers_that_went_on_do_not_add_up_to_a_stop() -> None:
    async def scenario() -> None:
        some = replace(claim(599), share=Share(records=600, rejected=480))
        log = Log(range(601), partitions=2, claims={0: some, 1: some})
        assignment = await assigned(log, max_ratio=0.5, numbers=range(2))
        assert [log.claims[number].share for number in range(2)] == [Share(), Share()]
        ((position, _),) = await assignment.admit(log.deliver(600, partition=1))
        await assignment.judge([position], [False])

    asyncio.run(scenario())


@pytest.mark.parametrize("timestamp_ms", [-1, -(2**63), 2**63 - 1, 1_700_000_000_000_000, 1_700_000_000_000_000_001])
def test_a_timestamp_that_is_no_moment_is_no_age_and_no_other_record(timestamp_ms: int) -> None:
    async def scenario() -> None:
        log = Log([0])
        assignment = await assigned(log)
        ((plain, after, event),) = log.deliver(0)
        odd = replace(plain, timestamp_ms=timestamp_ms)
        ((position, _),) = await assignment.admit([(odd, after, event)])
        await assignment.watch(paused=True)
        await assignment.settle([position])
        labels = {"topic": "t", "partition": "0"}
        value = assignment._metrics.registry.get_sample_value
        assert value("penstock_oldest_unsettled_age_seconds", labels) is None
        assert value("penstock_end_to_end_seconds_count", labels) == 0
        assert from_bytes(to_bytes(log.claims[0])) == replace(claim(0), record=Fingerprint.of(odd))

    asyncio.run(scenario())


def test_the_oldest_unsettled_record_has_an_age_when_it_is_known() -> None:
    async def scenario() -> None:
        log = Log([0, 1, 2])
        assignment = await assigned(log)

        def age() -> float | None:
            labels = {"topic": "t", "partition": "0"}
            return assignment._metrics.registry.get_sample_value("penstock_oldest_unsettled_age_seconds", labels)

        await assignment.watch(paused=True)
        assert age() is None, "not fetched yet"
        began = time.time()
        admitted = await assignment.admit(log.deliver(0, 1))
        await assignment.watch(paused=True)
        known = age()
        assert known is not None
        assert began - 1 <= known <= time.time() + 1  # published when the clock began
        await assignment.settle([position for position, _ in admitted])
        await assignment.watch(paused=True)
        assert age() is None
        admitted = await assignment.admit(log.deliver(2))
        await assignment.settle([position for position, _ in admitted])
        await assignment.watch(paused=True)
        assert age() == 0
        assignment.forget_lag()
        assert age() is None

    asyncio.run(scenario())


def spent(cost: int, day: str = "2026-11-30") -> Spend:
    return Spend.of([Row(day, "m", "default", "s", cost, 1, 1)])


def test_what_was_spent_is_in_the_first_claim_that_covers_its_record_and_in_no_other() -> None:
    async def scenario() -> None:
        log = Log([0, 1, 2, 3])
        assignment = await assigned(log)
        positions = [position for position, _ in await assignment.admit(log.deliver(0, 1, 2, 3))]
        await assignment.settle(positions[1:3], [spent(20), NOTHING_SPENT])
        assert log.claims[0].spend == NOTHING_SPENT
        assert (assignment.spends(), assignment.claimed.total()) == ({0: NOTHING_SPENT}, 0)
        await assignment.settle(positions[:1], [spent(1)])
        assert (log.claims[0].offset, log.claims[0].spend.cost) == (2, 21)
        assert (assignment.spends()[0].cost, assignment.claimed) == (21, {"2026-11-30": 21})
        await assignment.settle(positions[:1], [spent(1)])  # twice is harmless
        await assignment.settle(positions[3:], [spent(300)])
        assert (log.claims[0].offset, log.claims[0].spend.cost) == (3, 321)

    asyncio.run(scenario())


def test_what_was_spent_outlives_rebalances_and_claims_that_are_void() -> None:
    async def scenario() -> None:
        log = Log([0, 1, 2], claims={0: replace(claim(0), spend=spent(5))})
        assignment = await assigned(log)
        (position, _), _ = await assignment.admit(log.deliver(1, 2))
        await assignment.settle([position], [spent(10)])
        await assignment.assign([0])
        (position, _) = (await assignment.admit(log.deliver(2)))[0]
        assignment.revoke()
        await assignment.settle([position], [spent(100)])  # of a partition that went: its next owner replays it
        assert log.claims[0].spend.cost == 15
        log.claims[0] = replace(log.claims[0], sink="another")
        await assigned(log)
        assert (log.claims[0].offset, log.claims[0].sink, log.claims[0].spend.cost) == (-1, "sink", 15)

    asyncio.run(scenario())


def test_a_claim_of_what_is_rejected_takes_nothing_from_what_was_spent() -> None:
    async def scenario() -> None:
        log = Log([0, 1], claims={0: replace(claim(0), spend=spent(5))})
        assignment = await assigned(log, max_ratio=0.0)
        (position, _) = (await assignment.admit(log.deliver(1)))[0]
        with pytest.raises(RefusedError):
            await assignment.judge([position], [True])
        assert (log.claims[0].share.rejected, log.claims[0].spend.cost) == (1, 5)

    asyncio.run(scenario())


def test_a_claim_that_was_lowered_is_written_again_but_never_behind_a_newer_one() -> None:
    async def scenario() -> None:
        log = Log([0, 1, 2], claims={0: claim(0)}, partitions=2)
        assignment = await assigned(log)
        (one, _), (two, _) = await assignment.admit(log.deliver(1, 2))
        await assignment.settle([one])
        log.events.clear()
        await assignment.claim_again([0, 1])
        assert log.events == [("claim", 1)], "the other partition is not ours"
        write, begun, go_on = log.write, asyncio.Event(), asyncio.Event()

        async def slowly(partition: int, made: Claim) -> None:
            begun.set()
            await go_on.wait()
            await write(partition, made)

        log.write = slowly  # type: ignore[method-assign,assignment]
        claiming = asyncio.create_task(assignment.settle([two]))
        await begun.wait()
        log.events.clear()
        await asyncio.wait_for(assignment.claim_again([0]), 5)
        go_on.set()
        await claiming
        assert log.events == [("claim", 2), ("ack", 2)]

    asyncio.run(scenario())


def test_a_late_claim_of_another_worker_takes_no_spend_from_who_is_assigned_again() -> None:
    spent = Spend((Row("2026-11-30", "m", "default", "s", 7, 1, 1),))
    more = Spend((Row("2026-11-30", "m", "default", "s", 9, 1, 1), Row("2026-12-01", "m", "default", "s", 2, 1, 1)))

    async def scenario() -> None:
        for late, start, cost in (
            (claim(0), 1, 7),
            (replace(claim(1), spend=Spend(spent.rows[:0])), 2, 7),
            (replace(claim(2), spend=more), 3, 11),
            (replace(claim(0), sink="another"), 0, 0),
        ):
            log = Log([0, 1, 2], claims={0: claim(0)})
            assignment = await assigned(log)
            ((one, _),) = await assignment.admit(log.deliver(1))
            await assignment.settle([one], [spent])
            await log.write(0, late)
            assignment.revoke()
            await assignment.assign([0])
            assert assignment.snapshot()[0]["settled_offset"] == start
            assert assignment.spends()[0].cost == cost
            assert log.claims[0].spend.cost == cost, "and that is claimed"

    asyncio.run(scenario())
