"""Searches that rank by the default model alone, what another one found included."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.settings.sections import RouteSettings
from models.cosines import cosines
from models.onnx.embedder import OnnxEmbedder
from streams.plan import Vectors
from tests.kit.harness import Servers, World, world_on
from tests.kit.service import Service, added, is_golden, serving, vector_of
from tests.kit.two_models import rows
from tests.kit.wordllama import NAME

SHORT = RouteSettings(name="short", model=NAME, max_chars=60)
QUESTION = "how do I rotate log files?"
NOTES = [
    "Logs are rotated every night by logrotate.",
    "The canteen is open from noon to two.",
    "A turbine is turned by falling water.",
    "Old log files are compressed, then deleted.",
    "Backups are made on Sundays.",
    "Whales breathe air.",
]
PAGES = [
    f"{note} This is told at length here, with all that belongs to it and more than anybody has asked for."
    for note in (
        "Log files grow until somebody rotates them, and the disk is full.",
        "Trains to the coast leave every hour.",
        "A lock in a canal lifts boats from one level to the next.",
    )
]


def filled(world: World) -> None:
    """Short notes for the quick model, longer pages for the other one."""
    world.route(SHORT)

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"note-{n}".encode(), {"text": note}) for n, note in enumerate(NOTES))
        await world.produce((f"page-{n}".encode(), {"text": page}) for n, page in enumerate(PAGES))
        await world.settled(worker=world.start_worker())
        await world.chunks()  # which makes them visible to searches

    asyncio.run(scenario())


def found(world: World, *arguments: str) -> list[dict[str, Any]]:
    hits: list[dict[str, Any]] = rows(world.command("search", "--json", QUESTION, *arguments))
    return hits


def scores(embedder: OnnxEmbedder, texts: Sequence[str]) -> list[float]:
    """As Elasticsearch has them of the default model's vectors."""

    async def made() -> Vectors:
        return (await embedder.embed(embedder.encode(texts))).vectors

    question = asyncio.run(embedder.embed_query(QUESTION))
    return ((1 + cosines(asyncio.run(made()), np.array(question, dtype=np.float32))) / 2).tolist()  # type: ignore[no-any-return]


def test_all_hits_have_the_default_model_s_scores_and_their_order(two_real: World, real_embedder: OnnxEmbedder) -> None:
    filled(two_real)
    wanted = dict(zip([*NOTES, *PAGES], scores(real_embedder, [*NOTES, *PAGES]), strict=True))
    best = sorted(wanted, key=lambda text: -wanted[text])

    hits = found(two_real, "-k", "9", "--rescore", "6")
    assert [hit["text"] for hit in hits] == best
    assert [hit["score"] for hit in hits] == pytest.approx([wanted[text] for text in best], abs=0.01)
    assert {hit["penstock"]["model"] for hit in hits} == {NAME, two_real.settings.model.name}
    assert [hit["text"] for hit in found(two_real, "-k", "2", "--rescore", "6")] == best[:2]
    assert [hit["text"] for hit in found(two_real, "-k", "9", "--rescore", "6", "--distinct")] == best
    fused = found(two_real, "-k", "9")
    assert {hit["text"] for hit in fused} == set(best)
    assert [hit["score"] for hit in fused] != pytest.approx([hit["score"] for hit in hits], abs=0.01)

    few = found(two_real, "-k", "9", "--rescore", "2")
    assert sorted(hit["penstock"]["model"] for hit in few).count(NAME) == 2, "no more are looked at"
    assert {hit["text"] for hit in few} >= set(PAGES)
    shown = two_real.command("search", QUESTION, "--rescore", "6").stdout
    assert shown.index(best[0]) < shown.index(best[1])
    for option in (("--documents",), ("--like", "note-1")):
        refused = two_real.command("search", *(() if option[0] == "--like" else (QUESTION,)), "--rescore", "6", *option)
        assert (refused.returncode, "--rescore embeds the texts of chunks" in refused.stderr) == (2, True)


@pytest.fixture
def served(quick_model: Path, servers: Servers, tmp_path: Path) -> Iterator[tuple[World, Service]]:
    """A world whose default model is a service's."""
    models = tmp_path / "models"
    with serving() as service:
        added(service, models)
        (models / NAME).symlink_to(quick_model)
        with world_on(servers, models / "served", tmp_path) as made:
            made.use_model("served")
            yield made, service


def test_a_service_is_asked_for_no_more_texts_than_wanted(served: tuple[World, Service]) -> None:
    world, service = served
    filled(world)
    service.paid.clear()
    hits = found(world, "-k", "9", "--rescore", "4", "--distinct")
    asked = {text: count for text, count in service.paid.items() if not is_golden(text)}
    assert asked.pop(QUESTION) == 1
    assert len(asked) == 4
    assert set(asked) < set(NOTES)
    assert set(asked.values()) == {1}
    rescored = {hit["text"]: hit["score"] for hit in hits if hit["penstock"]["model"] == NAME}
    wanted = {text: (1 + float(vector_of(text) @ vector_of(QUESTION))) / 2 for text in asked}
    assert rescored == pytest.approx(wanted, abs=0.001)
    assert json.dumps(hits), "all of it can be printed"
