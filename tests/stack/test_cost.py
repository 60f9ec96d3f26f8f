"""What a service is paid, against its own count; a budget of half the work, and the days that it takes then."""

import asyncio
import json
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agents.kafka.claims import read_claims
from agents.kafka.reader import log_reader
from agents.operations.cost import holds_up
from agents.operations.status import read_status
from agents.settings.sections import BudgetSettings, RouteSettings
from agents.worker.spending import USED_UP
from models.golden import GOLDEN_TEXTS
from streams.cost import DAY_S, NANO
from tests.kit.harness import DOOMED, Worker, World, until
from tests.kit.oracle import assert_true
from tests.kit.service import Fault, Service, is_golden
from tests.stack.test_services import IN_FLIGHT, as_oracle, killed_again_and_again

TOKEN, REQUEST = 1000, 50_000
"""Nano."""
PRICES = {"served": {"million_tokens": TOKEN * 10**6 / NANO, "request": REQUEST / NANO}}
GOLDEN = sum(len(text.encode()) + REQUEST // TOKEN for text in GOLDEN_TEXTS) * TOKEN
"""At most, when they are embedded once."""
SLICE = 4
"""Chunks that are embedded at once."""
NOON = 1_764_504_000.0
"""Of 2025-11-30, in seconds since 1970."""
CLOCK = """
import time
from pathlib import Path
import agents.indexing.assembly
import agents.worker.app as app
from streams.batch_size import BatchSize

agents.indexing.assembly.batch_size = lambda _: BatchSize(start={slice}, least={slice}, most={slice})
meter, spending = app.Meter, app.Spending

def now():
    return {noon} + float(Path({clock!r}).read_text())

app.Meter = lambda *about: meter(*about, now)
app.Spending = lambda *about, **more: spending(*about, **more, now=now)
"""
"""A change: the clock of costs is a file's, and begins at `NOON`; batches are small."""


CHEAP = "cheap"
ONLY_WHERE_ASKED = {"never": ("yes",)}


class Days:
    """The clock of workers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.day = 0
        self._write(0.0)

    def _write(self, seconds: float) -> None:
        scratch = self._path.with_suffix(".new")
        scratch.write_text(str(seconds))
        scratch.rename(self._path)

    def next(self) -> None:
        """The next noon comes."""
        self.day += 1
        self._write(float(self.day * DAY_S))

    @property
    def change(self) -> str:
        return CLOCK.format(clock=str(self._path), slice=SLICE, noon=NOON)

    def now(self) -> float:
        """What that clock says, in seconds since 1970."""
        return NOON + self.day * DAY_S


def priced(per_day: int | None = None, **more: str) -> dict[str, str]:
    """Of a worker's environment; `per_day`: nano."""
    budget = {} if per_day is None else {"PENSTOCK_BUDGET__PER_DAY": f"{per_day / NANO:.9f}"}
    return {"PENSTOCK_COST__MODELS": json.dumps(PRICES), "PENSTOCK_MODEL__CANARY_S": "86400", **budget, **more}


def bill(service: Service) -> int:
    """By its own count, nano."""
    requests, tokens = service.billed
    return requests * REQUEST + tokens * TOKEN


async def books(world: World) -> dict[str, int]:
    """By the claims: nano by day."""
    async with log_reader(world.settings) as reader:
        claims = await read_claims(reader, world.settings)
    rows = [row for claim in claims.values() for row in claim.spend.rows]
    return {day: sum(row.cost for row in rows if row.day == day) for day in sorted({row.day for row in rows})}


def told(world: World, by: str, environment: dict[str, str]) -> Any:
    """`penstock cost`."""
    done = world.command("cost", "--by", by, "--json", extra=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def kept_under_kills(world: World, service: Service, *, kills: int, count: int) -> str:
    """Kill a worker so often; returns how far its books are off. Fails where that is more than was in flight."""
    again = await killed_again_and_again(world, service, kills=kills, count=count, extra=priced())
    longest = len(f"Paragraph {count} of a document that is unlike the others.")
    asked = IN_FLIGHT // 4 + 2
    """Requests of two batches, of up to five texts each of which the control is one."""
    a_kill = IN_FLIGHT * longest * TOKEN + asked * (REQUEST + len(GOLDEN_TEXTS[0]) * TOKEN)
    paid, told = bill(service), sum((await books(world)).values())
    lost, most = paid - told, kills * a_kill + (kills + 1) * GOLDEN
    assert 0 <= lost <= most, f"{paid} was paid, the books have {told}: {lost} are in no claim, {most} may be"
    return (
        f"{again} of {count} texts paid again, {kills * IN_FLIGHT} may be; {lost / paid:.1%} of what was paid is in no "
        f"claim, {most / paid:.1%} may be"
    )


async def is_paused(worker: Worker) -> bool:
    """Whether it waits for tomorrow's budget."""
    assert worker.process.poll() is None, worker.log.read_text()[-3000:]
    return USED_UP in (worker.get("/statusz")[1] or {}).get("waits_for", ())


def test_a_budget_of_half_the_work_pauses_and_goes_on_the_next_day(
    served: World, service: Service, tmp_path: Path
) -> None:
    world, days, count = served, Days(tmp_path / "clock"), 64
    texts = [f"Document {n:02} is about gate {n:02}. " + "water " * 40 + "falls." for n in range(count)]
    half = count * len(texts[0]) * TOKEN // 2
    slice_cost = SLICE * len(texts[0]) * TOKEN * 2
    environment = priced(half, PENSTOCK_LIFECYCLE__STALL_S="5")

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((b"s3://b%d/doc-%d" % (n % 2, n), {"text": text}) for n, text in enumerate(texts))
        worker = world.start_worker(environment, change=days.change)
        await until(lambda: is_paused(worker))
        shown = worker.metrics()
        assert shown["penstock_budget_paused"] == 1
        assert shown["penstock_budget_per_day"] == half / NANO
        await asyncio.sleep(6)  # longer than a stall
        assert await is_paused(worker)
        assert worker.metrics()["penstock_budget_used_ratio"] > 0.8
        assert (worker.get("/readyz")[0], worker.get("/livez")[0]) == (200, 200)
        assert await asyncio.to_thread(worker.terminate) == 0
        assert "deadline reached" not in worker.log.read_text()
        paid = service.paid_for(texts)
        assert 0 < paid < count
        budget = BudgetSettings(per_day=Decimal(half) / NANO)
        shown_by_status = await read_status(world.settings.model_copy(update={"budget": budget}), days.now)
        assert shown_by_status["lag"] > 0
        assert "of the day's budget is spent" in (holds_up(shown_by_status["budget"]) or "")
        assert holds_up({**shown_by_status["budget"], "then": "alert"}) is None
        assert holds_up({**shown_by_status["budget"], "used_ratio": 0.1}) is None

        worker = world.start_worker(environment, change=days.change)
        await until(lambda: is_paused(worker))
        again = service.paid_for(texts) - paid  # what comes first now may be a text that just fits what is left
        assert again in (0, 1), "what was spent is remembered"
        async with world.lags() as lag:

            async def paused_or_done() -> bool:
                return await lag() == 0 or await is_paused(worker)

            while await lag():
                assert days.day < 9
                before = service.paid_for(texts)
                days.next()

                async def goes_on(before: int = before) -> bool:
                    assert worker.process.poll() is None, worker.log.read_text()[-3000:]
                    # one that waited tells so for a moment longer: all may be paid for here, and the claims yet to come
                    return service.paid_for(texts) > before or await lag() == 0

                await until(goes_on)
                await until(paused_or_done)
        await assert_true(world, as_oracle(world, service))
        assert service.paid_for(texts) == count, "and nothing is paid for twice"
        spent = await books(world)
        assert 2 <= len(spent) <= days.day + 1
        assert all(cost <= half + slice_cost for cost in spent.values()), (spent, half)
        assert 0 <= bill(service) - sum(spent.values()) <= 2 * GOLDEN, (
            "but for golden texts behind a worker's last batch"
        )
        shown = worker.metrics()
        by_day = list(spent.values())
        assert shown['penstock_cost_total{model="served",route="default"}'] == pytest.approx(sum(by_day[1:]) / NANO)
        assert shown["penstock_document_cost_count"] == count - paid
        assert shown['penstock_model_tokens_total{model="served"}'] > (count - paid) * len(texts[0])
        divided = {"day": spent, "model": {"served"}, "route": {"default"}, "source": {"s3://b0", "s3://b1"}}
        for by, names in divided.items():
            data = told(world, by, environment)
            assert {row[by] for row in data["rows"]} == set(names)
            assert round(sum(row["cost"] for row in data["rows"]) * NANO) == sum(spent.values())
            assert sum(row["documents"] for row in data["rows"]) == count
        assert "served" in world.command("cost", "--by", "model", extra=environment).stdout
        other = {**environment, "PENSTOCK_COST__MODELS": '{"x": {"request": 1}}'}
        checked = world.command("config", "check", extra=other)
        assert checked.returncode == 0
        assert "warning: cost.models.x: there is no model x in" in checked.stderr
        assert "warning: cost.models has no prices of served: all" in checked.stderr
        assert "there is no route fast" in world.command("cost", extra={"PENSTOCK_BUDGET__THEN": "route:fast"}).stderr

    asyncio.run(scenario())


def test_a_budget_of_half_the_work_sends_the_rest_to_another_model_and_none_of_it_back(
    served: World, service: Service, model_folder: Path, tmp_path: Path
) -> None:
    world, days, count = served, Days(tmp_path / "clock"), 64
    texts = [f"Document {n:02} is about weir {n:02}. " + "water " * 40 + "falls." for n in range(count)]
    half = count * len(texts[0]) * TOKEN // 2
    in_flight = 2 * SLICE * (len(texts[0]) * TOKEN + REQUEST)
    (tmp_path / "models" / model_folder.name).symlink_to(model_folder)
    world.route(RouteSettings(name=CHEAP, model=model_folder.name, metadata=ONLY_WHERE_ASKED))
    then = BudgetSettings(per_day=Decimal(half) / NANO, then=f"route:{CHEAP}")
    world.settings = world.settings.model_copy(update={"budget": then})
    environment = priced(half, PENSTOCK_BUDGET__THEN=then.then)

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((b"doc-%d" % n, {"text": text}) for n, text in enumerate(texts))
        worker = world.start_worker(environment, change=days.change)
        await world.settled(worker=worker)
        paid = service.paid_for(texts)
        assert 0 < paid < count
        (spent,) = (await books(world)).values()
        assert half / 2 < spent <= half + in_flight
        assert worker.metrics()["penstock_budget_rerouted_total"] == count - paid
        await assert_true(world, as_oracle(world, service), budgeted=True)
        rows = told(world, "route", environment)["rows"]
        assert {row["route"]: row["documents"] for row in rows} == {"default": paid, CHEAP: count - paid}
        assert await asyncio.to_thread(worker.terminate) == 0

        days.next()
        assert world.command("index", "rebuild", "--in-place").returncode == 0
        worker = world.start_worker(environment, change=days.change)
        more = [text.replace("weir", "gate") for text in texts[:SLICE]]
        await world.produce((b"new-%d" % n, {"text": text}) for n, text in enumerate(more))
        await world.settled(worker=worker)
        assert (service.paid_for(texts), service.paid_for(more)) == (paid, SLICE), "what is there stays where it is"
        assert worker.metrics()["penstock_budget_rerouted_total"] == 0
        await assert_true(world, as_oracle(world, service), budgeted=True)
        verified = world.command("index", "verify", extra=environment)
        assert verified.returncode == 0, verified.stdout

    asyncio.run(scenario())


def test_what_was_spent_outlives_kills(served: World, service: Service) -> None:
    asyncio.run(kept_under_kills(served, service, kills=3, count=600))


def test_a_worker_that_slept_takes_nothing_from_the_books(served: World, service: Service) -> None:
    """Its partition is another one's by then, and has all claimed; its own claim comes behind that."""
    world, asked = served, list[list[str]]()

    def rule(texts: list[str]) -> Fault | None:
        if all(map(is_golden, texts)):
            return None
        asked.append(texts)
        return Fault(delay_s=4)

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce((b"doc-%d" % n, {"text": f"Document {n} is about gate {n}."}) for n in range(40))
        service.rule = rule
        asleep = world.start_worker({**priced(), **DOOMED})

        async def embeds() -> bool:
            return bool(asked)

        await until(embeds)
        asleep.process.send_signal(signal.SIGSTOP)
        service.rule = lambda _: None
        awake = world.start_worker(priced())
        await world.settled(worker=awake)
        before = await books(world)
        await world.produce([(b"doc-40", {"text": "One more."})])
        await world.settled(worker=awake)
        kept = await books(world)
        assert sum(kept.values()) > sum(before.values()) > 0
        asleep.process.send_signal(signal.SIGCONT)

        async def is_awake() -> bool:
            return await books(world) != kept or asleep.log.read_text().count("partitions assigned") >= 2

        async def so() -> bool:
            return await books(world) == kept

        await until(is_awake)
        asleep.kill()  # who wakes up and stays may have the partition, and knows no better
        await until(so)

    asyncio.run(scenario())
