"""Faust's consumer, with what Faust has no setting for: committed records only, a budget of bytes, exact times."""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from mode.services import WaitResults

from agents.kafka.batches import read_as_it_is
from agents.worker.membership import name_all_errors

LOOK_EVERY_S = 1.0
"""For partitions to fetch, such as those of a table that is recovered."""


class _Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust is untyped here
    def _create_worker_consumer(self, transport: Any) -> Any:
        read_as_it_is()
        name_all_errors()
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # Faust sets it for its own transactions only
        return consumer

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Nothing. Faust calls a partition whose records wait behind those of others for five minutes a livelock, in
        thirteen lines, at each fetch; the watchdog looks at what the worker claims, and the lag is there by partition.
        """

    def take_group_error(self) -> BaseException | None:
        """What the group's coordinator waits with until somebody takes it; it tries again then. None without one."""
        coordinator = getattr(self._consumer, "_coordinator", None)
        if coordinator is None:
            return None
        task, error = coordinator._coordination_task, coordinator._pending_exception
        if task.done() and not task.cancelled() and task.exception():
            return task.exception()  # type: ignore[no-any-return]  # of a task that does not go on
        if error is not None:
            self.thread_loop.call_soon_threadsafe(_take, coordinator)
        return error  # type: ignore[no-any-return]


def _take(coordinator: Any) -> None:
    with suppress(KafkaError):
        coordinator.check_errors()


class Begun:
    """A coroutine that runs here until it waits for something, or ends; who awaits this runs the rest.

    What it does until then may not depend on the task that it is in. Raises what the coroutine raises.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._waits_for: Any = None
        self.ended = False
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration:
            self.ended = True

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            while not self.ended:
                try:
                    yield self._waits_for
                except BaseException as exc:  # noqa: BLE001 - a cancellation, which is the coroutine's
                    self._waits_for = self._coroutine.throw(exc)
                else:
                    self._waits_for = self._coroutine.send(None)
        except StopIteration:
            self.ended = True


class Consumer(driver.Consumer):  # type: ignore[misc]
    """What an aborted transaction published is never seen; every record is counted as it comes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.deliver: Any = self.callback  # type: ignore[has-type]
        self.callback = self.count_and_deliver

    def count_and_deliver(self, message: Any) -> Begun:
        """To whom Faust has for its partition; mostly that is done at once."""
        return Begun(self._count_and_deliver(message))

    async def _count_and_deliver(self, message: Any) -> None:
        """In a stop there may be nobody any more.

        A rebalance in the midst of it takes partitions away whose records are fetched already: Faust's KeyError would
        end the process before it has drained, with 1. Nothing is begun then, and whoever has the partition reads it.
        """
        self.app.flow.fetched(self, message)
        try:
            await self.deliver(message)
        except KeyError:
            if not self.app.should_stop:
                raise

    async def wait_first(self, *awaited: Any, timeout: Any = None) -> Any:
        """Faust delivers each record within this, and makes four tasks of it: a tenth of the event loop's time, where
        nothing is left to wait for."""
        first, *others = awaited
        if isinstance(first, Begun) and first.ended:
            for other in filter(asyncio.iscoroutine, others):
                other.close()
            return WaitResults([first], [None], self.should_stop)
        return await super().wait_first(*awaited, timeout=timeout)

    def take_group_error(self) -> BaseException | None:
        """Why the group does not take this worker, once; None while nothing is known against it."""
        return self._thread.take_group_error()  # type: ignore[no-any-return]

    async def _wait_next_records(self, timeout: float) -> Any:
        """Faust sleeps for a second when every partition is paused; the flow knows when one is not any more."""
        if self.flow_active and not self.app.flow.open.is_set() and not self._get_active_partitions():
            await self.wait(self.app.flow.open, timeout=LOOK_EVERY_S)
            return {}, set()
        return await super()._wait_next_records(timeout)

    def _to_message(self, tp: Any, record: Any) -> Any:
        message = super()._to_message(tp, record)
        message.timestamp_ms = record.timestamp  # Faust's own is a float of seconds, which holds no large integer
        message.after = record.after
        return message

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Nothing. Faust notes every hole, to list each of its offsets as acked: gigabytes, for a compacted topic."""

    def _new_offset(self, tp: Any) -> int | None:
        """To commit: past the newest that is acked. Only what a claim covers is, and so is all that is below it.

        Faust waits for the offset after its last commit, which may be a hole or lost: for ever, with a list that grows.
        """
        acked = self._acked[tp]
        if not acked:
            return None
        newest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return int(newest) + 1

    def pass_over(self, tp: Any, offset: int) -> None:
        """Commit up to this offset, which no record has: a hole that ends the log is acked by nobody."""
        self._acked[tp].append(offset)

    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)
