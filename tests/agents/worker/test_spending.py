"""The budget of a day: who may go on, who waits and for how long. The clock is the test's."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import pytest

from agents.indexing.meter import Meter
from agents.metrics import Metrics
from agents.settings import Settings
from agents.settings.sections import BudgetSettings, CostSettings, RouteSettings
from agents.worker import spending as module
from agents.worker.spending import UNKNOWN, USED_UP, Spending
from streams.claim import Claim
from streams.cost import DAY_S, NANO, Row, Spend, day_of
from streams.errors import AwayError

NOON = 20_000 * DAY_S + DAY_S // 2


class World:
    """A worker with partition 0 of two, and another one. A budget of 100 units a day."""

    def __init__(self, patch: pytest.MonkeyPatch, **budget: Any) -> None:
        patch.setattr(module, "read_claims", self.read_claims)
        patch.setattr(module, "LOOK_S", 0.02)
        self.now, self.away = float(NOON), False
        self.mine, self.theirs = 0, 0
        self.claimed: Counter[str] = Counter()
        self.lowered: int | None = None
        """What a claim about partition 0 tells that came behind this worker's."""
        self.again: list[int] = []
        self.metrics = Metrics()
        self.meter = Meter({}, self.metrics, lambda: self.now)
        self.spending = Spending(
            Settings(
                cost=CostSettings.model_validate({"models": {"m": {"request": 1}}}),
                budget=BudgetSettings.model_validate({"per_day": 100, **budget}),
                route=(RouteSettings(name="cheap", model="c", min_chars=1),),
            ),
            reader=cast(Any, None),
            assignment=cast(Any, self),
            meter=self.meter,
            metrics=self.metrics,
            partitions=2,
            now=lambda: self.now,
        )

    def spend(self, amount: int) -> Spend:
        return Spend.of([Row(day_of(self.now), "m", "default", "s", amount * NANO, 1, 1)])

    def spends(self) -> dict[int, Spend]:
        """Of an assignment."""
        return {0: self.spend(self.mine)}

    async def claim_again(self, numbers: Iterable[int]) -> None:
        self.again += numbers

    async def read_claims(self, *_: Any) -> dict[int, Claim]:
        if self.away:
            raise AwayError("away")
        found = {0: self.mine if self.lowered is None else self.lowered, 1: self.theirs}
        return {n: Claim(offset=0, sink="s", record=None, spend=self.spend(amount)) for n, amount in found.items()}

    async def begins(self, amount: int) -> bool:
        """Whether a run of so much begins at once."""
        task = asyncio.create_task(self.spending.room(amount * NANO))
        await asyncio.sleep(0)
        if not task.done():
            task.cancel()
        return bool((await asyncio.gather(task, return_exceptions=True))[0] is True)

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"penstock_{name}")


def test_a_worker_takes_its_share_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world = World(monkeypatch)
        assert not await world.begins(1), "before anything is known of the others"
        world.theirs = 40
        await world.spending.look()
        assert (world.gauge("budget_used_ratio"), world.gauge("budget_per_day")) == (0.4, 100)
        assert world.gauge("cost_forecast") == pytest.approx(80)
        assert await world.begins(30)
        world.meter.in_flight = 1
        assert not await world.begins(30), "half of 60, less what is in flight"
        world.meter.in_flight = 0
        world.meter.charged[day_of(world.now)] = 20 * NANO  # in no claim yet
        assert await world.begins(10)
        assert await world.begins(40), "with nothing in flight one that fits what is left"
        assert not await world.begins(41)
        world.claimed[day_of(world.now)], world.mine = 20 * NANO, 20
        await world.spending.look()
        world.meter.in_flight = 1
        assert (await world.begins(19), await world.begins(20)) == (True, False)

    asyncio.run(scenario())


def test_where_a_route_is_taken_nothing_waits_but_for_what_others_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world = World(monkeypatch, then="route:cheap")
        asked = asyncio.create_task(world.spending.affords(30 * NANO))
        await asyncio.sleep(0.05)
        assert (asked.done(), world.spending.waits) == (False, UNKNOWN)
        world.theirs = 40
        await world.spending.look()
        assert await asked
        assert world.spending.waits is None
        assert not await world.spending.affords(61 * NANO)
        assert await world.begins(1000), "by the route that is taken then"
        assert (world.spending.waits, world.gauge("budget_paused")) == (None, 0)
        world.mine = 60
        assert not await world.spending.affords(NANO)
        world.now += DAY_S
        world.mine = world.theirs = 0
        await world.spending.look()
        assert await world.spending.affords(50 * NANO)

        world = World(monkeypatch, then="route:cheap")
        asked = asyncio.create_task(world.spending.affords(NANO))
        await asyncio.sleep(0)
        world.spending.let_go()
        assert await asyncio.wait_for(asked, 5), "the partitions go: by its own route, as if it had been in flight"
        assert await World(monkeypatch, then="alert").spending.affords(1000 * NANO)

    asyncio.run(scenario())


def test_it_waits_for_the_next_day_and_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world = World(monkeypatch)
        world.mine = 100
        await world.spending.look()
        waiting = [asyncio.create_task(world.spending.room(NANO)) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        assert (world.spending.waits, world.gauge("budget_paused")) == (USED_UP, 1)
        world.now += DAY_S / 2 - 1
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        world.mine, world.now = 0, world.now + 2
        assert await asyncio.gather(*waiting) == [True, True]
        assert (world.spending.waits, world.gauge("budget_paused")) == (None, 0)

    asyncio.run(scenario())


def test_whoever_waits_lets_go_when_the_partitions_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world = World(monkeypatch)
        world.mine = 100
        await world.spending.look()
        waiting = asyncio.create_task(world.spending.room(NANO))
        await asyncio.sleep(0)
        world.spending.let_go()
        assert await waiting is False
        assert await world.spending.room(NANO) is False, "and so does who comes later"
        world.spending.go_on()
        assert not await world.begins(1)
        assert world.spending.waits is None
        world.mine = 0
        assert await world.begins(1)

    asyncio.run(scenario())


def test_without_a_look_it_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world = World(monkeypatch)
        world.away = True
        looking = asyncio.create_task(world.spending.run())
        waiting = asyncio.create_task(world.spending.room(NANO))
        await asyncio.sleep(0.1)
        assert (world.spending.waits, world.gauge("budget_paused")) == (UNKNOWN, 0)
        world.away = False
        assert await waiting
        looking.cancel()

    asyncio.run(scenario())


def test_alert_lets_everything_through(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world = World(monkeypatch, then="alert")
        world.theirs = 250
        assert await world.spending.room(NANO)
        await world.spending.look()
        assert await world.spending.room(NANO)
        assert world.gauge("budget_used_ratio") == 2.5

    asyncio.run(scenario())


def test_what_a_late_claim_of_another_worker_took_from_the_books_is_claimed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        world = World(monkeypatch)
        world.mine, world.theirs = 60, 10
        await world.spending.look()
        assert world.again == []
        world.lowered = 20
        await world.spending.look()
        assert world.again == [0], "and not what is another worker's"
        assert world.gauge("budget_used_ratio") == 0.7

    asyncio.run(scenario())
