"""The budget of a day, of the whole fleet: what others spent, what this worker may still spend, the wait for tomorrow.

    every LOOK_S   the claims of all partitions ─► what is spent today, the forecast, the share of what is left
    before a run   `streams.cost.has_room`      ─► it begins, or waits for the next UTC day, or a look that finds room
    before a batch                              ─► where `budget.then` names a route: its documents go by that one

Nobody coordinates the workers: each takes the share of what is left that it has of the partitions. What is over the
budget in the end is what was in flight: a run (or two batches) of each worker, and what others spent since the last
look.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from agents.indexing.meter import Meter
from agents.kafka.claims import read_claims
from agents.kafka.reader import LogReader
from agents.metrics import Metrics
from agents.settings import Settings
from agents.worker.assignment import Assignment
from streams.cost import NOTHING_SPENT, Forecast, Spend, day_of, has_room, nano, units
from streams.errors import PenstockError

LOOK_S = 5.0
UNKNOWN = "what other workers have spent today is not known yet"
USED_UP = "the budget of the day is used up: goes on at 00:00 UTC, or with a higher budget.per_day after a restart"

logger = logging.getLogger(__name__)


class Spending:
    """`Gate` of one worker. `now`: epoch seconds."""

    def __init__(
        self,
        settings: Settings,
        *,
        reader: LogReader,
        assignment: Assignment,
        meter: Meter,
        metrics: Metrics,
        partitions: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`partitions`: of the topic."""
        self._settings = settings
        self._reader = reader
        self._assignment = assignment
        self._meter = meter
        self._metrics = metrics
        self._partitions = partitions
        self._now = now
        budget = settings.budget
        self._per_day = nano(budget.per_day) if budget.per_day is not None else None
        self._pauses, self._refuge = budget.then == "pause", budget.refuge
        self._claimed: Mapping[int, Spend] = {}
        """By partition, at the last look."""
        self._ours: frozenset[int] | None = None
        """Partitions at that look; None before the first."""
        self._mine_then = 0
        self._day_then = ""
        self._forecast = Forecast()
        self._waiting: dict[object, str] = {}
        """Whoever waits for room, and why."""
        self._letting_go = False
        self._woken = asyncio.Event()
        if self._per_day is not None:
            metrics.budget_per_day.set(units(self._per_day))

    @property
    def waits(self) -> str | None:
        """What is waited for, for people."""
        return next(iter(self._waiting.values()), None)

    @property
    def used_up(self) -> bool:
        """Whether it waits for the budget of another day."""
        return self.waits == USED_UP

    async def run(self) -> None:
        """Look again and again, until cancelled. Kafka being away is others' business."""
        while True:
            try:
                await self.look()
            except PenstockError as exc:
                logger.debug("what the fleet spent could not be looked at", extra={"reason": str(exc)})
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """At the claims of all partitions. Raises PenstockError while Kafka does not answer.

        A claim of a worker whose partitions went may come behind ours: what was spent since is written again.
        """
        ours = self._assignment.spends()
        claims = await read_claims(self._reader, self._settings)
        self._claimed = {number: claim.spend for number, claim in claims.items()}
        lowered = [
            number
            for number, spend in ours.items()
            if any(self._claimed.get(number, spend).on(day) < spend.on(day) for day in spend.days)
        ]
        await self._assignment.claim_again(lowered)
        now = self._now()
        self._note(now)
        spent = self._others(now) + self._mine(now)
        self._metrics.cost_forecast.set(units(self._forecast.see(now, spent)))
        if self._per_day is not None:
            self._metrics.budget_used.set(spent / self._per_day)

    async def room(self, expected: int) -> bool:
        """See `Gate`."""
        if self._per_day is None or not self._pauses:
            return True
        return await self._without((UNKNOWN, USED_UP), expected)

    async def affords(self, expected: int) -> bool:
        """See `Gate`. Yes where the partitions go before anything is known: what is begun then is in flight."""
        if self._per_day is None or self._refuge is None:
            return True
        await self._without((UNKNOWN,), expected)
        return self._why_not(expected) != USED_UP

    async def _without(self, reasons: Collection[str], expected: int) -> bool:
        """True as soon as none of these speaks against a run of this cost; False where it was given up."""
        woken, me = self._woken, object()
        try:
            while (why := self._why_not(expected)) in reasons:
                if self._letting_go or woken.is_set():
                    return False
                self._tell(me, why)
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), LOOK_S / 5)
        finally:
            self._tell(me, None)
        return True

    def _tell(self, who: object, why: str | None) -> None:
        """That it waits for this, or does not any more."""
        before = self.waits
        if why:
            self._waiting[who] = why
        else:
            self._waiting.pop(who, None)
        if self.waits != before:
            self._metrics.budget_paused.set(self.used_up)
            logger.info(self.waits or "goes on: the budget has room", extra={"per_day": units(self._per_day or 0)})

    def let_go(self) -> None:
        """Whoever waits gives up, and nobody else begins to wait until `go_on`: the partitions are about to go."""
        self._letting_go = True
        self._claimed = {**self._claimed, **self._assignment.spends()}  # newer than the last look
        self._woken.set()

    def go_on(self) -> None:
        """With the partitions of a new assignment."""
        self._letting_go = False
        self._woken = asyncio.Event()

    def _why_not(self, expected: int) -> str | None:
        """Why no run of this cost may begin; None where one may."""
        assert self._per_day is not None  # noqa: S101 - whoever asks has looked
        now, ours = self._now(), frozenset(self._assignment.spends())
        if self._ours is None:
            return UNKNOWN
        if ours != self._ours or day_of(now) != self._day_then:
            self._note(now)
        room = has_room(
            self._per_day,
            others=self._others(now),
            mine=self._mine(now),
            mine_then=self._mine_then,
            share=len(ours) / self._partitions,
            in_flight=self._meter.in_flight,
            expected=expected,
        )
        return None if room else USED_UP

    def _note(self, now: float) -> None:
        """What is left from here on is shared."""
        self._ours = frozenset(self._assignment.spends())
        self._mine_then, self._day_then = self._mine(now), day_of(now)

    def _mine(self, now: float) -> int:
        """Of today: in the claims of this worker's partitions, and what it spent that no claim has yet.

        What it spent on partitions that went before their claim is in none, and counts here as long as it runs.
        """
        day = day_of(now)
        claimed = sum(spend.on(day) for spend in self._assignment.spends().values())
        return claimed + self._meter.charged[day] - self._assignment.claimed[day]

    def _others(self, now: float) -> int:
        ours = self._assignment.spends()
        theirs = (self._claimed.get(number, NOTHING_SPENT) for number in self._claimed.keys() - ours.keys())
        return sum(spend.on(day_of(now)) for spend in theirs)
