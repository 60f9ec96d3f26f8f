"""From the shards of a stream into the source topic: records, and how far each shard is, in one transaction.

Every shard has a reader. What they read is published in the order in which it was read, and a child begins when the end
of its parents is committed. Killed at any moment, it is gone on with by the next run.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Literal

from agents.sources.collecting import BATCH_BYTES
from agents.sources.kinesis import Checkpoint, Described, MadeAnewError, Missed, Shard, Stream, Summary
from agents.sources.kinesis.documents import Incoming, Naming
from agents.sources.kinesis.memory import Begun, Remembered, missed_row, remembered, shard_row, stream_row
from agents.sources.kinesis.pace import Pace
from agents.sources.kinesis.reader import Batch, ShardReader
from agents.sources.kinesis.shards import UNSEEN, forgettable, gone, made_anew, never_read, readable, revived
from agents.sources.publish import Passed, Transactions, size_of
from agents.sources.state import State
from streams.errors import AwayError, ConfigError

logger = logging.getLogger(__name__)

SLOTS = 8
"""Pages that are asked for, or read and not published, at most: 10 MB each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`start`: of a stream that was never seen: all of it, what comes from now on, or what came since (epoch ms).

    `once`: until there is no more at this moment. `forget`: what was missed till now is not listed any more.
    `partitions`: of a source topic that is made now.
    """

    start: Literal["trim-horizon", "latest"] | int = "trim-horizon"
    once: bool = False
    forget: bool = False
    naming: Naming = field(default_factory=Naming)
    max_lag: int = 10_000
    partitions: int = 8


class Bridge:
    """Of one stream, for one connection to Kafka."""

    def __init__(
        self, stream: Stream, to: Transactions, state: State, options: Options, summary: Summary, pace: Pace
    ) -> None:
        """`state`: read when nobody else publishes for this stream any more."""
        self._stream = stream
        self._to = to
        self._state = state
        self._options = options
        self._summary = summary
        self._pace = pace
        self._slots = asyncio.Semaphore(SLOTS)
        self._queue: asyncio.Queue[Batch] = asyncio.Queue()
        self._head: Batch | None = None
        self._changed = asyncio.Event()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._shards: dict[str, Shard] = {}
        self._readers: dict[str, ShardReader] = {}
        self._over: set[str] = set()
        self._source = ""
        self._begun = Begun(made_ms=0, from_ms=None, looked_ms=0)
        self._described = Described(name="", made_ms=0, retention_ms=0, now_ms=0)

    async def run(self) -> None:
        """Until cancelled; `once`: until all shards are read up to now.

        Raises AwayError when Kafka or Kinesis is away: the next run goes on. Raises MadeAnewError when the stream was
        made anew meanwhile: the next run begins anew. Raises PenstockError where one refuses, or somebody else has
        begun to publish for this stream.
        """
        await self._begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                publishing = tasks.create_task(uncancelled(self._publish_all))
                while not self._is_done():
                    for shard in readable(self._shards, self._checkpoints):
                        if shard not in self._readers:
                            read = partial(self._reader(shard).read, self._put, once=self._options.once)
                            tasks.create_task(uncancelled(read))
                    await self._wait()
                    await self._look()
                await self._queue.join()
                publishing.cancel()
        except BaseExceptionGroup as group:
            raise _worst(group) from None

    async def _begin(self) -> None:
        """Compare what is remembered with what is there, and queue what has to be written before anything else."""
        self._described = await self._stream.describe()
        self._source = self._described.name
        told = remembered(self._state.stream_rows(self._source), self._state.log)
        rows: dict[bytes, bytes | None] = dict.fromkeys(told.void)
        if self._options.forget:
            rows |= dict.fromkeys(told.missed)
            told.missed.clear()
        self._summary.missed[:] = told.missed.values()
        missed = self._go_on(told, rows)
        self._checkpoints = told.checkpoints
        self._queue.put_nowait(Batch(shard="", at=None, rows=rows, missed=tuple(missed)))
        await self._look(first=not told.checkpoints)

    def _go_on(self, told: Remembered, rows: dict[bytes, bytes | None]) -> Iterable[Missed]:
        """From where it was; or from the beginning, where it is another stream or another topic than then."""
        made_ms, now_ms, missed = self._described.made_ms, self._described.now_ms, list[Missed]()
        if told.begun is None:
            from_ms = None if told.anew else self._start_ms()
            self._begun = Begun(made_ms=made_ms, from_ms=from_ms, looked_ms=now_ms)
            if told.anew:
                logger.warning("the source topic was made anew: all of the stream is published again")
        elif told.begun.made_ms == made_ms:
            self._begun = told.begun
        else:
            self._begun = Begun(made_ms=made_ms, from_ms=None, looked_ms=now_ms)
            missed += made_anew(told.checkpoints, made_ms)
            rows |= dict(shard_row(self._source, shard, None, self._state.log) for shard in told.checkpoints)
            told.checkpoints.clear()
            logger.warning("the stream was made anew: all of it is published")
        return missed

    def _start_ms(self) -> int | None:
        start, now_ms = self._options.start, self._described.now_ms
        if isinstance(start, int) and start > now_ms:
            raise ConfigError("--from is a moment to come: choose one that has passed, or --from latest")
        return start if isinstance(start, int) else now_ms if start == "latest" else None

    async def _look(self, *, first: bool = False) -> None:
        """At the shards that there are now. `first`: at a stream of which nothing was read."""
        self._shards = await self._listed()
        now_ms, retention_ms = self._described.now_ms, self._described.retention_ms
        for shard in [] if first else never_read(self._shards, self._checkpoints):
            unseen = gone(shard, Checkpoint(seen_ms=self._begun.looked_ms), now_ms, retention_ms, UNSEEN)
            self._put(Batch(shard=shard, at=None, missed=(unseen,)))
        for shard in sorted(self._shards.keys() - self._checkpoints.keys()):
            self._checkpoints[shard] = Checkpoint(seen_ms=None if first else self._begun.looked_ms)
            self._put(Batch(shard=shard, at=self._checkpoints[shard]))
        for shard, checkpoint in revived(self._shards, self._checkpoints).items():
            logger.warning("a shard that was said to be read to its end is open", extra={"shard": shard})
            self._checkpoints[shard] = checkpoint
            self._over.discard(shard)
            self._put(Batch(shard=shard, at=checkpoint))
        for shard in forgettable(self._shards, self._checkpoints):
            del self._checkpoints[shard]
            self._put(Batch(shard=shard, at=None))
        self._begun = replace(self._begun, looked_ms=now_ms)
        self._put(Batch(shard="", at=None, rows=dict([stream_row(self._source, self._begun, self._state.log)])))

    async def _listed(self) -> dict[str, Shard]:
        """The shards that there are, by name. Raises MadeAnewError where the stream is not the one it was."""
        shards = {shard.id: shard for shard in await self._stream.shards()}
        self._described = await self._stream.describe()
        if self._described.made_ms != self._begun.made_ms:
            raise MadeAnewError(f"{self._source} was deleted and made anew: run it again, it begins anew")
        return shards

    def _put(self, batch: Batch) -> None:
        self._queue.put_nowait(batch)

    async def _wait(self) -> None:
        """Until a shard is read to its end, `once` all are up to now, or it is time for another list."""
        try:
            async with asyncio.timeout(self._pace.list_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _is_done(self) -> bool:
        left = (name for name, checkpoint in self._checkpoints.items() if not checkpoint.ended)
        return self._options.once and self._over.issuperset(left)

    def _reader(self, shard: str) -> ShardReader:
        self._readers[shard] = ShardReader(
            shard,
            self._checkpoints[shard],
            self._begun.from_ms,
            stream=self._stream,
            slots=self._slots,
            naming=self._options.naming,
            pace=self._pace,
            described=lambda: self._described,
            listed=self._listed,
        )
        return self._readers[shard]

    async def _publish_all(self) -> None:
        """Whatever is in the queue, as it comes, in transactions of some size."""
        while True:
            records: list[Incoming] = []
            rows: dict[bytes, bytes | None] = {}
            missed: list[Missed] = []
            done: list[Batch] = []
            size = 0
            batch: Batch | None = self._head or await self._queue.get()
            while batch:
                taken: Incoming | None = None
                while (record := batch.records.head) and len(records) < self._to.many and size < BATCH_BYTES:
                    records.append(record)
                    size += size_of(record.outgoing) if record.outgoing else 0
                    taken = record
                    batch.records.step()
                rows |= self._rows(batch, taken)
                missed += batch.missed
                if batch.records.head:  # the rest is for the next one
                    self._head = replace(batch, missed=(), rows={})
                    break
                self._head = None
                done.append(batch)
                batch = None if self._queue.empty() else self._queue.get_nowait()
            missed += (_refused(record) for record in records if record.outgoing is None)
            rows |= [missed_row(self._source, one) for one in missed]
            changes = [Passed(outgoing=record.outgoing) for record in records if record.outgoing]
            await self._to.publish(changes, list(rows.items()))
            self._tell(records, missed)
            for one in done:
                self._committed(one)

    def _rows(self, batch: Batch, last: Incoming | None) -> dict[bytes, bytes | None]:
        """How far its shard is with what was taken of it, `last` the last."""
        rows, log = dict(batch.rows), self._state.log
        if batch.records.head is None:
            if batch.shard:
                rows |= [shard_row(self._source, batch.shard, batch.at, log)]
        elif last:
            at = Checkpoint(
                sequence=last.sequence,
                sub=None if last.last else last.sub,
                arrived_ms=last.arrived_ms,
                seen_ms=last.arrived_ms,
            )
            rows |= [shard_row(self._source, batch.shard, at, log)]
        return rows

    def _committed(self, batch: Batch) -> None:
        """All of a batch is: its slot is free, and what waited for it may go on."""
        self._queue.task_done()
        if batch.held:
            self._slots.release()
        if batch.shard and batch.at:
            self._checkpoints[batch.shard] = batch.at
            if batch.over:
                self._over.add(batch.shard)
            if batch.at.ended:
                self._readers.pop(batch.shard, None)
            if batch.at.ended or self._is_done():
                self._changed.set()

    def _tell(self, records: list[Incoming], missed: list[Missed]) -> None:
        """What was committed: counted, and what is wrong with it, logged."""
        bad = [record for record in records if record.reason and record.outgoing]
        self._summary.published += sum(1 for record in records if record.outgoing)
        self._summary.rejected += len(bad)
        self._summary.missed += missed
        self._summary.shards = len(self._readers)
        self._summary.behind_ms = max((reader.behind_ms for reader in self._readers.values()), default=0)
        self._summary.up_to_s = time.time() - self._summary.behind_ms / 1000
        if bad and bad[0].outgoing:
            first = {"first": bad[0].outgoing.origin, "reason": bad[0].reason}
            logger.warning("records that are no documents", extra={"count": len(bad), **first})
        for one in missed:
            logger.error("not published, to be sent again", extra=asdict(one))


async def uncancelled(work: Callable[[], Awaitable[None]]) -> None:
    """Raises AwayError where a library cancelled what it was to answer, as clients do with a connection that breaks.

    To a task group, and to a signal's handler, that looks like an end that was asked for.
    """
    try:
        await work()
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise AwayError("a connection was given up while an answer was waited for") from exc


def _refused(record: Incoming) -> Missed:
    return Missed(shard=record.shard, reason=record.reason or "", sequence=record.sequence, sub=record.sub)


def _worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what ended it: what is not over by itself, if anything is not."""
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        else:
            leaves.append(one)
    return next((one for one in leaves if not isinstance(one, AwayError)), leaves[0])
