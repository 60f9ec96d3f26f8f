"""A record as Faust's consumer hands it on is the record as the broker gave it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from agents.kafka.reader import record_of
from agents.worker.app import _record
from agents.worker.consumer import Begun, Consumer, _Thread


@pytest.mark.parametrize(
    "timestamp", [-1, 0, 1_700_000_000_123, 1_700_000_000_000_000_001, 2**53 + 1, 2**63 - 1, -(2**63)]
)
def test_timestamps_of_any_size_are_kept_exactly(timestamp: int) -> None:
    """A claim holds the last record's timestamp: one that differs from the log's is refused at the next start."""
    consumer = object.__new__(Consumer)
    consumer.app = SimpleNamespace(consumer_generation_id=1)
    row = ConsumerRecord("t", 0, 7, timestamp, 0, b"k", b"v", None, 1, 1, (("h", b"1"),))
    row.after = 5
    message = consumer._to_message(TP("t", 0), row)
    assert (_record(message), message.after) == (record_of(row), 5)


@pytest.mark.parametrize("acked", [[7, 8, 9], [9], [2_000, 9, 2_001], [10**12, 5]])
def test_what_is_committed_follows_what_is_acked_over_every_hole(acked: list[int]) -> None:
    """Of transactions, of compaction (a million million offsets), and of what retention took; nothing is kept."""
    consumer, tp = object.__new__(Consumer), TP("t", 0)
    consumer._committed_offset = {tp: 7}
    consumer._acked, consumer._acked_index = {tp: list(acked)}, {tp: set(acked)}
    asyncio.run(consumer._add_gap(tp, 10, 10**12))
    assert consumer._new_offset(tp) == max(acked) + 1
    assert (consumer._acked, consumer._acked_index, consumer._new_offset(tp)) == ({tp: []}, {tp: set()}, None)


@pytest.mark.parametrize(("thread_class", "errors"), [(AIOKafkaConsumerThread, 1), (_Thread, 0)])
def test_a_partition_that_waits_behind_others_is_no_livelock(thread_class: Any, errors: int) -> None:
    """With a backlog on several partitions one may wait for minutes: no error a fetch, to be reported as a bug."""
    now, tp, told = 1000.0, TP("t", 0), list[str]()
    state = SimpleNamespace(timestamp=now * 1000, highwater=10, position=5)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    thread = object.__new__(thread_class)
    thread._consumer = SimpleNamespace(_fetcher=SimpleNamespace(_subscriptions=subscriptions))
    thread.consumer = SimpleNamespace(
        app=SimpleNamespace(
            monitor=SimpleNamespace(stream_inbound_time={tp: now - 1}),
            topics=SimpleNamespace(acks_enabled_for=lambda _: True),
            conf=SimpleNamespace(broker_commit_livelock_soft_timeout=300.0),
        )
    )
    thread.log = SimpleNamespace(error=lambda message, *_: told.append(message))
    thread.time_started, thread.tp_last_committed_at = 0.0, {tp: now - 480}
    thread.tp_fetch_request_timeout_secs = thread.tp_stream_timeout_secs = thread.tp_commit_timeout_secs = 300.0
    thread.verify_event_path(now, tp)
    assert len(told) == errors


@pytest.mark.parametrize("stopping", [True, False])
def test_a_partition_that_a_rebalance_took_is_no_crash_of_a_stop(stopping: bool) -> None:
    counted = list[object]()

    async def deliver(message: Any) -> None:
        raise KeyError(message.tp)

    consumer = object.__new__(Consumer)
    flow = SimpleNamespace(fetched=lambda _, message: counted.append(message))
    consumer.app = SimpleNamespace(flow=flow, should_stop=stopping)
    consumer.deliver = deliver
    message = SimpleNamespace(tp=TP("claims-changelog", 5))
    if stopping:
        consumer.count_and_deliver(message)
    else:
        with pytest.raises(KeyError):
            consumer.count_and_deliver(message)
    assert counted == [message]


async def steps(gate: asyncio.Event, told: list[str]) -> None:
    told.append("begun")
    try:
        await gate.wait()
        await asyncio.sleep(0)
        told.append("ended")
    finally:
        await asyncio.sleep(0)
        told.append("tidied up")


def test_what_has_to_wait_goes_on_in_whoever_awaits_it() -> None:
    async def scenario() -> None:
        gate, told = asyncio.Event(), list[str]()
        begun = Begun(steps(gate, told))
        assert (begun.ended, told) == (False, ["begun"])
        task = asyncio.ensure_future(begun)
        await asyncio.sleep(0)
        gate.set()
        await task
        assert (begun.ended, told) == (True, ["begun", "ended", "tidied up"])

        gate.clear()
        told.clear()
        task = asyncio.ensure_future(Begun(steps(gate, told)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told == ["begun", "tidied up"]

        gate.set()
        told.clear()
        await Begun(steps(gate, told))
        assert told == ["begun", "ended", "tidied up"]

    asyncio.run(scenario())


def test_a_record_that_is_delivered_at_once_makes_no_task_and_a_failure_is_raised() -> None:
    async def scenario() -> None:
        delivered, gate = list[Any](), asyncio.Event()

        async def deliver(message: Any) -> None:
            if message == "lost":
                raise KeyError(message)
            if message == "later":
                await gate.wait()
            delivered.append(message)

        consumer = object.__new__(Consumer)
        stopping = SimpleNamespace(should_stop=False, flow=SimpleNamespace(fetched=lambda *_: None))
        consumer.app, consumer.deliver = stopping, deliver
        consumer._stopped, consumer._crashed = asyncio.Event(), asyncio.Event()
        consumer.loop = asyncio.get_running_loop()
        suspended = asyncio.Event()
        await consumer.wait_first(consumer.count_and_deliver("at once"), suspended.wait())
        assert (delivered, len(asyncio.all_tasks())) == (["at once"], 1)

        waiting = asyncio.ensure_future(consumer.wait_first(consumer.count_and_deliver("later"), suspended.wait()))
        await asyncio.sleep(0)
        assert delivered == ["at once"]
        gate.set()
        await waiting
        assert delivered == ["at once", "later"]

        gate.clear()
        waiting = asyncio.ensure_future(consumer.wait_first(consumer.count_and_deliver("later"), suspended.wait()))
        await asyncio.sleep(0)
        suspended.set()  # a rebalance: whoever has the partition then reads it again
        await waiting
        assert delivered == ["at once", "later"]

        with pytest.raises(KeyError):
            consumer.count_and_deliver("lost")
        stopping.should_stop = True
        await consumer.wait_first(consumer.count_and_deliver("lost"), suspended.wait())

    asyncio.run(scenario())
