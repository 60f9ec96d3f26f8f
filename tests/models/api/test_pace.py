"""Limits of the whole fleet, kept by workers that know nothing of each other."""

import heapq
from collections import deque
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.api.pace import LARGEST_S, Limits, Pace
from models.api.packing import halves, packed
from models.api.told import LONGEST_S, retry_after_s, used_up_s

NOW = datetime(2026, 10, 21, 7, 28, 0, tzinfo=UTC)


def fleet(limits: Limits, shares: list[float], tokens: int, minutes: float) -> list[tuple[float, int]]:
    """Requests of workers that always have more to ask, in order: their moments, and what each worker has."""
    paces = []
    for share in shares:
        pace = Pace(limits)
        pace.share = share
        paces.append(pace)
    asked: list[tuple[float, int]] = []
    waiting = [(0.0, number) for number in range(len(paces))]
    while waiting:
        now, number = heapq.heappop(waiting)
        if now > 60 * minutes:
            continue
        if wait_s := paces[number].ask(now):
            heapq.heappush(waiting, (now + wait_s, number))
            continue
        paces[number].took(now, tokens)
        asked.append((now, tokens))
        heapq.heappush(waiting, (now, number))
    return asked


def most_in_a_minute(asked: list[tuple[float, int]]) -> tuple[int, int]:
    """Requests and tokens in whatever stretch of 60 s has most of them."""
    window: deque[tuple[float, int]] = deque()
    most = used = most_tokens = 0
    for moment, tokens in asked:
        window.append((moment, tokens))
        used += tokens
        while window[0][0] <= moment - 60:
            used -= window.popleft()[1]
        most, most_tokens = max(most, len(window)), max(most_tokens, used)
    return most, most_tokens


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(10, 300), st.integers(100_000, 3_000_000))
def test_a_fleet_uses_what_it_may_and_no_more_in_any_minute(workers: int, a_worker: int, tokens: int) -> None:
    limits = Limits(requests_per_minute=a_worker * workers, tokens_per_minute=tokens)
    size = max(1, int(tokens / workers * LARGEST_S / 60))
    asked = fleet(limits, [1 / workers] * workers, size, 2.5)
    requests, used = most_in_a_minute(asked)
    assert requests <= a_worker * workers
    assert used <= tokens
    later = [row for row in asked if 60 <= row[0] < 150]
    share = max(len(later) / (1.5 * a_worker * workers), sum(count for _, count in later) / (1.5 * tokens))
    assert share >= 0.95 if a_worker >= 40 else share >= 0.85, "of the limit that is met first"


def test_a_request_for_more_than_its_part_makes_the_next_wait() -> None:
    pace = Pace(Limits(tokens_per_minute=6000))
    assert pace.ask(0) == 0
    pace.took(0, 975)
    assert pace.ask(0) == pytest.approx(10 - 0.75, abs=0.01)
    assert pace.ask(9.3) == 0


def test_a_request_for_more_than_its_part_waits_for_that_beforehand() -> None:
    """A long text now and then, among requests that use the limit up."""
    limit, small, large = 12_000, 40, 734
    pace = Pace(Limits(tokens_per_minute=limit))
    assert pace.ask(0, 100 * limit) == 0, "nothing went in the last minute"
    now, asked = 0.0, list[tuple[float, int]]()
    while now < 1800:
        tokens = large if len(asked) % 1500 == 1499 else small
        if wait_s := pace.ask(now, tokens):
            now += wait_s
            continue
        pace.took(now, tokens)
        asked.append((now, tokens))
    assert sum(tokens == large for _, tokens in asked) >= 5
    assert most_in_a_minute(asked)[1] <= limit
    assert sum(tokens for _, tokens in asked) >= 0.96 * limit * 30
    pace.took(now, 100 * limit)
    assert 0 < pace.ask(now + 6160, 100 * limit) <= 60, "what is more than a minute's waits for a minute"


def test_a_worker_that_was_idle_makes_up_for_little() -> None:
    pace = Pace(Limits(requests_per_minute=600))
    pace.took(0, 1)
    burst = 0
    while pace.ask(3600) == 0:
        pace.took(3600, 1)
        burst += 1
    assert burst < 20, "of 600 a minute"


def test_what_the_service_counts_is_what_is_expected() -> None:
    """Without a tokenizer a text counts for its bytes, some four times its tokens."""
    pace = Pace(Limits(tokens_per_minute=60_000))
    assert pace.most_tokens(8192) == 250
    for _ in range(40):
        pace.counted(4000, 1000)
    assert 990 < pace.most_tokens(8192) < 1010, "as many of the service's own"
    assert 3.9 < pace.seconds_of(1, 16_000) < 4.2
    pace.counted(1, 10**6)
    pace.counted(4000, 8)
    assert 990 < pace.most_tokens(8192) < 1010, "that was something else than tokens"
    exact = Pace(Limits(tokens_per_minute=60_000), exact=True)
    for _ in range(40):
        exact.counted(4000, 1000)
    assert exact.most_tokens(8192) == 250, "whoever has counted knows better"


def test_without_limits_nothing_waits() -> None:
    pace = Pace(Limits())
    for _ in range(1000):
        assert pace.ask(5) == 0
        pace.took(5, 10**6)
    assert pace.seconds_of(100, 10**9) == 0
    assert pace.most_tokens(8192) == 8192


def test_what_the_service_asks_for_counts_whatever_the_limits() -> None:
    pace = Pace(Limits())
    pace.hold(30)
    pace.hold(20)
    assert (pace.ask(10), pace.held(10), pace.ask(30), pace.held(31)) == (20, 20, 0, 0)


def test_a_share_that_grows_is_used_at_once() -> None:
    pace = Pace(Limits(requests_per_minute=60))
    pace.share = 0.25
    pace.took(0, 1)
    assert pace.ask(0) > 2
    pace.share = 1.0
    pace.took(4, 1)
    assert pace.ask(4) < 1.1


def test_a_share_that_grows_waits_no_longer_for_what_a_small_one_took() -> None:
    """A worker without partitions has a thousandth, and a model to prove every minute; then it is given all of them."""
    pace = Pace(Limits(requests_per_minute=60, tokens_per_minute=60_000))
    pace.share = 1 / 1000
    pace.took(0, 900)
    assert pace.ask(0) > 800
    pace.share = 1.0
    assert pace.ask(0) < 1
    pace.share = 1 / 2
    assert pace.ask(0) < 2, "and the other way round"


@pytest.mark.parametrize("workers", [1, 4])
def test_where_few_requests_are_allowed_each_takes_more(workers: int) -> None:
    """3 requests and 10,000 tokens a minute: small ones would use a tenth of the tokens."""
    limits = Limits(requests_per_minute=3, tokens_per_minute=10_000)
    pace = Pace(limits)
    pace.share = 1 / workers
    size = pace.most_tokens(8192)
    used = sum(tokens for moment, tokens in fleet(limits, [1 / workers] * workers, size, 20) if moment > 120)
    assert 0.9 * 10_000 * 18 < used <= 10_000 * 18
    assert pace.most_tokens(500) == 500


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT"}, 0),
        ({"retry-after": f"{NOW.timestamp() + 30:.0f}"}, 30),
        ({"retry-after": "1797225600000"}, LONGEST_S),
        ({"retry-after": "Wed, 21 Oct 99999999999999999999 07:28:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "86400"}, LONGEST_S),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
    ],
)
def test_how_long_an_answer_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "20"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20"}, 20),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "17ms"}, 0.017),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h0m1.5s"}, 3600),
        ({"x-ratelimit-remaining-tokens": "0"}, 0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2026-10-21"}, 0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "7"}, 7),
        ({"ratelimit-remaining": "0", "ratelimit-reset": f"{NOW.timestamp() + 12:.0f}"}, 12),
        ({"ratelimit-remaining": "0", "ratelimit-reset": f"{1000 * NOW.timestamp() + 12_500:.0f}"}, 12.5),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "2026-10-21T07:28:09Z"}, 9),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30),
    ],
)
def test_how_long_until_there_is_something_left(headers: dict[str, str], seconds: float) -> None:
    assert used_up_s(headers, NOW) == pytest.approx(seconds)


@given(st.text(max_size=30), st.text(max_size=30))
def test_headers_of_any_kind_harm_nobody(one: str, other: str) -> None:
    assert 0 <= used_up_s({"ratelimit-remaining": one, "ratelimit-reset": other}, NOW) <= LONGEST_S
    assert 0 <= used_up_s({"ratelimit-remaining": "0", "ratelimit-reset": other}, NOW) <= LONGEST_S
    assert 0 <= (retry_after_s({"retry-after": one}, NOW) or 0) <= LONGEST_S


@given(st.lists(st.integers(1, 500), max_size=80), st.integers(1, 40), st.integers(1, 3000))
def test_every_text_is_in_one_pack_and_no_pack_is_too_large(lengths: list[int], texts: int, tokens: int) -> None:
    packs = packed(lengths, max_texts=texts, max_tokens=tokens)
    assert sorted(place for pack in packs for place in pack) == list(range(len(lengths)))
    for pack in packs:
        assert 1 <= len(pack) <= texts
        assert len(pack) == 1 or sum(lengths[place] for place in pack) <= tokens
    for pack in packs:
        if len(pack) > 1:
            first, second = halves(pack)
            assert first + second == pack
            assert abs(len(first) - len(second)) <= 1
