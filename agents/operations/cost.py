"""What workers spent, as their claims tell it."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from agents.kafka.claims import read_claims
from agents.kafka.reader import log_reader
from agents.settings import Settings
from streams.cost import Forecast, Row, Spend, day_of, nano, summed, units

NEARLY = 0.8
"""Of a budget: from here on its alert fires, and a worker may wait, as what is under way counts, too."""


async def read_cost(settings: Settings, by: str, now: Callable[[], float] = time.time) -> dict[str, Any]:
    """`{currency, budget, today, by, rows}`; a row a day, or a day's `model`, `route` or `source` (`by`).

    The newest day comes first, in it what was dearest. Amounts are units of the currency. Claims of any index count.

    Raises PenstockError while Kafka does not answer.
    """
    async with log_reader(settings) as reader:
        claims = await read_claims(reader, settings)
    spends = [claim.spend for claim in claims.values()]
    moment = now()
    today = sum(spend.on(day_of(moment)) for spend in spends)
    return {
        "currency": settings.cost.currency,
        "budget": budget_of(settings, spends, moment),
        "today": {
            "day": day_of(moment),
            "cost": units(today),
            "forecast": units(Forecast().see(moment, today)),
        },
        "by": by,
        "rows": [_told(row, by) for row in summed(spends, by)],
    }


def budget_of(settings: Settings, spends: Iterable[Spend], moment: float) -> dict[str, Any] | None:
    """`{per_day, then, used_ratio}` of the day that a moment, in seconds since 1970, is in; None without a budget."""
    budget, per_day = settings.budget, settings.budget.per_day
    if per_day is None:
        return None
    today = sum(spend.on(day_of(moment)) for spend in spends)
    return {"per_day": float(per_day), "then": budget.then, "used_ratio": today / nano(per_day)}


def holds_up(budget: dict[str, Any] | None) -> str | None:
    """What is said where a budget may be what the lag waits for."""
    if budget is None or budget["then"] != "pause" or budget["used_ratio"] < NEARLY:
        return None
    return (
        f"{budget['used_ratio']:.0%} of the day's budget is spent: once it is used up, what has to be embedded waits "
        "for 00:00 UTC (`penstock cost`; runbook: Embedding costs more than it should)"
    )


def _told(row: Row, by: str) -> dict[str, Any]:
    return {
        "day": row.day,
        by: getattr(row, by),
        "cost": units(row.cost),
        "tokens": row.tokens,
        "documents": row.documents,
        "cost_a_document": units(row.cost) / row.documents if row.documents else None,
    }
