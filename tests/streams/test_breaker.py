"""The breaker: opens after failures in a row, lets one probe through, closes when that is answered."""

from hypothesis import given
from hypothesis import strategies as st

from streams.breaker import Breaker


def breaker(threshold: int = 3) -> Breaker:
    return Breaker(threshold=threshold, wait_s=lambda probes: 10.0 * (probes + 1))


def opened(now: float = 0.0) -> Breaker:
    made = breaker()
    for _ in range(3):
        assert made.ask(now) == 0
        made.failed(now)
    return made


def test_opens_after_failures_in_a_row_only() -> None:
    made = breaker()
    for _ in range(9):
        made.failed(0)
        made.failed(0)
        made.succeeded()
    assert made.state == "closed"
    assert opened().state == "open"


def test_one_probe_at_a_time_and_longer_waits_after_each() -> None:
    made = opened()
    assert made.ask(4) == 6
    assert made.ask(10) == 0  # the probe
    assert made.ask(10) > 0  # everyone else
    made.failed(10)
    assert made.ask(29) == 1
    assert made.ask(30) == 0
    made.succeeded()
    assert (made.state, made.ask(30)) == ("closed", 0)


def test_retry_after_opens_at_once_and_is_waited_for() -> None:
    made = breaker()
    made.failed(0, at_least_s=120)
    assert made.ask(119) == 1
    assert made.ask(120) == 0


def test_a_failure_of_a_request_sent_before_it_opened_starts_no_new_wait() -> None:
    made = opened()
    made.failed(5)
    assert made.ask(10) == 0


def test_a_probe_that_is_given_up_lets_the_next_one_go() -> None:
    made = opened()
    assert made.ask(10) == 0
    made.abandoned()
    assert made.ask(10) == 0


@given(st.lists(st.sampled_from(["ask", "fail", "succeed", "late", "abandon"]), max_size=60))
def test_it_never_stays_shut_for_ever(events: list[str]) -> None:
    made, now = breaker(), 0.0
    for event in events:
        now += 1
        match event:
            case "ask":
                made.ask(now)
            case "fail":
                made.failed(now)
            case "late":
                made.failed(now, at_least_s=5)
            case "succeed":
                made.succeeded()
            case "abandon":
                made.abandoned()
    if made.state == "half_open":
        made.failed(now)
    now += 10_000
    assert made.ask(now) == 0
