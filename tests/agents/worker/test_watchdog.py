"""What `/livez` says about servers that are away: as the manifests' comments have it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import InvalidSessionTimeoutError

from agents.settings import Settings
from agents.worker import watchdog
from agents.worker.membership import Membership
from agents.worker.watchdog import Watchdog
from streams.errors import ConfigError, PenstockError, RefusedError

STALL_S = Settings().lifecycle.stall_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its last value is now, for the watchdog."""
    times = [0.0]
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: times[-1]))
    return times


async def still_there(_: str) -> bool:
    return False


async def no_members(_: str) -> list[dict[str, str]]:
    """Of a group."""
    return []


class Incarnations:
    """What was `found` instead of topic and index as they were, if anything."""

    def __init__(self, found: PenstockError | None = None) -> None:
        self._found = found

    async def require_same(self, *, idle: bool) -> None:
        assert idle, "nobody else looks at the claimed records"
        if self._found:
            raise self._found


def made(*, elasticsearch: bool, found: PenstockError | None = None) -> Watchdog:
    """Of a worker without partitions; `elasticsearch`: whether it answers."""
    parts: dict[str, Any] = {
        "assignment": SimpleNamespace(snapshot=list),
        "pipeline": SimpleNamespace(progressed=0.0, changed=None),
        "requests": SimpleNamespace(closed=elasticsearch),
        "incarnations": Incarnations(found),
        "membership": Membership(Settings(), cast(Any, SimpleNamespace(group_members=no_members, is_gone=still_there))),
    }
    return Watchdog(Settings(), **cast(Any, parts))


def test_a_worker_that_has_not_heard_of_kafka_is_not_alive_after_a_while(clock: list[float]) -> None:
    """Its client may not recover; its successor waits for the broker, alive (`agents.worker.startup`)."""
    found = made(elasticsearch=True)
    clock.append(STALL_S - 1)
    assert found.stalled() == []
    clock.append(STALL_S + 1)
    assert "has not answered" in found.stalled()[0]


def test_elasticsearch_may_be_away_without_end(clock: list[float]) -> None:
    found = made(elasticsearch=False)
    clock.append(100 * STALL_S)
    assert found.stalled() == []


def test_a_rebalance_that_does_not_end_is_a_stall_and_one_after_the_other_is_none(clock: list[float]) -> None:
    found = made(elasticsearch=True)

    def look(seconds: float, rebalance: int) -> None:
        clock.append(seconds)
        asyncio.run(found.look(paused=False, rebalance=rebalance))

    for number in range(5):
        look(number * STALL_S, number)
        look((number + 0.9) * STALL_S, number)
        assert found.stalled() == []
    with pytest.raises(PenstockError, match="a rebalance of the group has not ended for 120 s"):
        look(5.1 * STALL_S, 4)


def test_a_topic_made_anew_in_a_rebalance_is_named(clock: list[float]) -> None:
    """The rebalance may never end: Faust waits for the claims of partitions that the group gave up meanwhile."""
    with pytest.raises(RefusedError, match="is another log"):
        asyncio.run(made(elasticsearch=True, found=RefusedError("it is another log")).look(paused=False, rebalance=1))
    away = made(elasticsearch=True, found=PenstockError("Kafka cannot be reached"))
    asyncio.run(away.look(paused=False, rebalance=1))


def test_a_process_that_was_stopped_in_a_rebalance_gets_its_time(clock: list[float]) -> None:
    """Suspended with its machine, or for a snapshot of it: nothing was tried meanwhile."""
    found = made(elasticsearch=True)
    for seconds in (10, 700, 702, 700 + 0.9 * STALL_S):
        clock.append(seconds)
        asyncio.run(found.look(paused=False, rebalance=1))
    clock.append(701 + STALL_S)
    with pytest.raises(PenstockError, match="a rebalance of the group has not ended for 120 s"):
        asyncio.run(found.look(paused=False, rebalance=1))


def test_a_refusal_of_the_group_ends_the_worker_at_once(clock: list[float]) -> None:
    """Else it is a rebalance that does not end, and nothing names the cause."""
    found = made(elasticsearch=True)
    with pytest.raises(ConfigError, match=r"kafka.session_timeout_s = 10 is outside the broker's bounds"):
        asyncio.run(found.look(paused=False, rebalance=1, refused=InvalidSessionTimeoutError()))
