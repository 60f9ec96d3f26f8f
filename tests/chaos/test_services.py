"""A real embedding server behind a front that limits, fails, delays, reorders, cuts answers and lies: at length."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.settings.environment import cache_dir
from tests.kit.harness import Servers, World, until, world_on
from tests.kit.oracle import assert_true
from tests.kit.prometheus import RULES, Prometheus, faster
from tests.kit.real_service import real_service
from tests.kit.service import (
    Fault,
    Quota,
    Service,
    added,
    cut_short,
    is_golden,
    mixed_up,
    narrower,
    not_finite,
    serving,
    shuffled,
)
from tests.stack.test_services import IN_FLIGHT, as_oracle, documents, killed_again_and_again

WORKERS, PARTITIONS = 4, 8
MEASURED_S = 150.0
QUOTAS = {"requests": Quota(requests=240), "tokens": Quota(tokens=24_000)}
"""Of a minute: a third of what the real server does on one core, with other tests beside it."""
ALERTS = {"PenstockServiceAway", "PenstockServiceQuota"}
LIMITS = {
    "requests": {"PENSTOCK_SERVICE__REQUESTS_PER_MINUTE": "240", "PENSTOCK_SERVICE__MAX_TEXTS": "5"},
    "tokens": {"PENSTOCK_SERVICE__TOKENS_PER_MINUTE": "24000"},
}


@pytest.fixture(scope="module")
def real(model_folder: Path) -> Iterator[dict[str, Any]]:
    """A server with a real model: how it is added."""
    with real_service(model_folder) as about:
        yield about


@pytest.fixture
def service(real: dict[str, Any]) -> Iterator[Service]:
    with serving(Service(upstream=real["upstream"], model=real["model"]["model"])) as made:
        yield made


@pytest.fixture
def served(service: Service, real: dict[str, Any], servers: Servers, tmp_path: Path) -> Iterator[World]:
    added(service, tmp_path / "models", **real["model"])
    with world_on(servers, tmp_path / "models" / "served", tmp_path) as made:
        made.use_model("served")
        yield made


def faulty(rng: random.Random, share: float) -> Any:
    """A rule: so many of the requests go wrong, each in one of all ways."""
    kinds = [
        lambda: Fault(status=rng.choice([500, 502, 503])),
        lambda: Fault(delay_s=rng.uniform(0.2, 2)),
        lambda: Fault(change=shuffled),
        lambda: Fault(cut=True),
        lambda: Fault(unanswered=True),
        lambda: Fault(change=cut_short),
        lambda: Fault(change=mixed_up),
        lambda: Fault(change=not_finite),
        lambda: Fault(change=narrower),
    ]

    def rule(texts: list[str]) -> Fault | None:
        return rng.choice(kinds)() if len(texts) > 1 and rng.random() < share else None

    return rule


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_four_workers_use_the_quota_and_are_hardly_ever_told_to_wait(
    kind: str, served: World, service: Service, summary: dict[str, Any]
) -> None:
    world = served

    async def scenario() -> None:
        await world.create(partitions=PARTITIONS)
        count = 0

        async def more() -> None:
            """Each partition has enough to do until the end."""
            nonlocal count
            for number in range(PARTITIONS):
                await world.produce(
                    [
                        (b"%d-%d" % (number, n), {"text": f"Gate {number} of weir {n} is open."})
                        for n in range(count, count + 900)
                    ],
                    partition=number,
                )
            count += 900

        await more()
        workers = [world.start_worker(LIMITS[kind]) for _ in range(WORKERS)]
        for worker in workers:
            await world.ready(worker)

        async def shared() -> bool:
            owned = [len(worker.get("/statusz")[1]["partitions"]) for worker in workers]
            return owned == [PARTITIONS // WORKERS] * WORKERS

        await until(shared)
        await asyncio.sleep(65)  # what was asked before they were four is out of every window
        service.rule = faulty(random.Random(7), 0.03)
        before, begun = service.statuses.copy(), time.monotonic()
        while time.monotonic() < begun + MEASURED_S:
            assert await world.lag() > 0, "there is something to do all the time"
            await asyncio.sleep(5)
        requests, tokens = service.used(begun, begun + MEASURED_S)
        seen = service.statuses - before
        used = requests / QUOTAS[kind].requests if kind == "requests" else tokens / QUOTAS[kind].tokens
        used *= 60 / MEASURED_S
        limited = seen[429] / max(1, seen.total())
        told = f"{used:.1%} used, {seen[429]} of {seen.total()} answers were 429"
        summary[f"service, quota of {kind}, 4 workers"] = told
        assert used >= 0.95
        assert limited < 0.001
        for worker in workers:
            assert worker.process.poll() is None, worker.log.read_text()[-3000:]

    service.quota = QUOTAS[kind]
    asyncio.run(scenario())


@pytest.mark.timeout(1800)
def test_twenty_kills_pay_again_for_no_more_than_was_in_flight(
    served: World, service: Service, summary: dict[str, Any]
) -> None:
    again = asyncio.run(killed_again_and_again(served, service, kills=20, count=2400))
    summary["service, 20 kills: paid again"] = f"{again} of 2400 texts, {20 * IN_FLIGHT} in flight at most"


@pytest.mark.timeout(1200)
def test_whatever_goes_wrong_every_document_gets_its_own_vectors(served: World, service: Service) -> None:
    """A third of all requests, with two workers of which one is killed now and then."""
    world, rng = served, random.Random(3)

    async def scenario() -> None:
        await world.create(partitions=4)
        await world.produce((b"doc-%d" % n, {"text": f"Gate {n} of the weir is open."}) for n in range(600))
        rule = faulty(rng, 0.33)
        service.rule = lambda texts: None if all(map(is_golden, texts)) else rule(texts)
        steady = world.start_worker()
        for turn in range(5):
            other = world.start_worker()
            await world.ready(other)
            await world.produce((b"doc-%d" % n, {"text": f"Edit {turn} of gate {n}."}) for n in range(0, 600, 7))
            await asyncio.sleep(rng.uniform(0, 5))
            other.kill()
        await world.settled(worker=steady)
        await assert_true(world, as_oracle(world, service))
        clean = await asyncio.to_thread(world.command, "index", "verify")
        assert clean.returncode == 0, clean.stdout

    asyncio.run(scenario())


@pytest.mark.timeout(600)
def test_alerts_of_a_service_fire_by_their_real_cause_and_clear(
    served: World, service: Service, tmp_path: Path
) -> None:
    """And a worker that waits for it is not said to be stalled."""
    world = served

    async def scenario(watching: Prometheus) -> None:
        async def fires(name: str) -> None:
            async def check() -> bool:
                assert "PenstockStalled" not in watching.firing()
                return name in watching.firing()

            await until(check)

        async def clears() -> None:
            async def check() -> bool:
                return watching.firing().isdisjoint(ALERTS)

            await until(check)

        await world.create(partitions=2)
        worker = world.start_worker()
        await world.ready(worker)
        watching.scrape([worker.admin_port])
        for fault, alert in (
            (Fault(status=503), "PenstockServiceAway"),
            (Fault(status=429, headers={"Retry-After": "30"}), "PenstockServiceQuota"),
        ):
            service.rule = lambda _, fault=fault: fault  # type: ignore[misc]
            await world.produce(documents(10, lambda n, alert=alert: f"{alert} {n}"))  # type: ignore[misc]
            await fires(alert)
            service.rule = lambda _: None
            await world.settled(worker=worker)
            await clears()

    watching = Prometheus(cache_dir(), tmp_path, faster(RULES.read_text()))
    try:
        asyncio.run(scenario(watching))
    finally:
        watching.close()
