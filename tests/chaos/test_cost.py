"""What was spent is known, whatever kills the workers; and alerts of it fire by their real causes."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from agents.settings.environment import cache_dir
from streams.cost import NANO
from tests.kit.harness import World, again_and_again, until
from tests.kit.prometheus import RULES, Prometheus, faster
from tests.kit.service import Service
from tests.stack.conftest import served as served
from tests.stack.conftest import service as service
from tests.stack.test_cost import TOKEN, Days, kept_under_kills, priced

KILLS = int(os.environ.get("KILLS") or 20)
TEXTS_A_KILL = 120
PER_DAY = 400_000 * TOKEN
ALERTS = {"PenstockBudgetNearlySpent", "PenstockBudgetForecast", "PenstockDocumentCostDoubled"}


@pytest.mark.timeout(1800)
def test_what_was_spent_outlives_many_kills(served: World, service: Service, summary: dict[str, Any]) -> None:
    kept = asyncio.run(kept_under_kills(served, service, kills=KILLS, count=TEXTS_A_KILL * KILLS))
    summary[f"costs, {KILLS} kills"] = kept


@pytest.mark.timeout(900)
def test_alerts_of_costs_fire_by_their_real_causes_and_clear(served: World, tmp_path: Path) -> None:
    """At noon of a day whose clock stands: at its end twice as much will be spent."""
    world, days, published = served, Days(tmp_path / "clock"), 0
    short, long = "Gate {} is open.", "Gate {} is open, and so is each of the others, up to the weir at the mill. " * 3

    async def publish(text: str, count: int) -> None:
        nonlocal published
        numbers = range(published, published + count)
        await world.produce((b"doc-%d" % n, {"text": text.format(n, n, n).strip()}) for n in numbers)
        published += count

    async def scenario(watching: Prometheus) -> None:
        async def fires(name: str) -> None:
            async def check() -> bool:
                return name in watching.firing()

            await until(check)

        async def clears(names: set[str]) -> None:
            async def check() -> bool:
                return watching.firing().isdisjoint(names)

            await until(check)

        async def spend(ratio: float) -> None:
            """So much of the budget, all in all."""
            spent = worker.metrics()['penstock_cost_total{model="served",route="default"}'] * NANO
            await publish(long, round((ratio * PER_DAY - spent) / len(long) / TOKEN))
            await world.settled(worker=worker)

        await world.create(partitions=2)
        worker = world.start_worker(priced(PER_DAY, PENSTOCK_BUDGET__THEN="alert"), change=days.change)
        await publish(short, 8)
        await world.settled(worker=worker)  # what the start cost is told
        watching.scrape([worker.admin_port])

        async def has_history() -> bool:
            return bool(watching.query("avg_over_time(penstock:document_cost:avg1h[1440s] offset 65s)"))

        async with again_and_again(lambda _: publish(short, 4), 1.0):
            await until(has_history)
        assert watching.firing().isdisjoint(ALERTS)
        async with again_and_again(lambda _: publish(long, 4), 1.0):
            await fires("PenstockDocumentCostDoubled")
        await spend(0.6)
        await fires("PenstockBudgetForecast")
        assert "PenstockBudgetNearlySpent" not in watching.firing()
        await spend(0.9)
        await fires("PenstockBudgetNearlySpent")
        days.next()
        await clears(ALERTS)

    watching = Prometheus(cache_dir(), tmp_path, faster(RULES.read_text()))
    try:
        asyncio.run(scenario(watching))
    finally:
        watching.close()
