"""Never above the limit, whatever is in flight, and whoever publishes beside us; and few looks for it."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from agents.settings import Settings
from agents.sources.http import admission
from agents.sources.http.admission import Admission
from agents.sources.http.problems import ProblemError
from streams.contract import Described
from streams.errors import AwayError


class Topic:
    """A topic, its workers, and how long a look takes, in turns of the loop."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.end = self.settled = 0
        self.looks = self.most = 0
        self.old = 5
        self.away = False

    async def rows(self, *asked: object) -> list[dict[str, int]]:
        self.looks += 1
        for _ in range(self.random.randrange(5)):
            await asyncio.sleep(0)
        if self.away:
            raise AwayError("Kafka is away")
        lag, settled = self.end - self.settled, self.settled
        for _ in range(self.random.randrange(self.old)):  # so old is the answer when it comes
            await asyncio.sleep(0)
        return [{"lag": lag, "settled_offset": settled}]

    def append(self) -> None:
        self.end += 1
        self.most = max(self.most, self.end - self.settled)


async def problem_of(to: Admission) -> ProblemError | None:
    """Why one more is not taken."""
    try:
        await to.take()
    except ProblemError as problem:
        return problem
    return None


def server_of(topic: Topic, max_lag: int, monkeypatch: pytest.MonkeyPatch) -> Admission:
    monkeypatch.setattr(admission, "partition_rows", topic.rows)
    made = Admission(Settings(), max_lag)
    reader: Any = SimpleNamespace()
    made.about(reader, Described(partitions=1, log="log"))
    return made


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("max_lag", [1, 7, 300])
def test_the_lag_stays_at_its_limit(servers: int, max_lag: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty publish as fast as they can; acknowledgements come whenever they come, and workers settle slowly."""
    topic = Topic(seed)
    if servers > 1:
        topic.old = 1

    async def publish(to: Admission) -> int:
        refused = 0
        for _ in range(60):
            if (problem := await problem_of(to)) is not None:
                assert problem.status == 429
                assert int(problem.headers["Retry-After"]) >= 1
                refused += 1
                await asyncio.sleep(0)
                continue
            for _ in range(topic.random.randrange(6)):
                await asyncio.sleep(0)
            topic.append()
            for _ in range(topic.random.randrange(6)):
                await asyncio.sleep(0)
            to.acknowledged()
        return refused

    async def settle() -> None:
        while True:
            for _ in range(topic.random.randrange(20)):
                await asyncio.sleep(0)
            topic.settled = min(topic.end, topic.settled + 1)

    async def run() -> None:
        made = [server_of(topic, max_lag, monkeypatch) for _ in range(servers)]
        settling = asyncio.create_task(settle())
        refused = sum(await asyncio.gather(*(publish(made[number % servers]) for number in range(20))))
        settling.cancel()
        assert refused > 0
        assert topic.end + refused == 20 * 60
        assert topic.most <= max_lag + (0 if servers == 1 else max(1, max_lag // 10))

    asyncio.run(run())


def test_a_look_is_for_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic(0)

    async def run() -> None:
        made = server_of(topic, 10_000, monkeypatch)
        for _ in range(9_000):
            await made.take()
            topic.append()
            made.acknowledged()

    asyncio.run(run())
    assert topic.looks <= 30


def test_who_waits_goes_on_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic(0)

    async def run() -> None:
        made = server_of(topic, 1, monkeypatch)
        await made.take()
        topic.append()
        made.acknowledged()
        waiting = asyncio.create_task(made.take_patiently(60, asyncio.Event()))
        await made.look()
        assert not waiting.done()
        topic.settled = 1
        await made.look()
        await waiting
        stopping = asyncio.Event()
        stopping.set()
        with pytest.raises(ProblemError):
            await made.take_patiently(60, stopping)

    asyncio.run(run())


def test_kafka_away_is_503_and_not_the_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic(0)

    async def run() -> None:
        made = server_of(topic, 5, monkeypatch)
        topic.away = True
        with pytest.raises(ProblemError) as caught:
            await made.take()
        assert caught.value.status == 503
        topic.away = False
        await made.take()

    asyncio.run(run())


def test_when_to_come_back_is_by_how_fast_workers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    topic, now = Topic(0), 0.0

    async def run() -> None:
        nonlocal now
        monkeypatch.setattr("agents.sources.http.admission.time.monotonic", lambda: now)
        made = server_of(topic, 100, monkeypatch)
        topic.end = 1000
        await made.look()
        assert made.retry_after_s == 5.0
        now, topic.settled = 2.0, 200
        await made.look()
        assert made.retry_after_s == pytest.approx((800 - 100 + 10) * 2 / 200)

    asyncio.run(run())
