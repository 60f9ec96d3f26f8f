"""The manual pages of Debian by two real models: the frontier, and what a search finds by what it recommends."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.operations.search import QueryModels, search, search_rescored
from agents.settings import Settings
from agents.settings.sections import RouteSettings
from streams.relevance import ndcg
from tests.kit.forks import completed
from tests.kit.harness import World
from tests.kit.manpages import Page, pages
from tests.kit.wordllama import NAME

ROBUST = "all-MiniLM-L6-v2"
PLAN_S = 3600
"""At most, on a slow machine."""
MIN_CHARS = 5600
HITS = 100
"""Chunks that are asked for: those of 10 documents are among them."""
PRICES = {"PENSTOCK_COST__MODELS": json.dumps({ROBUST: {"million_tokens": 1}, NAME: {"million_tokens": 0.002}})}
"""As the models relate on one core: by tokens, so that what is asserted is not of this machine's speed."""


@pytest.fixture(scope="module")
def manual() -> list[Page]:
    """All of it."""
    try:
        return pages()
    except OSError as exc:
        pytest.skip(f"the manual pages cannot be had here: {exc}")


def asked(folder: Path, manual: list[Page]) -> list[str]:
    """Files of questions and judgements, as options."""
    queries, qrels = folder / "queries.jsonl", folder / "qrels.tsv"
    queries.write_text("".join(json.dumps({"_id": page.id, "text": page.about}) + "\n" for page in manual))
    rows = "".join(f"{page.id}\t{page.id}\t1\n" for page in manual)
    qrels.write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    return ["--queries", str(queries), "--qrels", str(qrels)]


def planned(world: World, *arguments: str) -> Any:
    """What `penstock route plan --json` says."""
    words = ("route", "plan", "--model", NAME, "--json", *arguments)
    done = completed(words, world.environment(PRICES), world.tmp, timeout_s=PLAN_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def publish(world: World, manual: list[Page]) -> None:
    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce([(page.id.encode(), {"text": page.text}) for page in manual])

    asyncio.run(scenario())


@pytest.mark.timeout(2 * PLAN_S)
def test_the_frontier_of_the_manual_pages(two_real: World, manual: list[Page], summary: dict[str, Any]) -> None:
    """Of 1,100 pages and as many questions: by ranks alone long pages lose, rescored they do not."""
    world = two_real
    publish(world, manual)
    plot = world.tmp / "plan.svg"
    found = planned(world, "--sample", str(len(manual)), "--plot", str(plot), *asked(world.tmp, manual))
    (world.tmp / "plan.json").write_text(json.dumps(found))
    assert (found["documents"], found["questions"], found["refused"]) == (1100, 1100, 0)
    points = {(point["kind"], point["chars"]): point for point in found["points"]}
    robust, fast = points["robust", 0], points["fast", 0]
    assert robust["plain"]["quality"]["mean"] == pytest.approx(0.576, abs=0.01)
    assert fast["plain"]["quality"]["mean"] == pytest.approx(0.410, abs=0.01)
    assert robust["tokens"]["robust"] == 1_669_056
    # nothing as cheap as that loses so little by ranks alone
    plain, rescored = found["recommended"], found["recommended_rescored"]
    assert plain["kind"] == "long"
    assert 0.8 < plain["cost"] < 1
    assert plain["plain"]["change"]["low"] >= -0.01
    # at least 40 % less cost for at most 1 % of quality, whatever the questions
    assert rescored["kind"] == "long"
    assert rescored["cost"] <= 0.6
    assert rescored["rescored"]["change"]["low"] >= -0.01
    assert rescored["rescored"]["change"]["mean"] > 0
    for name, point in (("plain", plain), ("rescored", rescored)):
        change = point[name]["change"]
        summary[f"man pages, {name}"] = (
            f"{point['condition']}: {1 - point['cost']:.0%} less, nDCG@10 {change['mean']:+.1%} "
            f"({change['low']:+.1%}…{change['high']:+.1%})"
        )


@pytest.mark.timeout(2 * PLAN_S)
def test_a_search_finds_what_the_plan_says(two_real: World, manual: list[Page], summary: dict[str, Any]) -> None:
    """On Elasticsearch, by the route that it recommends."""
    world, some = two_real, manual[::3]
    world.route(RouteSettings(name="long", model=NAME, min_chars=MIN_CHARS))
    publish(world, some)
    questions = some[::4]
    found = planned(world, "--sample", str(len(some)), *asked(world.tmp, questions))
    nearest = min(
        (point for point in found["points"] if point["kind"] == "long"),
        key=lambda point: abs(point["chars"] - MIN_CHARS),
    )
    asyncio.run(world.settled(timeout_s=PLAN_S, worker=world.start_worker()))
    for name, rescore in (("rescored", 20), ("plain", 0)):
        measured = asyncio.run(searched(world.settings, questions, rescore))
        said = nearest[name]["quality"]["mean"]
        summary[f"a search, {name}"] = f"nDCG@10 {measured:.4f}, the plan said {said:.4f}"
        assert measured == pytest.approx(said, abs=0.02)


async def searched(settings: Settings, questions: Sequence[Page], rescore: int) -> float:
    """nDCG@10 of a real search."""
    values = []
    with closing(QueryModels(settings)) as models:
        async with connect(settings.elasticsearch) as client:
            generation = await Index(client, settings).generation()
            for page in questions:
                question = await models.question(generation, page.about)
                if rescore:
                    rescorer = models.rescorer(generation, question, rescore)
                    hits = await search_rescored(client, settings, generation, question, rescorer, HITS)
                else:
                    hits = await search(client, settings, generation, question, HITS)
                values.append(ndcg([hit["metadata"]["doc_id"] for hit in hits], {page.id: 1.0}))
    return sum(values) / len(values)
