"""What `penstock route plan` recommends of models of which it is known what they are good for."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.kafka.reader import log_reader
from agents.settings.loading import load_settings
from streams.plan import Vectors
from tests.kit.harness import Servers, World, world_on
from tests.kit.service import DIMS, Service, added, serving, vector_of
from tests.kit.two_models import rows

LONG = 120
"""Characters from which on the fast model is of no use."""
WORDS = ("gate", "weir", "turbine", "lock", "canal", "valve", "spillway", "intake", "surge", "head", "race", "sluice")
COSTS = "PENSTOCK_COST__MODELS"
PRICES = {COSTS: '{"robust": {"million_tokens": 1}, "fast": {"million_tokens": 0.1}, "other": {"request": 1}}'}


def robust(texts: list[str]) -> Vectors:
    """Of a text the mean of its words'."""
    found = [np.mean([vector_of(word) for word in text.lower().split()] or [vector_of("")], axis=0) for text in texts]
    return np.array([one / np.linalg.norm(one) for one in found], dtype=np.float32)


def fast(texts: list[str]) -> Vectors:
    """The same of short texts; of long ones what chance gives."""
    found = robust(texts)
    for place, text in enumerate(texts):
        if len(text) >= LONG:
            found[place] = vector_of(text, DIMS, "noise")
    return found


@pytest.fixture
def planned(servers: Servers, tmp_path: Path) -> Iterator[World]:
    """A world of two services, and a topic with 30 short and 30 long documents, a deletion and a dead letter."""
    models = tmp_path / "models"
    with serving(Service(vectors=robust)) as one, serving(Service(vectors=fast)) as other:
        added(one, models, "robust")
        added(other, models, "fast")
        with world_on(servers, models / "robust", tmp_path) as world:
            world.use_model("robust")

            async def scenario() -> None:
                await world.create(partitions=2)
                await world.produce((f"short-{n}".encode(), {"text": short(n)}) for n in range(30))
                await world.produce((f"long-{n}".encode(), {"text": short(n + 30) * 8}) for n in range(30))
                await world.produce([(b"gone", None), (b"letter", b"no JSON")])

            asyncio.run(scenario())
            yield world


def short(number: int) -> str:
    one, another, third = (WORDS[number // 12**place % 12] for place in range(3))
    return f"note {number} of {one} {another} {third} "


def plan(world: World, *arguments: str, code: int = 0) -> Any:
    return rows(world.command("route", "plan", "--model", "fast", "--json", *arguments, extra=PRICES), code)


def refused(world: World, *arguments: str, code: int = 1, prices: dict[str, str] = PRICES) -> str:
    done = world.command("route", "plan", *arguments, extra=prices)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    return " ".join(done.stderr.split())


def test_the_short_documents_go_to_the_model_that_is_good_for_them(planned: World) -> None:
    world, tmp = planned, planned.tmp
    keys = [(f"short-{n}", short(n)) for n in range(30)] + [(f"long-{n}", short(n + 30)) for n in range(30)]
    queries, qrels = tmp / "queries.jsonl", tmp / "qrels.tsv"
    asked = [*keys, ("nobody", "what nothing answers")]
    queries.write_text("".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in asked))
    qrels.write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{key}\t{key}\t1\n" for key, _ in keys))
    files = ("--queries", str(queries), "--qrels", str(qrels))

    found = plan(world, "--sample", "5000", "--rescore", "3", "--plot", str(tmp / "plan.svg"), *files)
    lengths = [len(short(n).strip()) for n in range(30)]
    assert (found["documents"], found["left_out"], found["questions"], found["unanswered"]) == (60, 2, 60, 1)
    by_kind = {point["kind"]: point for point in found["points"]}
    assert by_kind["robust"]["plain"]["quality"]["mean"] == pytest.approx(1)
    assert by_kind["fast"]["plain"]["quality"]["mean"] < 0.75
    # ranks alone put what is long first, and there is no more to be said of it
    assert found["recommended"]["kind"] == "robust"
    assert found["recommended"]["settings"] == '[model]\nname = "robust"'
    # by scores nothing is lost of what the fast model is good for
    chosen = found["recommended_rescored"]
    assert (chosen["kind"], chosen["chars"], chosen["share"]) == ("short", max(lengths), 0.5), chosen
    assert chosen["rescored"]["change"] == {"mean": 0, "low": 0, "high": 0}
    # what the long ones take, and a tenth for the short ones, of which a byte is a token at most
    total, part = by_kind["robust"]["tokens"]["robust"], chosen["tokens"]["robust"]
    assert chosen["tokens"]["fast"] == total - part >= sum(lengths)
    # and the known text that rides in every request
    assert chosen["cost"] == pytest.approx((part + 0.1 * (total - part)) / total, rel=0.02)
    saved = by_kind["robust"]["money"] - chosen["money"]
    assert 1 <= found["rescore_money"] * 1e6 / found["rescore_tokens"] < 1.5
    assert chosen["searches_paid"] == int(saved / found["rescore_money"])
    assert (tmp / "plan.svg").read_text().startswith("<?xml")

    # what it says to paste is a route
    (tmp / "pasted.toml").write_text(chosen["settings"])
    (route,) = load_settings(tmp / "pasted.toml").route
    assert (route.model, route.max_chars) == ("fast", max(lengths))
    shown = world.command("route", "plan", "--model", "fast", "--rescore", "3", *files, extra=PRICES)
    assert shown.returncode == 0, shown.stderr
    assert chosen["settings"] in shown.stdout
    thresholds = [line for line in shown.stdout.splitlines() if " characters" in line and "%" in line]
    beaten = [point for point in found["points"] if not point["best"] and point["kind"] not in ("robust", "fast")]
    assert len(thresholds) == len(found["points"]) - len(beaten) - 1, "the frontier, what is recommended, and the ends"
    assert "1 of the questions were left out" in " ".join(shown.stdout.split())


def test_without_judgements_what_the_robust_model_finds_is_right(planned: World) -> None:
    found = plan(planned, "--sample", "40", "--rescore", "0")
    assert (found["judged"], found["questions"]) == (False, found["documents"])
    assert "recommended_rescored" not in found
    assert found["points"][0]["kind"] == "fast", "cheapest first"
    assert found["points"][-1]["plain"]["quality"]["mean"] == pytest.approx(1), "the robust model agrees with itself"
    picture = planned.tmp / "plan.PNG"
    again = plan(planned, "--rescore", "100", "--plot", str(picture))
    assert again["recommended_rescored"]["kind"] == "fast", "all is ranked again"
    assert picture.read_bytes().startswith(b"\x89PNG")
    free = plan(planned, "--max-loss", "100")
    assert free["recommended"]["settings"] == '[model]\nname = "fast"'


def test_what_cannot_be_measured_is_refused_by_name(planned: World, tmp_path: Path) -> None:
    world, model = planned, ("--model", "fast")
    assert "there is no model" in refused(world, "--model", "nothing")
    assert "--model robust is model.name itself" in refused(world, "--model", "robust", code=2)
    for prices in ({}, {COSTS: '{"fast": {"million_tokens": 0.1}}'}):
        assert "robust has no price, and what a service takes is money" in refused(world, *model, code=2, prices=prices)
    bad = tmp_path / "bad.jsonl"
    for text, said in (
        ('{"_id": "q"}', "bad.jsonl, line 1"),
        ("a\tb\n\na\tc", "bad.jsonl, line 3"),
        ("", "no questions"),
    ):
        bad.write_text(text)
        assert said in refused(world, *model, "--queries", str(bad), code=2)
    bad.write_bytes(b"\xff\xfe\xff")
    assert "is not UTF-8" in refused(world, *model, "--queries", str(bad), code=2)
    bad.write_text("q1\twhich gate?")
    qrels = tmp_path / "qrels.txt"
    for text, said in (
        ("q1 long-1", "qrels.txt, line 1: not a judgement"),
        ("q2 0 long-1 1", "no question of --queries is judged"),
        ("q1 0 somebody 1", "no document of the sample is relevant"),
    ):
        qrels.write_text(text)
        assert said in refused(world, *model, "--queries", str(bad), "--qrels", str(qrels), code=2)
    assert "give --queries, too" in refused(world, *model, "--qrels", str(qrels), code=2)
    for plot, said in (("plan.pdf", "neither an .svg nor a .png"), ("nowhere/plan.svg", "there is no folder nowhere")):
        assert said in refused(world, *model, "--plot", plot, code=2)
    for option, wrong in (("--max-loss", "nan"), ("--rescore", "-1")):
        assert f"Invalid value for '{option}'" in refused(world, *model, option, wrong, code=2)
    unwritten = world.command("route", "plan", *model, "--json", "--plot", f"{'x' * 300}.svg", extra=PRICES)
    assert (rows(unwritten, 1)["documents"], ".svg cannot be written (File name too long)" in unwritten.stderr) == (
        60,
        True,
    )
    without = "import sys; sys.modules['matplotlib'] = None"
    missing = world.command("route", "plan", *model, "--plot", "plan.png", extra=PRICES, change=without)
    assert (missing.returncode, ".[plot]" in missing.stderr) == (2, True), missing.stderr

    async def emptied() -> None:
        await world.delete_topic(world.name)
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 1, {})

    asyncio.run(emptied())
    assert "gave 0 documents" in refused(world, *model)
