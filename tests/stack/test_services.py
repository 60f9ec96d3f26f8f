"""A model behind a service, on real servers: filled, searched, verified, failing, limited, replaced and killed."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from models.api.asking import Text
from models.manifest import manifest_of
from models.onnx.embedder import OnnxEmbedder
from models.tokens import tokens_of
from streams.plan import Vectors
from streams.split import Input
from tests.kit.harness import DOOMED, Worker, World, until
from tests.kit.oracle import assert_true
from tests.kit.service import Fault, Service, is_golden, mixed_up, not_finite, shuffled, vector_of
from tests.kit.two_models import rows

SMALL_BATCHES = """
import agents.indexing.assembly
from streams.batch_size import BatchSize
agents.indexing.assembly.batch_size = lambda _: BatchSize(start=16, least=16, most=16)
"""
"""A change: what is in flight is small beside the topic."""


def as_oracle(world: World, service: Service) -> OnnxEmbedder:
    """What the oracle asks of a model, of this service's."""
    manifest = manifest_of(world.settings.model_folder)
    tokens = tokens_of(world.settings.model_folder, manifest)

    def encode(texts: Sequence[str]) -> list[Text]:
        counted: Sequence[Input] = tokens.encode(texts)
        return [Text(manifest.document_prefix + text, len(ids)) for text, ids in zip(texts, counted, strict=True)]

    def embed(texts: Sequence[Text]) -> Vectors:
        return np.concatenate([service.vectors_of([text.text]) for text in texts])

    session = SimpleNamespace(embed=embed)
    return cast(
        OnnxEmbedder, SimpleNamespace(manifest=manifest, tokens=SimpleNamespace(encode=encode), session=session)
    )


def documents(count: int, text: Callable[[int], str] = lambda n: f"Document {n} is about gate {n}.") -> list[Any]:
    return [(b"doc-%d" % n, {"text": text(n)}) for n in range(count)]


async def is_waiting(worker: Worker, words: str) -> bool:
    """Whether it is not ready for this reason."""
    status, told = worker.get("/readyz")
    return status == 503 and words in json.dumps(told)


def test_an_index_is_filled_by_a_service_and_all_commands_work(served: World, service: Service) -> None:
    """One text is refused; answers fail, come late, in another order, wrong or not at all."""
    world, faults = served, iter([Fault(status=500), Fault(change=mixed_up), Fault(change=not_finite), Fault(cut=True)])

    def rule(texts: list[str]) -> Fault | None:
        if all(map(is_golden, texts)):
            return None
        if any("poison" in text for text in texts):
            return Fault(status=400, said="content filter")
        return next(faults, Fault(change=shuffled))

    async def scenario() -> None:
        await world.create(partitions=4)
        assert service.paid.total() == 0, "an index is made without asking anybody"
        service.rule = rule
        await world.produce(documents(200))
        (poison,) = await world.produce([(b"poison", {"text": "a poisoned document"})])
        worker = world.start_worker({"PENSTOCK_SERVICE__MAX_TEXTS": "20"})
        await world.settled(worker=worker)
        await world.produce([(b"doc-7", {"text": "Another text."}), (b"doc-8", None)])
        await world.settled(worker=worker)
        place = poison.partition, poison.offset
        await assert_true(world, as_oracle(world, service), also_rejected={place}, ignore={"poison"})
        (letter,) = await world.dead_letters()
        told = dict(letter.headers)
        assert told["__connect.errors.stage"] == b"embed"
        assert b"is refused by the embedding service: 400 content filter" in told["__connect.errors.exception.message"]
        shown = worker.metrics()
        assert shown['penstock_service_requests_total{outcome="answered"}'] >= 10
        assert shown['penstock_service_requests_total{outcome="refused"}'] >= 2
        assert shown['penstock_service_requests_total{outcome="wrong"}'] >= 1
        assert shown["penstock_service_tokens_total"] > 200 * 20
        assert shown['penstock_breaker_state{target="service"}'] == 0
        assert shown['penstock_model_info{name="served",precision="service",provider="service",sha256=""}'] == 1
        assert worker.get("/statusz")[1]["service"] == "m"
        service.rule = lambda _: None
        found = rows(world.command("search", "Document 42 is about gate 42.", "-k", "1", "--json"))
        assert [hit["id"] for hit in found] == ["doc-42#0"]
        status = rows(world.command("status", "--json"))
        assert (status["lag"], status["model"], status["setup"]) == (0, "served", f"m at {service.url}/embeddings")
        clean = world.command("index", "verify", "--json")
        assert (clean.returncode, rows(clean)["vectors"] > 100) == (0, True), clean.stdout + clean.stderr
        assert "on the service at 127.0.0.1" in world.command("config", "check").stdout
        assert "service.max_texts" in world.command("config", "show").stdout
        assert worker.terminate() == 0
        built = rows(world.command("index", "rebuild", "--json"))
        assert (built["from_topic"] > 190, built["damaged"]) == (True, [])

    asyncio.run(scenario())


def test_a_worker_waits_for_a_service_and_for_its_quota_and_refuses_another_model(
    served: World, service: Service
) -> None:
    async def scenario() -> None:
        await world.create(partitions=2)
        away = Fault(status=503)
        service.rule = lambda _: away
        worker = world.start_worker({"PENSTOCK_LIFECYCLE__STALL_S": "5"})
        await until(lambda: is_waiting(worker, "does not answer as it should (503 the test says so)"))
        service.rule = lambda _: None
        await world.ready(worker)
        service.rule = lambda _: away
        await world.produce(documents(5))
        await until(lambda: is_waiting(worker, "the embedding service at http://127.0.0.1"))
        assert worker.metrics()['penstock_breaker_state{target="service"}'] > 0
        service.rule = lambda _: None
        await world.settled(worker=worker)
        service.rule = lambda _: Fault(status=429, headers={"Retry-After": "8"})
        await world.produce(documents(7, lambda n: f"Edited {n}."))
        await until(lambda: is_waiting(worker, "asks to wait for its quota"))
        assert worker.metrics()["penstock_service_wait_seconds"] > 5
        service.rule = lambda _: None
        await world.settled(worker=worker)  # longer than a stall, and no stall
        await assert_true(world, as_oracle(world, service))
        before = await world.chunks()
        service.vectors = lambda texts: np.stack([vector_of(text, model="another") for text in texts])
        await world.produce(documents(9, lambda n: f"Once more {n}."))
        assert await worker.ended() == 3
        assert "has another model now" in worker.log.read_text()
        assert await world.chunks() == before, "not one vector of it was written"
        again = world.start_worker()
        assert await again.ended() == 3
        assert "has another model now" in again.log.read_text()
        refused = world.command("search", "Once more 1.")
        assert (refused.returncode, "another model" in refused.stderr) == (3, True), refused.stderr

    world = served
    asyncio.run(scenario())


def test_a_worker_takes_the_part_of_its_partitions(served: World) -> None:
    """Of what the fleet may ask: all of it while it is alone."""

    async def scenario() -> None:
        await served.create(partitions=4)
        one = served.start_worker()

        async def shares(*wanted: float) -> None:
            async def so() -> bool:
                told = [worker.get("/statusz")[1] or {} for worker in served.workers if worker.process.poll() is None]
                owned = [(len(row.get("partitions", [])) / 4, row.get("share")) for row in told]
                return owned == [(share, share) for share in wanted]

            await until(so)

        await shares(1.0)
        served.start_worker()
        await shares(0.5, 0.5)
        assert await asyncio.to_thread(one.terminate) == 0
        await shares(1.0)

    asyncio.run(scenario())


def test_kill_9_pays_again_for_no_more_than_was_in_flight(served: World, service: Service) -> None:
    """By the service's own count; 20 kills in chaos."""
    asyncio.run(killed_again_and_again(served, service, kills=2, count=300))


async def killed_again_and_again(
    world: World, service: Service, *, kills: int, count: int, extra: Mapping[str, str] | None = None
) -> int:
    """How many texts were paid for again. Fails where, at any kill, these are more than two batches have. `extra`: of a
    worker's environment."""
    texts = [f"Paragraph {n} of a document that is unlike the others." for n in range(count)]
    await world.create(partitions=4)
    await world.produce(
        (b"doc-%d" % n, {"chunks": [{"text": t} for t in texts[n : n + 3]]}) for n in range(0, count, 3)
    )
    service.rule = lambda _: Fault(delay_s=0.02)
    for number in range(kills):
        worker = world.start_worker(
            {**DOOMED, "PENSTOCK_SERVICE__MAX_TEXTS": "5", **(extra or {})}, change=SMALL_BATCHES
        )
        goal = service.paid_for(texts) + count // (2 * kills)

        async def so_many(goal: int = goal, worker: Worker = worker) -> bool:
            assert worker.process.poll() is None, worker.log.read_text()[-3000:]
            return service.paid_for(texts) >= goal or service.paid.keys() >= set(texts)  # a slow machine kills late

        await until(so_many, every_s=0.01)
        worker.kill()
        again = service.paid_for(texts) - len(set(texts) & service.paid.keys())
        assert again <= number * IN_FLIGHT, f"{again} texts were paid for again after {number} kills"
    worker = world.start_worker(extra, change=SMALL_BATCHES)
    await world.settled(worker=worker)
    again = service.paid_for(texts) - count
    assert 0 <= again <= kills * IN_FLIGHT, f"{again} of {count} texts were paid for again by {kills} kills"
    await assert_true(world, as_oracle(world, service))
    return again


IN_FLIGHT = 2 * 16
"""Texts of two batches of `SMALL_BATCHES`."""
