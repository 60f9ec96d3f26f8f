"""What embedding costs while it goes on: counted for metrics and claims, and held back where a budget is used up.

room    before a run of the model: may it begin?  ─► waits, where a budget says so
charge  after it: what it cost, divided over its documents by tokens
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from agents.metrics import Metrics
from streams.cost import FREE, Price, Row, Spend, Used, day_of, divided, source_of, units
from streams.protocol import Work
from streams.routes import DEFAULT

SMOOTHING = 0.2


class Gate(Protocol):
    """What a budget says."""

    async def room(self, expected: int) -> bool:
        """Returns True as soon as a run that is expected to cost so much (nano) may begin; it may wait until tomorrow.

        False where it was given up: the partitions are about to go, and whoever has them next begins again.
        """

    async def affords(self, expected: int) -> bool:
        """Whether documents that are expected to cost so much (nano) may go by routes of their own."""


class Meter:
    """Of one worker. `now`: epoch seconds."""

    def __init__(self, prices: Mapping[str, Price], metrics: Metrics, now: Callable[[], float] = time.time) -> None:
        self.gate: Gate | None = None
        self.charged: Counter[str] = Counter()
        """Nano, by UTC day: of all that was embedded since the start, claimed or not."""
        self.in_flight = 0
        """Nano that runs under way are expected to cost."""
        self._prices = prices
        self._metrics = metrics
        self._now = now
        self._late: dict[str, float] = {}
        """Nano a token, of late, by model."""
        self._begun: set[str] = set()
        """Models that ran: the first run bears what a start costs, and says nothing of the next one."""

    def tell(self, routes: Mapping[str, str]) -> None:
        """Series that are there, as 0, from the start: a counter that appears with its first event hides it.

        `routes`: the model of each.
        """
        for route, model in routes.items():
            self._metrics.cost.labels(model, route)
            self._metrics.model_tokens.labels(model)

    async def room(self, model: str, tokens: int) -> int | None:
        """Nano that this run is expected to cost, as soon as it may begin; for `charge`. None: it was given up."""
        expected = self._expected(model, tokens)
        if self.gate is not None and not await self.gate.room(expected):
            return None
        self.in_flight += expected
        return expected

    async def affords(self, tokens: Mapping[str, int]) -> bool:
        """Whether documents with so many tokens, by model, may go by routes of their own."""
        expected = sum(self._expected(model, count) for model, count in tokens.items())
        return self.gate is None or await self.gate.affords(expected)

    def charge(self, model: str, rows: Sequence[tuple[Work, int]], used: Used, expected: int) -> None:
        """These chunks were embedded. Their works' `spend` grows."""
        self.in_flight -= expected
        cost, day = self._prices.get(model, FREE).cost(used), day_of(self._now())
        self.charged[day] += cost
        self._metrics.model_tokens.labels(model).inc(used.tokens)
        tokens = [len(work.chunks[number].ids) for work, number in rows]
        total = sum(tokens)
        if total and model in self._begun:
            late = self._late.get(model, cost / total)
            self._late[model] = late + SMOOTHING * (cost / total - late)
        self._begun.add(model)
        parts = zip(rows, divided(cost, tokens), divided(used.tokens, tokens), strict=True)
        sums: dict[int, tuple[Work, int, int]] = {}
        for (work, _), part, counted in parts:
            _, money, count = sums.get(id(work), (work, 0, 0))
            sums[id(work)] = work, money + part, count + counted
        for work, money, count in sums.values():
            source = source_of(work.document) if work.document else ""
            route = work.route or DEFAULT
            row = Row(day, model, route, source, money, count, 0 if work.spend else 1)
            work.spend = work.spend.plus(Spend((row,)))
            self._metrics.cost.labels(model, route).inc(units(money))

    def embedded(self, works: Sequence[Work]) -> None:
        """All chunks of these have their vectors."""
        for work in works:
            if work.spend:
                self._metrics.document_cost.observe(units(work.spend.cost))

    def _expected(self, model: str, tokens: int) -> int:
        if (late := self._late.get(model)) is not None:
            return round(late * tokens)
        return self._prices.get(model, FREE).cost(Used(tokens=tokens, requests=1))
