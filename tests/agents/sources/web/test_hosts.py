"""How often a host is asked, by a clock of the test."""

from agents.sources.web.fetching import Broken, Busy, Denied, Missing, Unchanged
from agents.sources.web.hosts import DENIED_IN_A_ROW, FAILING_IN_A_ROW, IN_A_ROW, Hosts


class Clock:
    now = 100.0


def hosts(delay_s: float = 1.0, concurrency: int = 2) -> Hosts:
    return Hosts(delay_s=delay_s, concurrency=concurrency, backoff_s=1.0, now=lambda: Clock.now)


def test_a_delay_and_so_many_at_once() -> None:
    made = hosts()
    assert made.wait_s("h") == 0
    begun = made.begin("h")
    assert made.wait_s("h") == 1.0
    assert made.wait_s("other") == 0
    Clock.now += 1
    made.begin("h")
    Clock.now += 5
    assert made.wait_s("h") == float("inf")
    made.end("h", begun, Unchanged())
    assert made.wait_s("h") == 0


def test_a_busy_host_is_left_alone_as_long_as_it_says() -> None:
    made = hosts(0.0, 4)
    begun = [made.begin("h") for _ in range(4)]
    for one in begun:
        made.end("h", one, Busy(429, 30.0))
    assert made.of("h").in_a_row == 1, "those that were on their way together"
    assert made.wait_s("h") == 30.0
    Clock.now += 30
    made.end("h", made.begin("h"), Busy(503, None))
    assert 2.0 <= made.wait_s("h") <= 4.0
    Clock.now += 4
    made.end("h", made.begin("h"), Missing(404))
    assert made.of("h").in_a_row == 0
    made.end("h", made.begin("h"), Busy(429, 86400.0))
    assert "86400 s" in (made.of("h").given_up or "")


def test_a_host_that_never_answers_is_given_up() -> None:
    dead, failing = Broken("no route", passes=True, alive=False), Broken("it answers 500", passes=True)
    for answer, count in ((dead, IN_A_ROW), (Denied(403), DENIED_IN_A_ROW), (failing, FAILING_IN_A_ROW)):
        made = hosts(0.0)
        for number in range(count):
            assert made.of("h").given_up is None, number
            Clock.now += 1
            made.end("h", made.begin("h"), answer)
        assert "in a row" in (made.of("h").given_up or "")


def test_a_host_that_answers_some_may_deny_others() -> None:
    made = hosts(0.0)
    made.end("h", made.begin("h"), Unchanged())
    for _ in range(3 * DENIED_IN_A_ROW):
        made.end("h", made.begin("h"), Denied(401))
    made.end("h", made.begin("h"), Broken("its certificate", passes=False))
    assert made.of("h").given_up is None
