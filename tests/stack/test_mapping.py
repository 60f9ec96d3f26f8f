"""A topic as it is: Debezium's envelopes become documents by rules, and everything else goes on as ever."""

import asyncio
import json
from typing import Any

from agents.kafka.reader import log_reader
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World, scan
from tests.kit.oracle import assert_true
from tests.kit.two_models import rows

MODEL_SPEED = "fast"
RULES: dict[str, Any] = {
    "preset": "debezium",
    "text": "{title}\n\n{body}",
    "title": "{title}",
    "url": "https://example.org/{id}",
    "timestamp": "updated",
    "timestamp_unit": "s",
    "metadata": ["team"],
}


def key(number: int) -> bytes:
    return json.dumps({"tenant": "a", "id": number}).encode()


def event(number: int, body: str | None = None, op: str = "c") -> dict[str, Any]:
    row = {"id": number, "title": f"Sluice {number}", "body": body or f"It has {number} gates.", "team": "water"}
    row |= {"updated": 1_790_000_000 + number}
    return {"before": row if op == "d" else None, "after": None if op == "d" else row, "op": op, "ts_ms": 1}


def test_debezium_envelopes_are_documents(world: World, embedder: OnnxEmbedder) -> None:
    async def scenario() -> None:
        world.map_by(**RULES)
        await world.create(partitions=2)
        await world.produce((key(n), event(n)) for n in range(20))
        await world.produce([(key(3), event(3, "It was closed.", "u")), (key(4), event(4, op="d")), (key(5), None)])
        tried = world.command("config", "try", "-n", "5", "--json")
        assert tried.returncode == 0, tried.stderr
        told = {row["id"]: row["becomes"] for row in rows(tried)}
        assert told["a/4"] == told["a/5"] == "deletion"
        await world.produce([(key(6), {"op": "t", "before": None, "after": None}), (b"k", b"{")])
        bad = world.command("config", "try", "-n", "3")
        assert (bad.returncode, "a dead letter" in bad.stdout, "`op` is 't'" in bad.stdout) == (1, True, True)
        worker = world.start_worker()
        await world.settled(worker=worker)
        await assert_true(world, embedder)
        (row,) = [row for key, row in (await world.chunks()).items() if key == "a/7#0"]
        assert row["text"] == "Sluice 7\n\nIt has 7 gates."
        assert row["metadata"]["source"] == "https://example.org/7"
        assert row["metadata"]["timestamp"] == "2026-09-21T14:13:27.000Z"
        assert row["metadata"]["custom"] == {"team": "water"}
        letters = rows(world.command("dlq", "list", "--json"))["letters"]
        assert sorted(letter["key"] for letter in letters) == ["k", key(6).decode()]
        await world.produce([(key(6), event(6, "Again."))])
        await world.settled(worker=worker)
        letters = rows(world.command("dlq", "list", "--json"))["letters"]
        assert [letter["key"] for letter in letters] == ["k"], "the other one is superseded, by the id of the rules"
        clean = world.command("index", "verify", "--json")
        assert (clean.returncode, rows(clean)["kinds"]) == (0, {}), clean.stdout
        assert worker.terminate() == 0

        async with log_reader(world.settings) as reader:
            bounds = await reader.bounds(world.name, range(2))
            await reader.delete_before(world.name, {number: bound.end - 2 for number, bound in bounds.items()})
        rebuilt = world.command("index", "rebuild", "--json")
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert rows(rebuilt)["from_index"] > 10, "remade documents are in Penstock's own form"
        again = await scan(world.settings, rows(rebuilt)["index"])
        texts = {key: row["text"] for key, row in (await world.chunks()).items() if not row["penstock"]["stub"]}
        assert {key: row["text"] for key, row in again.items() if not row["penstock"]["stub"]} == texts
        changed = world.start_worker({"PENSTOCK_SOURCE__MAPPING__TEXT": "{body}"})
        assert await changed.ended() == 3
        assert "mapping.text: index {title}\n\n{body}, worker {body}" in changed.log.read_text()

    asyncio.run(scenario())
