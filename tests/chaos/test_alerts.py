"""Every alert fires by its real cause on a real Prometheus, and clears; every panel of the dashboard shows data."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from agents.kafka.connection import connection
from agents.kafka.reader import log_reader
from agents.local.servers import free_port
from agents.settings.environment import cache_dir
from agents.sources.pydocs import real_texts
from models.onnx.session import available_providers
from tests.chaos.test_cost import ALERTS as OF_COSTS
from tests.chaos.test_services import ALERTS as OF_SERVICES
from tests.kit.harness import DOOMED, HANGS, World, again_and_again, until
from tests.kit.prometheus import RULES, Prometheus, alerts, faster, queries
from tests.stack.test_canary import SWAPPED
from tests.stack.test_stores import watching as ingesting

KILLS_SERVERS = True
MODEL_SPEED = "fast"

FEW_CHUNKS = (
    "import agents.indexing.stages as stages, streams.drift as drift\n"
    "drift.ENOUGH, drift.ENOUGH_PAIRS, drift.HORIZON, stages.LOOKED_AT = 100, 20, 150, 10_000"
)
"""A change: so many are enough for a baseline, and to be held against it; however they come in batches."""


@pytest.mark.timeout(900)  # a dozen starts and stops, and the clocks of a real Prometheus
def test_every_alert_fires_by_its_real_cause_and_clears(world: World, tmp_path: Path) -> None:
    rules = faster(RULES.read_text())
    for window in ("rebalances_total[{}s]", "worker_info[{}s]", "offset {}s"):  # starts take seconds, or minutes
        rules = rules.replace(window.format(15), window.format(300))
    rules = rules.replace("timestamp_seconds) > 86400", "timestamp_seconds) > 10")
    fired: set[str] = set()
    shown: set[str] = set()

    async def scenario(watching: Prometheus) -> None:
        async def fires(*names: str) -> None:
            missing = set(names)

            async def check() -> bool:
                missing.difference_update(watching.firing())
                return not missing

            await until(check)
            fired.update(names)

        async def clears(*names: str) -> None:
            async def check() -> bool:
                return watching.firing().isdisjoint(names)

            await until(check)

        await world.create(partitions=2)
        await fires("PenstockLagUnknown")  # nobody is there
        prices = {world.settings.model.name: {"million_tokens": 1}}  # else no cost is counted, and its panel empty
        worker = world.start_worker({"PENSTOCK_COST__MODELS": json.dumps(prices)})
        await world.ready(worker)
        watching.scrape([worker.admin_port])
        await clears("PenstockLagUnknown")

        await world.produce([(b"poison", b"no JSON")])
        await fires("PenstockDeadLetters")
        hour_ago = int(time.time() * 1000) - 3_600_000
        await world.produce([(b"late-%d" % i, {"text": f"late {i}"}) for i in range(20)], timestamp_ms=hour_ago)
        await fires("PenstockLateRecordsFast", "PenstockLateRecordsSlow")
        await clears("PenstockDeadLetters")

        await world.settled(worker=worker)
        async with world.servers.away("elasticsearch"), _publishing(world, hour_ago):
            await fires("PenstockElasticsearchAway", "PenstockRecordsOld", "PenstockLagGrows")
            shown.update(_shown(watching))
            assert worker.process.poll() is None
        await world.settled(worker=worker)
        await clears("PenstockElasticsearchAway", "PenstockRecordsOld", "PenstockLagGrows", "PenstockLateRecordsFast")
        shown.update(_shown(watching))

        async with (
            AIOKafkaProducer(**connection(world.settings), transactional_id=world.name) as producer,
            producer.transaction(),
        ):
            await producer.send_and_wait(world.name, key=b"held", value=b'{"text": "held back"}')
            await fires("PenstockHeldBack")
            shown.update(_shown(watching))
        await clears("PenstockHeldBack")

        port = free_port()
        watching.scrape([worker.admin_port, port])
        mine = worker.get("/statusz")[1]["setup"]["provider"]  # what is fastest here: it may be either
        other = {
            "PENSTOCK_MODEL__PROVIDER": "openvino" if mine == "cpu" and len(available_providers()) > 1 else "cpu",
            "PENSTOCK_MODEL__PRECISION": "fp32",
            "PENSTOCK_ADMIN__PORT": str(port),
        }
        for turn in range(20):  # both are given partitions, again and again
            restarted = world.start_worker(other)
            restarted.admin_port = port
            await world.ready(restarted)
            if not turn and len(available_providers()) > 1:  # with one provider there is nothing to differ
                await fires("PenstockProvidersDiffer")
            assert await asyncio.to_thread(restarted.terminate) == 0
            if "PenstockRebalanceStorm" in watching.firing():
                assert turn > 1  # coming and going once is no storm
                break
        await fires("PenstockRebalanceStorm", "PenstockWorkerDown")
        assert await asyncio.to_thread(worker.terminate) == 0

        hanging = world.start_worker(DOOMED, change=HANGS)
        await world.ready(hanging)
        watching.scrape([hanging.admin_port])
        await clears("PenstockWorkerDown", "PenstockProvidersDiffer")
        await world.produce([(b"stuck", {"text": "stuck"})])
        await fires("PenstockStalled")
        hanging.kill()

        async with log_reader(world.settings) as reader:  # "stuck" was settled by nobody
            bounds = await reader.bounds(world.name, range(2))
            await reader.delete_before(world.name, {number: bound.end for number, bound in bounds.items()})
        loses = world.start_worker()
        await world.ready(loses)
        watching.scrape([loses.admin_port])
        await fires("PenstockRecordsLost")
        assert await asyncio.to_thread(loses.terminate) == 0

        await _drifts(world, watching, shown)
        fired.add("PenstockEmbeddingsDrift")
        swap = tmp_path / "swap"
        change = SWAPPED.format(swap=str(swap), after=0).replace("= 3.0", "= 20.0")  # as it is: a scrape may be late
        swapped = world.start_worker({"PENSTOCK_MODEL__CANARY_S": "1"}, change=change)
        watching.scrape([swapped.admin_port])
        await world.ready(swapped)
        swap.touch()
        await fires("PenstockModelChanged")
        assert await swapped.ended() == 3

        folder = tmp_path / "docs"
        folder.mkdir()
        (folder / "good.md").write_text("# Good")
        (folder / "bad.txt").write_bytes(b"a\0b")
        port = free_port()
        async with ingesting(world, "files", folder, "--watch", "1", "--metrics-port", port):
            watching.scrape([port])
            await fires("PenstockSourceFails")
            shutil.rmtree(folder)
            await fires("PenstockSourceStale")

        refuses = world.start_worker({"PENSTOCK_SPLIT__MAX_CHARS": "300"})  # the index has another contract
        watching.scrape([refuses.admin_port])
        assert await refuses.ended() == 3
        await clears("PenstockStalled")
        await fires("PenstockWorkerDown")

    watching = Prometheus(cache_dir(), tmp_path, rules)
    try:
        asyncio.run(scenario(watching))
    finally:
        watching.close()
    rest = {alert["alert"] for alert in alerts()} - fired - OF_SERVICES - OF_COSTS
    assert rest <= ({"PenstockProvidersDiffer"} if len(available_providers()) == 1 else set())
    assert set(queries()) - shown == set()


async def _drifts(world: World, watching: Prometheus, shown: set[str]) -> None:
    """Each statistic by its own cause."""

    async def fires(*statistics: str) -> None:
        async def check() -> bool:
            return watching.firing("statistic", "PenstockEmbeddingsDrift") >= set(statistics)

        await until(check)

    with_a_model = {"PENSTOCK_MODEL__CANARY_S": "1", "MODEL_SPEED": ""}  # the others' vectors have no meaning
    worker = world.start_worker(with_a_model, change=FEW_CHUNKS)
    watching.scrape([worker.admin_port])
    await world.produce((f"usual-{i}".encode(), {"text": page}) for i, page in enumerate(real_texts(120, 3000)))
    await world.settled(worker=worker)

    async def has_baseline() -> bool:
        return any(name.startswith("penstock_embedding_drift") for name in worker.metrics())

    await until(has_baseline)
    shown.update(_shown(watching))
    assert watching.firing("statistic", "PenstockEmbeddingsDrift") == set()
    login = "Sign in to continue. Your session has expired, or cookies are turned off in this browser."
    await world.produce((f"login-{i}".encode(), {"text": login, "title": f"Page {i}"}) for i in range(600))
    await fires("centroid", "spread", "identical")
    sentence = "The turbine turns the power of the water into rotation, and the generator turns that into current. "
    await world.produce((f"again-{i}".encode(), {"text": f"{i} {sentence * 60}"}) for i in range(120))
    await fires("neighbours")
    shown.update(_shown(watching))
    assert await asyncio.to_thread(worker.terminate) == 0


def _shown(watching: Prometheus) -> set[str]:
    """Panels that show something now; fails for a query that Prometheus refuses."""
    return {panel for panel, query in queries().items() if watching.query(query)}


@asynccontextmanager
async def _publishing(world: World, timestamp_ms: int) -> AsyncIterator[None]:
    """Some hundred records a second meanwhile, dated back."""

    async def work(turn: int) -> None:
        rows = [(b"more-%d" % i, orjson.dumps({"text": "more"})) for i in range(100 * turn + 100, 100 * turn + 200)]
        await world.produce(rows, timestamp_ms=timestamp_ms)

    async with again_and_again(work, 0.3):
        yield
