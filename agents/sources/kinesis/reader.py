"""Reads one shard, from its checkpoint to its end, at the pace that Kinesis allows."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from agents.sources.kinesis import (
    Checkpoint,
    Described,
    ExpiredError,
    Given,
    Missed,
    NoShardError,
    Page,
    Place,
    Shard,
    Stream,
    ThrottledError,
    TrimmedError,
)
from agents.sources.kinesis.documents import Incoming, Naming, incoming
from agents.sources.kinesis.pace import Pace
from agents.sources.kinesis.shards import gap, gone
from streams.errors import AwayError

LIMIT = 1000
"""Records of a page: at five pages a second five times what may be put into a shard."""
NEAR_MS = 600_000
"""Before retention takes what is read next, twice as long as an iterator lives: each page is proved then."""
SHARE_OF_RETENTION = 24
"""So often in a retention it is remembered that an idle shard was seen to its end."""
TRIES = 5
"""Of a request that a server does not answer, before its reader gives up."""


class Records:
    """Of a batch, each made when it is asked for: an aggregate has thousands. `head`: the next, None at the end."""

    def __init__(self, found: Iterable[Incoming] = ()) -> None:
        self._found = iter(found)
        self.head = next(self._found, None)

    def step(self) -> None:
        """To the one behind the head."""
        self.head = next(self._found, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of a shard in their order, and how far it is read with all of them, or None when nobody asks any more.

    `over`: there is no more at this moment. `rows`: others to write with it. `held`: it holds a slot.
    """

    shard: str
    at: Checkpoint | None
    records: Records = field(default_factory=Records)
    missed: tuple[Missed, ...] = ()
    rows: dict[bytes, bytes | None] = field(default_factory=dict)
    over: bool = False
    held: bool = False


class ShardReader:
    """Of one shard. What it has read, and is not published yet, holds one of the `slots`: that bounds memory."""

    def __init__(
        self,
        shard: str,
        at: Checkpoint,
        from_ms: int | None,
        *,
        stream: Stream,
        slots: asyncio.Semaphore,
        naming: Naming,
        pace: Pace,
        described: Callable[[], Described],
        listed: Callable[[], Awaitable[Mapping[str, Shard]]],
    ) -> None:
        """`from_ms`: where a shard without a sequence is begun with. `described`: as the stream was when last asked.

        `listed`: asks which shards there are. Raises MadeAnewError where they are those of another stream by now.
        """
        self.behind_ms = 0
        self._shard = shard
        self._at = self._told = at
        self._from_ms = from_ms
        self._stream = stream
        self._slots = slots
        self._naming = naming
        self._pace = pace
        self._described = described
        self._listed = listed
        self._iterator: str | None = None
        self._unproved: Checkpoint | None = None

    async def read(self, put: Callable[[Batch], None], *, once: bool) -> None:
        """To its end; `once`: or until there is no more at this moment.

        Raises AwayError when Kinesis does not answer for long, MadeAnewError when the stream is another one by now,
        PenstockError when it refuses.
        """
        while True:
            page = await self._next()
            if page is None:
                now = self._described()
                missed = gone(self._shard, self._at, now.now_ms, now.retention_ms)
                put(Batch(shard=self._shard, at=replace(self._at, ended=True), missed=(missed,), over=True))
                return
            batch = self._batch(page)
            if batch.held or batch.missed or (batch.over and (once or page.iterator is None)) or self._is_late():
                self._told = self._at
                put(batch)
            if not batch.held:
                self._slots.release()
            if page.iterator is None or (once and batch.over):
                return
            await asyncio.sleep(self._pace.after_page_s(page.size, over=batch.over))

    async def _next(self) -> Page | None:
        """Holding a slot; without one, and None, where the shard is gone. Backs off without one."""
        refused = away = 0
        while True:
            try:
                return await self._held_page()
            except ThrottledError:
                refused += 1
            except ExpiredError:
                refused += 1
                self._iterator = None
            except NoShardError as exc:
                if self._shard not in await self._listed():
                    return None
                away += 1
                if away == TRIES:
                    raise AwayError(f"{self._shard} is listed, but the server does not find it") from exc
                self._iterator = None
            except AwayError:
                away += 1
                if away == TRIES:
                    raise
            await asyncio.sleep(self._pace.after_refusal_s(refused + away))

    async def _held_page(self) -> Page:
        """It holds a slot, and no error does."""
        await self._slots.acquire()
        try:
            return await self._page()
        except BaseException:
            self._slots.release()
            raise

    async def _page(self) -> Page:
        if self._iterator is not None:
            try:
                return await self._stream.page(self._iterator, LIMIT)
            except ExpiredError:  # while it waited for a slot, which it keeps
                self._iterator = None
        self._iterator = await self._found()
        self._unproved = self._at if self._at.sequence is not None or self._at.seen_ms is not None else None
        return await self._stream.page(self._iterator, LIMIT)

    async def _found(self) -> str:
        """An iterator at the record that was read last, which proves that nothing behind it is gone."""
        sequence = self._at.sequence
        place = Place(sequence=sequence, at_ms=self._from_ms if sequence is None else None)
        try:
            return await self._stream.iterator(self._shard, place)
        except TrimmedError as exc:
            if sequence is None:
                raise AwayError(f"{self._shard} cannot be read from the moment of --from yet: is it ahead?") from exc
            await self._listed()  # of another stream than it was nothing is to be read yet
            return await self._stream.iterator(self._shard, Place())

    def _batch(self, page: Page) -> Batch:
        """What is new of a page; the next one is asked for behind it."""
        before, ended = self._at, page.iterator is None
        over = ended or (page.behind_ms == 0 and len(page.records) < LIMIT)
        missed = None
        if self._unproved and (page.records or over):
            first = (page.records[0].sequence, page.records[0].arrived_ms) if page.records else None
            missed = gap(self._shard, self._unproved, first, page.now_ms, self._described().retention_ms)
            self._unproved = None
        records = Records(record for given in page.records for record in self._left(given, before))
        last = page.records[-1] if page.records else None
        at = Checkpoint(sequence=last.sequence, arrived_ms=last.arrived_ms) if last else before
        seen_ms = page.now_ms if over else last.arrived_ms if last else None
        self._at = replace(at, seen_ms=max(filter(None, (seen_ms, before.seen_ms)), default=None), ended=ended)
        self.behind_ms = page.behind_ms
        self._iterator = None if self._is_near(page.now_ms) else page.iterator
        return Batch(
            shard=self._shard,
            at=self._at,
            records=records,
            missed=(missed,) if missed else (),
            over=over,
            held=records.head is not None,
        )

    def _left(self, given: Given, at: Checkpoint) -> Iterator[Incoming]:
        """Of a record, what was not read before."""
        if given.sequence != at.sequence:
            yield from incoming(self._shard, given, self._naming)
        elif at.sub is not None:
            found = incoming(self._shard, given, self._naming)
            yield from (one for one in found if one.sub is not None and one.sub > at.sub)

    def _is_near(self, now_ms: int) -> bool:
        return self._at.seen_ms is not None and self._at.seen_ms < now_ms - self._described().retention_ms + NEAR_MS

    def _is_late(self) -> bool:
        """Whether what is remembered of an idle shard is old."""
        if self._at.seen_ms is None or self._told.seen_ms is None:
            return self._at.seen_ms != self._told.seen_ms
        return self._at.seen_ms - self._told.seen_ms > self._described().retention_ms / SHARE_OF_RETENTION
