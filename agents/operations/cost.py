"""What workers spent, as their claims tell it."""

import time
from collections.abc import Callable
from typing import Any

from agents.kafka.claims import read_claims
from agents.kafka.reader import log_reader
from agents.settings import Settings
from streams.cost import Forecast, Row, day_of, nano, summed, units


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
    budget, per_day = settings.budget, settings.budget.per_day
    return {
        "currency": settings.cost.currency,
        "budget": None
        if per_day is None
        else {"per_day": float(per_day), "then": budget.then, "used_ratio": today / nano(per_day)},
        "today": {
            "day": day_of(moment),
            "cost": units(today),
            "forecast": units(Forecast().see(moment, today)),
        },
        "by": by,
        "rows": [_told(row, by) for row in summed(spends, by)],
    }


def _told(row: Row, by: str) -> dict[str, Any]:
    return {
        "day": row.day,
        by: getattr(row, by),
        "cost": units(row.cost),
        "tokens": row.tokens,
        "documents": row.documents,
        "cost_a_document": units(row.cost) / row.documents if row.documents else None,
    }
