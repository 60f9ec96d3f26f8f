"""Money: exact whatever the order, divided without a rest, bounded in claims; and what a budget lets through."""

import random
from collections import Counter
from dataclasses import replace
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.claim import Claim, from_bytes, to_bytes, void
from streams.cost import (
    DAY_S,
    KEPT_DAYS,
    MOST_ROWS,
    NO_SOURCE,
    OTHER,
    Forecast,
    Price,
    Row,
    Spend,
    Used,
    day_of,
    divided,
    from_counts,
    from_json,
    has_room,
    nano,
    source_of,
    summed,
    to_counts,
    to_json,
    units,
)
from streams.record import Document, Record

MIDNIGHT = 20_000 * DAY_S
DAYS = [f"2026-11-{day:02}" for day in range(1, 12)]
amounts = st.integers(0, 10**12)
used = st.builds(Used, tokens=amounts, requests=st.integers(0, 10**6), core_us=amounts, gpu_us=amounts)
prices = st.builds(Price, million_tokens=amounts, request=amounts, core_hour=amounts, gpu_hour=amounts)
rows = st.lists(
    st.builds(
        Row,
        st.sampled_from(DAYS),
        st.sampled_from("mn"),
        st.sampled_from(["default", "long"]),
        st.integers(0, 40).map(lambda n: f"s3://{n}"),
        amounts,
        amounts,
        st.integers(0, 9),
    ),
    max_size=80,
)


def totals(spend: Spend) -> dict[tuple[str, str, str], list[int]]:
    """By day, model and route."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for row in spend.rows:
        sums = found.setdefault(row[:3], [0, 0, 0])
        for place, value in enumerate(row[4:]):
            sums[place] += value
    return found


@pytest.mark.parametrize(
    ("price", "what", "cost"),
    [
        ({"million_tokens": "0.02"}, Used(tokens=1_000_000), "0.02"),
        ({"million_tokens": "0.02"}, Used(tokens=138), "0.00000276"),
        ({"request": "0.0001"}, Used(requests=3), "0.0003"),
        ({"core_hour": "0.04"}, Used(core_us=3_600_000_000 // 2), "0.02"),
        ({"gpu_hour": "2.5"}, Used(gpu_us=36_000_000), "0.025"),
        ({"million_tokens": "1", "request": "1"}, Used(tokens=500_000, requests=2, core_us=10**9), "2.5"),
        ({}, Used(tokens=10**9), "0"),
    ],
)
def test_what_something_costs(price: dict[str, str], what: Used, cost: str) -> None:
    made = Price(**{name: nano(Decimal(amount)) for name, amount in price.items()})
    assert made.cost(what) == nano(Decimal(cost))
    assert units(made.cost(what)) == float(cost)


@given(prices, used, used)
def test_two_runs_cost_as_much_as_one_to_half_a_billionth_each(price: Price, one: Used, two: Used) -> None:
    assert abs(price.cost(one) + price.cost(two) - price.cost(one.plus(two))) <= 1


@given(amounts, st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_what_is_divided_adds_up_and_is_in_proportion(total: int, weights: list[int]) -> None:
    parts = divided(total, weights)
    whole = sum(weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        wanted = total * weight / whole if whole else total / len(weights)
        assert abs(part - wanted) <= 1 + total * 1e-12


@given(rows, st.randoms())
def test_sums_depend_neither_on_the_order_nor_on_what_was_added_up_before(found: list[Row], rng: random.Random) -> None:
    whole = Spend.of(found)
    shuffled = found.copy()
    rng.shuffle(shuffled)
    cut = rng.randrange(len(found) + 1)
    parts = Spend.of(shuffled[:cut]).plus(*(Spend.of([row]) for row in shuffled[cut:]))
    kept = sorted({row.day for row in found})[-KEPT_DAYS:]
    assert totals(whole) == totals(Spend.of(row for row in shuffled if row.day in kept))
    assert {key: sums for key, sums in totals(parts).items() if key[0] in kept} == totals(whole)
    assert whole.cost == sum(row.cost for row in found if row.day in kept)
    assert all(whole.on(day) == sum(row.cost for row in found if row.day == day) for day in kept)


@given(rows)
def test_a_spend_is_bounded_whatever_was_spent_and_survives_storage(found: list[Row]) -> None:
    spend = Spend.of(found)
    for day in (days := {row.day for row in spend.rows}):
        assert sum(row.day == day for row in spend.rows) <= MOST_ROWS
    assert len(days) <= KEPT_DAYS
    assert from_json(orjson.loads(orjson.dumps(to_json(spend)))) == spend
    assert len(orjson.dumps(to_json(spend))) < 32_000


def test_of_many_sources_the_dearest_keep_their_names() -> None:
    spend = Spend.of(Row("2026-11-30", "m", "default", f"s3://{n}", n, n, 1) for n in range(100))
    named = {row.source for row in spend.rows}
    assert len(named) == MOST_ROWS
    assert {OTHER, "s3://99", "s3://80"} <= named
    assert "s3://3" not in named
    assert (spend.cost, sum(row.documents for row in spend.rows)) == (sum(range(100)), 100)


def test_a_wrong_clock_takes_no_other_day_s_place_but_one() -> None:
    spend = Spend.of(Row(day, "m", "default", "s", 1, 1, 1) for day in ["2099-01-01", *DAYS])
    assert [row.day for row in spend.rows] == [*DAYS[-KEPT_DAYS + 1 :], "2099-01-01"]


def test_claims_carry_what_was_spent_and_without_it_are_as_they_were() -> None:
    bare = Claim(offset=7, sink="s", record=None)
    assert b"spend" not in to_bytes(bare)
    claim = replace(bare, spend=Spend.of([Row("2026-11-30", "m", "default", "s3://b", 5, 4, 3)]))
    assert from_bytes(to_bytes(claim)) == claim
    assert void(claim).spend == claim.spend
    for strange in (b'"x"', b"7", b"[[1]]", b'{"day": 1}', b'[["d","m","r","s",null,1,1]]', b"null"):
        value = to_bytes(bare)[:-1] + b',"spend":' + strange + b"}"
        assert from_bytes(value) == bare, "a form that a later version has: no reason to replay"


@pytest.mark.parametrize(
    ("url", "key", "source"),
    [
        ("https://user:secret@Example.org:8080/a/b?key=x", "1", "https://example.org"),
        (None, "s3://bucket/folder/a.pdf", "s3://bucket"),
        (None, "file:///srv/docs/a.md", "file:///srv"),
        (None, "kinesis:stream", NO_SOURCE),
        (None, "doc-1", NO_SOURCE),
        ("not a url", "gs://b/x", "gs://b"),
        ("http://[bad", "doc-1", NO_SOURCE),
        (None, "s3://" + "b" * 300, "s3://" + "b" * 95),
    ],
)
def test_a_source_is_scheme_and_host(url: str | None, key: str, source: str) -> None:
    record = Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=key.encode(), value=b"")
    assert source_of(Document(record=record, id=key, content_hash="", url=url)) == source


def test_a_day_is_forecast_by_the_last_hour_and_at_first_since_midnight() -> None:
    forecast = Forecast()
    assert forecast.see(MIDNIGHT, 0) == 0
    assert forecast.see(MIDNIGHT + 60, 600) == 600 + DAY_S - 60, "as if it had been ten minutes"
    noon = MIDNIGHT + DAY_S // 2
    forecast = Forecast()
    assert forecast.see(noon, 1000) == 2000
    for minute in range(1, 121):  # a hundred a minute from now on
        told = forecast.see(noon + 60 * minute, 1000 + 100 * minute)
    assert told == 1000 + 100 * 120 + 100 * (12 * 60 - 120)
    for minute in range(121, 182):
        told = forecast.see(noon + 60 * minute, 13_000)
    assert told == 13_000, "nothing for an hour"


def test_a_forecast_looks_back_over_midnight() -> None:
    forecast = Forecast()
    for minute in range(60):
        forecast.see(MIDNIGHT - 3600 + 60 * minute, 50_000 + 10 * minute)
    assert forecast.see(MIDNIGHT + 60, 10) == pytest.approx(10 * 60 * 24, rel=0.02)
    assert day_of(MIDNIGHT - 1) < day_of(MIDNIGHT)


def test_a_clock_that_is_set_back_over_midnight_counts_no_day_twice() -> None:
    forecast = Forecast()
    for minute in range(60):
        forecast.see(MIDNIGHT - 3600 + 60 * minute, 50_000)
    forecast.see(MIDNIGHT + 5, 0)
    forecast.see(MIDNIGHT - 2, 50_000)
    assert forecast.see(MIDNIGHT + 10, 0) == 0, "nothing was spent for an hour"


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=5),
    st.integers(1, 2000),
    st.integers(1, 60),
    st.integers(0, 2**32),
)
def test_a_fleet_spends_its_budget_and_no_more_than_what_is_in_flight_above_it(
    partitions: list[int], per_day: int, run: int, seed: int
) -> None:
    """Each looks before its runs; what it spends is seen at the others' next look."""
    rng, count, spent = random.Random(seed), sum(partitions), [0] * len(partitions)
    idle = 0
    while idle < 50:
        who = rng.randrange(len(partitions))
        claimed = spent.copy()
        in_flight = list[int]()
        while has_room(
            per_day,
            others=sum(claimed) - claimed[who],
            mine=claimed[who],
            mine_then=claimed[who],
            share=partitions[who] / count,
            in_flight=sum(in_flight),
            expected=run,
        ):
            in_flight.append(run)
        idle = 0 if in_flight else idle + 1
        spent[who] += sum(in_flight)
    assert sum(spent) <= per_day or (spent.count(0) == len(spent) - 1 and sum(spent) == run)
    assert sum(spent) > per_day - run, "what fits is used"


@given(st.integers(2, 6), st.integers(1, 1000), st.integers(1, 40))
def test_workers_that_look_at_once_exceed_the_budget_by_no_more_than_a_run_each(
    workers: int, per_day: int, run: int
) -> None:
    spent = [0] * workers
    while True:
        total, began = sum(spent), list[int]()
        for who in range(workers):
            in_flight = 0
            while has_room(
                per_day,
                others=total - spent[who],
                mine=spent[who],
                mine_then=spent[who],
                share=1 / workers,
                in_flight=in_flight,
                expected=run,
            ):
                in_flight += run
            began.append(in_flight)
        if not any(began):
            break
        spent = [have + more for have, more in zip(spent, began, strict=True)]
    assert sum(spent) <= per_day + workers * run


@given(st.lists(rows, max_size=4), st.sampled_from(["day", "model", "route", "source"]))
def test_a_table_adds_up(found: list[list[Row]], by: str) -> None:
    spends = [Spend.of(one) for one in found]
    table = summed(spends, by)
    assert sum(row.cost for row in table) == sum(spend.cost for spend in spends)
    assert [row.day for row in table] == sorted((row.day for row in table), reverse=True)
    keys = [(row.day, getattr(row, by)) for row in table]
    assert len(set(keys)) == len(keys)


@given(rows, rows)
def test_of_each_day_whoever_tells_more_is_right(one: list[Row], other: list[Row]) -> None:
    first, second = Spend.of(one), Spend.of(other)
    both = first.or_more(second)
    kept = sorted(first.days | second.days)[-KEPT_DAYS:]
    assert {day: both.on(day) for day in kept} == {day: max(first.on(day), second.on(day)) for day in kept}
    assert both.or_more(first).or_more(second) == both


@given(rows, rows)
def test_sums_travel_by_names(first: list[Row], second: list[Row]) -> None:
    """Of two parts of a batch, in whatever order; beside other counts."""
    spends = [Spend.of(first), Spend.of(second)]
    counts = Counter(to_counts(spends[:1]))
    counts.update(to_counts(spends[1:]))
    back = from_counts({**counts, "records": 7})
    assert totals(back) == totals(Spend.of([row for spend in spends for row in spend.rows]))
