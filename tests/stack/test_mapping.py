"""A topic as it is: by rules and schemas its records become documents, and everything else goes on as ever."""

import asyncio
import json
from pathlib import Path
from typing import Any

from agents.kafka.reader import log_reader
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import Worker, World, scan, until
from tests.kit.oracle import assert_true
from tests.kit.registry import registry
from tests.kit.two_models import rows
from tests.streams.test_values import PAGE, PERSON, SCHEMA, encoded, framed

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


def test_debezium_envelopes_are_documents(world: World, embedder: OnnxEmbedder, tmp_path: Path) -> None:
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
        lacks = {name: value for name, value in event(9)["after"].items() if name != "team"}
        await world.produce([(key(9), {**event(9), "after": lacks})])
        lacking = world.command("config", "try", "-n", "4")
        assert "missing in 1 of 4 records: team (metadata)" in lacking.stdout, lacking.stdout
        await world.produce([(key(9), event(9))])
        bad = world.command("config", "try", "-n", "4")
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
        (tmp_path / "own.md").write_text("# Own\n\nIt is in Penstock's own form.")
        published = world.command("ingest", "files", str(tmp_path / "own.md"), "--id", "relative")
        assert published.returncode == 0, published.stderr
        await world.settled(worker=worker)
        assert "own.md#0" in await world.chunks()
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


def test_avro_waits_for_its_schemas_and_a_letter_is_replayed_with_one_that_came_later(world: World) -> None:
    async def scenario() -> None:
        async with registry() as schemas:
            schemas.schemas[1] = {"schema": json.dumps(SCHEMA), "references": [{"subject": "p", "version": 1}]}
            schemas.subjects["p", "1"] = {"schema": json.dumps(PERSON)}
            schemas.down = True
            world.map_by(registry=schemas.url, form="avro", text="{title}: {body}", metadata=["author.name"])
            await world.create(partitions=1)
            await world.produce((f"d{n}".encode(), framed(1, encoded(PAGE))) for n in range(20))
            await world.produce([(b"later", framed(2, encoded(PAGE))), (b"bad", framed(1, b"\x09"))])
            tried = await asyncio.to_thread(world.command, "config", "try")
            assert (tried.returncode, f"at {schemas.url} does not answer" in tried.stderr) == (1, True), tried.stderr
            assert "status 503" in tried.stderr
            worker = world.start_worker({"PENSTOCK_LIFECYCLE__STALL_S": "5"})
            await worker.said("the schema registry does not answer")
            await until(lambda: _is_not_ready(worker))
            await asyncio.sleep(8)  # it is waited for, longer than a worker may stand still
            assert await world.dead_letters() == []
            schemas.down = False
            await world.settled(worker=worker)
            found = await world.chunks()
            assert {key for key, row in found.items() if not row["penstock"]["stub"]} == {f"d{n}#0" for n in range(20)}
            assert found["d3#0"]["text"] == "Locks: A lock has two gates."
            assert found["d3#0"]["metadata"]["custom"] == {"author": {"name": "A. Keeper"}}
            assert {letter.key for letter in await world.dead_letters()} == {b"later", b"bad"}
            schemas.schemas[2] = schemas.schemas[1]
            replayed = await asyncio.to_thread(world.command, "dlq", "replay", "--json")
            assert rows(replayed, 1)["outcomes"] == {"stored": 1, "dead_lettered": 1}, replayed.stderr
            clean = await asyncio.to_thread(world.command, "index", "verify", "--json")
            assert (clean.returncode, rows(clean)["kinds"]) == (0, {}), clean.stdout
            assert len(schemas.asked) < 200, "a schema is asked for once, and not with each record"

    asyncio.run(scenario())


async def _is_not_ready(worker: Worker) -> bool:
    status, told = await asyncio.to_thread(worker.get, "/readyz")
    return status == 503 and "the schema registry does not answer" in json.dumps(told)
