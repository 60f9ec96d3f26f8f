"""What embedding costs: prices, the cost of a batch, what was spent by UTC day, and whether a budget has room. Pure.

Money is counted in whole billionths of the currency ("nano"), so that a sum does not depend on the order of its parts,
and what is stored, added and split is never rounded again. Without a price it is 0; tokens are counted all the same.

    Used ── Price ──► nano of a batch ── divided by tokens ──► a row of each document ──► Spend of a partition
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from streams.record import Document

NANO = 10**9
DAY_S = 86_400
OTHER, NO_SOURCE = "(other)", "(none)"
"""Sources of a day beyond `MOST_ROWS`; that of a document which has neither a URL nor a URI as its id."""
KEPT_DAYS = 8
"""Of those on which something was spent: a week and the present one. Metrics have a longer memory."""
MOST_ROWS = 24
"""Of one day and partition: some 2 KB of a claim. Where there are more, the cheapest are added up as `OTHER`."""
MOST_CHARS = 100
"""Of a source."""
HOUR_S, ENOUGH_S = 3600.0, 600.0
"""What a forecast looks back on, and the least time that says something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What was used for some texts. `requests`: to a service, as far as they are paid for. `core_us`, `gpu_us`:
    microseconds of a core, and of a GPU."""

    tokens: int = 0
    requests: int = 0
    core_us: int = 0
    gpu_us: int = 0

    def plus(self, other: "Used") -> "Used":
        """Both together."""
        return Used(
            tokens=self.tokens + other.tokens,
            requests=self.requests + other.requests,
            core_us=self.core_us + other.core_us,
            gpu_us=self.gpu_us + other.gpu_us,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Of one model, nano. `million_tokens`, `request`, `core_hour`, `gpu_hour`: for so much."""

    million_tokens: int = 0
    request: int = 0
    core_hour: int = 0
    gpu_hour: int = 0

    def cost(self, used: Used) -> int:
        """Nano, rounded half up, once for all of it."""
        hour_us = 3_600_000_000
        parts = (
            used.tokens * self.million_tokens * (hour_us // 10**6)
            + used.requests * self.request * hour_us
            + used.core_us * self.core_hour
            + used.gpu_us * self.gpu_hour
        )
        return (parts + hour_us // 2) // hour_us


FREE = Price()


def nano(amount: Decimal) -> int:
    """Of an amount of the currency; below a billionth it is rounded."""
    return round(amount * NANO)


def units(amount: int) -> float:
    """The amount of the currency, of nano; for metrics and people."""
    return amount / NANO


def divided(total: int, weights: Sequence[int]) -> list[int]:
    """In proportion to the weights, none of which is negative: each part is off by less than 1, and their sum is exact.

    Equal parts where all weights are 0.
    """
    whole, weights = (sum(weights), weights) if any(weights) else (len(weights), [1] * len(weights))
    parts, passed, given = [], 0, 0
    for weight in weights:
        passed += weight
        now = total * passed // whole
        parts.append(now - given)
        given = now
    return parts


def day_of(epoch_s: float) -> str:
    """The UTC day of a moment: `2026-11-30`."""
    return datetime.fromtimestamp(epoch_s, UTC).date().isoformat()


def source_of(document: Document) -> str:
    """Where a document is from, as far as it is told by its URL, or by its id where that is a URI: scheme and host, or
    bucket; of a file the first folder. Never a login, or anything behind the host."""
    for told in (document.url, document.id):
        try:
            parts = urlsplit(told or "")
            host = parts.hostname or ""
        except ValueError:
            continue
        if parts.scheme and (host or parts.path.startswith("/")):
            first = parts.path.split("/")[1] if not host else ""
            return f"{parts.scheme}://{host or '/' + first}"[:MOST_CHARS]
    return NO_SOURCE


class Row(NamedTuple):
    """What was spent on a UTC day by a model and a route on the documents of a source. `cost`: nano. `documents`: so
    many that were embedded, whole or in part; one that was edited twice counts twice."""

    day: str
    model: str
    route: str
    source: str
    cost: int
    tokens: int
    documents: int


_Key = tuple[str, str, str, str]
_Sums = dict[_Key, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Spend:
    """Sums by day, model, route and source, of the last `KEPT_DAYS` days that have any; their number is bounded."""

    rows: tuple[Row, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Spend":
        """Of rows in any order, several of which may be about the same.

        By day, model and route, and so for each day as a whole, the sums do not depend on the order, nor on what was
        added up before; which sources are told apart may, where they are many.
        """
        sums: _Sums = {}
        for day, model, route, source, *more in rows:
            _add(sums, (day, model, route, source), more)
        for day in sorted({key[0] for key in sums})[:-KEPT_DAYS]:
            sums = {key: value for key, value in sums.items() if key[0] != day}
        for day in {key[0] for key in sums}:
            _fold(sums, day)
        return cls(tuple(Row(*key, *sums[key]) for key in sorted(sums)))

    def plus(self, *others: "Spend") -> "Spend":
        """All together."""
        added = [row for other in others for row in other.rows]
        return Spend.of([*self.rows, *added]) if added else self

    def or_more(self, other: "Spend") -> "Spend":
        """Of each day the rows of whichever tells more: of one partition what comes late tells less."""
        rows = [
            row
            for day in sorted({*self.days, *other.days})
            for row in max(self, other, key=lambda one: one.on(day)).rows
            if row.day == day
        ]
        return Spend.of(rows)

    @property
    def days(self) -> set[str]:
        """On which something was spent."""
        return {row.day for row in self.rows}

    def on(self, day: str) -> int:
        """Nano of a day."""
        return sum(row.cost for row in self.rows if row.day == day)

    @property
    def cost(self) -> int:
        """Nano of all days."""
        return sum(row.cost for row in self.rows)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.rows)


NOTHING_SPENT = Spend()


def _add(sums: _Sums, key: _Key, more: Sequence[int]) -> None:
    cost, tokens, documents = sums.get(key, (0, 0, 0))
    sums[key] = cost + more[0], tokens + more[1], documents + more[2]


def _fold(sums: _Sums, day: str) -> None:
    """The cheapest sources of a day become `OTHER`, as many as there are too many."""
    rows = sorted((value, key) for key, value in sums.items() if key[0] == day)
    for _, key in rows:
        if sum(other[0] == day for other in sums) <= MOST_ROWS:
            return
        if key[3] != OTHER:
            _add(sums, (*key[:3], OTHER), sums.pop(key))


def summed(spends: Iterable[Spend], by: str) -> list[Row]:
    """All together, by day and one more of a row's names; the others are empty. The newest day first, in it the
    dearest."""
    sums: _Sums = {}
    for row in (row for spend in spends for row in spend.rows):
        model, route, source = (getattr(row, name) if name == by else "" for name in ("model", "route", "source"))
        _add(sums, (row.day, model, route, source), row[4:])
    rows = sorted((Row(*key, *sums[key]) for key in sums), key=lambda row: (-row.cost, *row[1:4]))
    return sorted(rows, key=lambda row: row.day, reverse=True)


def to_json(spend: Spend) -> list[list[Any]]:
    """As stored with a claim."""
    return [list(row) for row in spend.rows]


def from_json(raw: Any) -> Spend:
    """Inverse of `to_json`; nothing for what is something else: a claim must not be void for it."""
    try:
        return Spend.of(_rows(raw))
    except (TypeError, ValueError):
        return NOTHING_SPENT


def _rows(raw: Any) -> Iterator[Row]:
    for *names, cost, tokens, documents in raw or ():
        day, model, route, source = map(str, names)
        yield Row(day, model, route, source, int(cost), int(tokens), int(documents))


BATCH = "(batch)"
"""Source of what a batch embedded: how many there are is not bounded where its parts are counted."""
COUNTED = "spent"


def to_counts(spends: Iterable[Spend]) -> dict[str, int]:
    """By names, for an engine that adds up numbers by name; of all sources together."""
    found: dict[str, int] = {}
    for row in (row for spend in spends for row in spend.rows):
        for what in ("cost", "tokens", "documents"):
            name = "\t".join((COUNTED, row.day, row.model, row.route, what))
            found[name] = found.get(name, 0) + getattr(row, what)
    return found


def from_counts(counts: Mapping[str, int]) -> Spend:
    """Inverse of `to_counts`; other names are passed over."""
    rows: dict[tuple[str, str, str], dict[str, int]] = {}
    for name, count in counts.items():
        if name.startswith(COUNTED + "\t"):
            _, day, model, route, what = name.split("\t")
            rows.setdefault((day, model, route), {})[what] = count
    return Spend.of(Row(*key, BATCH, row["cost"], row["tokens"], row["documents"]) for key, row in rows.items())


class Forecast:
    """What a day will have cost when it ends, if it goes on as in the last hour; at first, as since midnight."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        """Moments, epoch seconds, and all that was spent up to then since the first."""
        self._days: dict[str, int] = {}
        """What was spent on each, as last told: a clock that is set back over midnight counts none twice."""

    def see(self, now: float, spent: int) -> int:
        """Of the present UTC day so much is spent; returns what it will be at its end. Nano."""
        self._days[day_of(now)] = spent
        total = sum(self._days.values())
        while self._seen and not now - HOUR_S <= self._seen[0][0] <= now:
            self._seen.popleft()
        self._seen.append((now, total))
        since, then = self._seen[0]
        passed = now % DAY_S
        enough = now - since >= ENOUGH_S
        rate = max(0, total - then) / (now - since) if enough else spent / max(passed, ENOUGH_S)
        return spent + round(rate * (DAY_S - passed))


def has_room(
    per_day: int, *, others: int, mine: int, mine_then: int, share: float, in_flight: int, expected: int
) -> bool:
    """Whether one more run, expected to cost so much, may begin in a budget of the whole fleet. All but `share` nano.

    `others`: of today, in partitions of other workers, at the last look; `mine`: in this worker's, with what no claim
    has yet; `mine_then`: the same at that look; `share`: the part that it has of the partitions; `in_flight`: what its
    runs under way are expected to cost.

    Each worker takes its share of what was left at its last look, so that nobody has to coordinate; and of the rest
    one run at a time, as long as it fits what is left to its knowledge: else the last few runs would fit nobody's
    share. A run that is dearer than the whole budget is one run a day.
    """
    left_then = per_day - others - mine_then
    if mine - mine_then + in_flight + expected <= share * left_then:
        return True
    return in_flight == 0 and (expected <= per_day - others - mine or others + mine == 0)
