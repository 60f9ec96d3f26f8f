"""What is told of texts: stored with chunks, searched by, the same after whatever happens, and a reason to reject."""

import asyncio
import base64
import json
import random
from typing import Any

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World, scan
from tests.kit.oracle import assert_true, place_of
from tests.streams.test_quality import ARTICLE

MODEL_SPEED = "fast"
DATA = base64.b64encode(random.Random(1).randbytes(900)).decode()
GARBLED = ARTICLE["pl"].encode().decode("cp1252")
COPIES = ("copy-1", "copy-2", "copy-3")


def told(rows: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Of each chunk: language, flags, and signature."""
    return {
        key: (row["metadata"].get("language"), row["penstock"].get("flags"), row["penstock"].get("signature"))
        for key, row in rows.items()
        if not row["penstock"]["stub"]
    }


def rows_of(world: World, *arguments: str) -> Any:
    """What a command printed as JSON."""
    done = world.command(*arguments, "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_texts_are_annotated_and_stay_so(world: World, embedder: OnnxEmbedder) -> None:
    """Searched by, touched, verified, built again without their records; duplicates are listed, and shown once."""
    first, second = (f"{world.name}-all-minilm-l6-v2-00000{number}" for number in (1, 2))
    sluice = "The sluice of the old mill is opened at noon, and the water leaves the pond within the hour. " * 8

    async def scenario() -> None:
        await world.create(partitions=2)
        whole = ARTICLE["en"] + "\n\n" + "\n\n".join(f"{n}. {sluice}" for n in range(3)) + "\n\n" + DATA
        await world.produce(
            [
                *((key.encode(), {"text": text}) for key, text in ARTICLE.items()),
                (b"garbled", {"text": GARBLED}),
                (b"mixed", {"text": whole}),
                (b"own", {"text": ARTICLE["de"], "metadata": {"language": "de-AT"}}),
                (b"given", {"chunks": [{"text": ARTICLE["fr"]}, {"text": "ok", "metadata": {"language": "x-none"}}]}),
                *((key.encode(), {"text": sluice + f"Copied {n} times."}) for n, key in enumerate(COPIES)),
            ]
        )
        worker = world.start_worker()
        await world.settled(worker=worker)
        await assert_true(world, embedder)
        before = told(await world.chunks())
        assert {before[f"{language}#0"][:2] for language in ARTICLE} == {(language, None) for language in ARTICLE}
        assert before["garbled#0"][1] == ["mojibake"]
        assert before["own#0"][0] == "de-AT"
        assert (before["given#0"][0], before["given#1"][:2]) == ("fr", ("x-none", None))
        last = max(int(key.partition("#")[2]) for key in before if key.startswith("mixed#"))
        flagged = [number for number in range(last + 1) if before[f"mixed#{number}"][1] == ["base64"]]
        assert flagged == [*range(flagged[0], last + 1)], "the data at its end, and nothing before"
        assert flagged[0] > 0
        assert [key for key, (_, _, signature) in before.items() if (signature is None) == key.endswith("#0")] == []
        metrics = worker.metrics()
        assert metrics['penstock_quality_flags_total{flag="base64"}'] == len(flagged)
        assert metrics['penstock_quality_flags_total{flag="short"}'] == 0

        async with connect(world.settings.elasticsearch) as client:
            query = {
                "bool": {
                    "filter": {"term": {"metadata.language": "de"}},
                    "must_not": {"exists": {"field": "penstock.flags"}},
                }
            }
            hits = (await client.search(index=world.name, query=query))["hits"]["hits"]
        assert [hit["_id"] for hit in hits] == ["de#0"]

        await world.produce([(b"garbled", {"text": GARBLED})])  # unchanged
        await world.settled(worker=worker)
        assert told(await world.chunks()) == before
        hits = rows_of(world, "search", "a sluice at noon", "-k", "3")
        assert {hit["metadata"]["doc_id"] for hit in hits} <= {*COPIES, "mixed"}
        distinct = rows_of(world, "search", "a sluice at noon", "-k", "8", "--distinct")
        assert len(distinct) == 8
        assert len({hit["metadata"]["doc_id"] for hit in distinct} & set(COPIES)) == 1
        found = rows_of(world, "index", "duplicates")
        assert [group["documents"] for group in found["duplicates"]] == [[*COPIES], ["de", "own"], ["fr", "given"]]
        assert (found["groups"], found["superfluous"], found["without"]) == (3, 4, 0)
        shown = world.command("index", "duplicates", "--limit", "1").stdout
        assert "3 documents, 80% alike:\n  copy-1\n" in shown, shown
        assert "… 2 groups more (--limit)" in shown
        assert rows_of(world, "index", "verify")["clean"]

        async with log_reader(world.settings) as reader:
            bounds = await reader.bounds(world.name, range(2))
            await reader.delete_before(world.name, {number: bound.end for number, bound in bounds.items()})
        assert rows_of(world, "index", "rebuild")["index"] == second
        again = told(await scan(world.settings, second))
        assert again == before
        assert told(await scan(world.settings, first)) == before

    asyncio.run(scenario())


def test_what_is_listed_is_rejected_whoever_processes_it(world: World, embedder: OnnxEmbedder) -> None:
    """A dead letter, the older version stays; replayed it is rejected again; another list fills another index."""
    world.reject("base64", "mojibake")

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce(
            [
                (b"plain", {"text": ARTICLE["en"]}),
                (b"edited", {"text": ARTICLE["fr"]}),
                (b"edited", {"text": DATA}),
                (b"garbled", {"text": GARBLED}),
                (b"short", {"text": "ok"}),
            ]
        )
        tried = rows_of(world, "config", "try")
        assert [row["becomes"] for row in tried] == ["document", "document", "rejected", "rejected", "document"]
        assert (tried[0]["language"], tried[0]["flags"], tried[0]["repaired"]) == ("en", {}, None)
        assert (tried[3]["flags"], tried[3]["repaired"]) == ({"mojibake": 1}, ARTICLE["pl"])
        assert f"was it this? {ARTICLE['pl'][:60]}" in world.command("config", "try").stdout
        worker = world.start_worker()
        await world.settled(worker=worker)
        await assert_true(world, embedder)
        found = told(await world.chunks())
        assert found.keys() == {"plain#0", "edited#0", "short#0"}
        assert found["short#0"][1] == ["short"], "is annotated, and nothing else"
        letters = await world.dead_letters()
        assert [(letter.key, place_of(letter.headers)) for letter in letters] == [
            (b"edited", (0, 2)),
            (b"garbled", (0, 3)),
        ]
        assert dict(letters[1].headers)["__connect.errors.stage"] == b"quality"
        assert worker.metrics()['penstock_dead_letters_total{stage="quality"}'] == 2
        listed = rows_of(world, "dlq", "list", "--stage", "quality")
        assert {(reason["error"], reason["open"]) for reason in listed["reasons"]} == {("Base64", 1), ("Mojibake", 1)}
        assert "read as windows-1252" in world.command("dlq", "show", "0@3").stdout
        assert world.command("dlq", "replay").returncode == 1
        assert len(await world.dead_letters()) == 4
        assert rows_of(world, "index", "verify")["clean"]
        alike = rows_of(world, "index", "duplicates")
        assert (alike["documents"], alike["without"]) == (2, 1), "`short` has nothing to compare"
        assert worker.terminate() == 0

        world.reject()
        refuses = world.start_worker()
        assert await refuses.ended() == 3
        assert "quality.reject: index ['base64', 'mojibake'], worker absent" in refuses.log.read_text()
        built = rows_of(world, "index", "rebuild")
        again = told(await scan(world.settings, built["index"]))
        assert {(key.partition("#")[0], *(row[1] or [])) for key, row in again.items()} == {
            ("plain",),
            ("edited", "base64"),
            ("garbled", "mojibake"),
            ("short", "short"),
        }

    asyncio.run(scenario())
