"""Dead letters, from the flood to the empty topic, through the commands that an operator types."""

import asyncio
import json
from pathlib import Path
from typing import Any

from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World, until
from tests.kit.oracle import assert_true
from tests.stack.test_faults import text

MODEL_SPEED = "fast"
BROKEN = """
from streams import form
from streams.record import Rejected, decode


def broken(record):
    if b"poison" in (record.value or b""):
        return Rejected(record=record, stage="decode", error="BrokenParser", message="cannot read this")
    return decode(record)

form.decode = broken
"""


HELD = """
import asyncio, pathlib
from agents.operations import letters

listed = letters.listed


async def held(*arguments):
    found = await listed(*arguments)
    pathlib.Path("{held}").touch()
    while not pathlib.Path("{go_on}").exists():
        await asyncio.sleep(0.05)
    return found

letters.listed = held
"""


def test_a_letter_that_comes_while_others_are_purged_stays(world: World, tmp_path: Path) -> None:
    async def scenario() -> None:
        held, go_on = tmp_path / "held", tmp_path / "go-on"
        await world.create(partitions=1)
        await world.produce([(b"doc", b"{"), (b"doc", {"text": "It was mended."})])
        await world.settled(worker=world.start_worker())
        change = HELD.format(held=held, go_on=go_on)
        purge = asyncio.create_task(asyncio.to_thread(world.command, "dlq", "purge", "--yes", change=change))
        await until(lambda: asyncio.to_thread(held.exists))
        await world.produce([(b"doc", b"{")])
        await world.settled()
        go_on.touch()
        done = await purge
        assert (done.returncode, "deleted 1 letter from" in done.stdout) == (0, True), done.stdout + done.stderr
        assert listed(world)["open"] == 1

    asyncio.run(scenario())


def test_200_poison_records_among_1000_then_a_fixed_parser(world: World, embedder: OnnxEmbedder) -> None:
    flood(world, embedder, documents=700)  # 5,000 in all: `make chaos`


def flood(world: World, embedder: OnnxEmbedder, documents: int) -> None:
    """200 poison records among others; with the old parser they are dead letters, with the new one documents."""

    def poison(key: str, number: int) -> tuple[bytes, Any]:
        return key.encode(), {"text": f"poison: {text(number)}"}

    async def scenario() -> None:
        await world.create(partitions=4)
        await world.produce((f"doc-{i}".encode(), {"text": text(i)}) for i in range(documents))
        await world.produce(poison(f"doc-{i}", i) for i in range(150))  # an older version is there
        await world.produce(poison(f"new-{i}", i) for i in range(50))
        await world.produce((f"doc-{i}".encode(), {"text": text(i, 2)}) for i in range(100, 150))  # and a newer one
        await world.produce([(b"last", {"text": "The last one."}), (b"really bad", b"{")])
        first = world.start_worker(change=BROKEN)
        await world.settled(worker=first, timeout_s=180)
        assert first.terminate() == 0

        found = listed(world)
        assert (found["records"], found["open"], found["older_version_served"]) == (201, 151, 100)
        assert found["reasons"][0] == {"stage": "decode", "error": "BrokenParser", "letters": 200, "open": 150}
        assert len(listed(world, "--key", "doc-0")["letters"]) == 1
        assert listed(world, "--until", "1h")["records"] == 0
        status = json.loads(world.command("status", "--json").stdout)
        assert status["dead_letters"] == {"open": 151, "older_version_served": 100, "records": 201}
        place = "{partition}@{offset}".format(**listed(world, "--key", "doc-0")["letters"][0])
        assert world.command("dlq", "show", place, "--raw").stdout.startswith('{"text":"poison')
        assert "cannot read this" in world.command("dlq", "show", place).stdout

        worker = world.start_worker()
        await world.ready(worker)
        dry = world.command("dlq", "replay", "--dry-run", "--error", "BrokenParser", "--json")
        assert json.loads(dry.stdout)["outcomes"] == {"stored": 150}
        assert listed(world)["open"] == 151
        again = world.command("dlq", "replay", change=BROKEN)
        assert again.returncode == 1
        assert "151 dead-lettered again" in again.stdout, again.stdout + again.stderr
        given_up = world.command("dlq", "replay", "--max-attempts", "2", "--error", "BrokenParser")
        assert (given_up.returncode, given_up.stdout.splitlines()[-1]) == (1, "150 given up (--max-attempts)")
        await world.produce([(b"really bad", {"text": "The producer was mended, too."})])
        await world.settled(worker=worker)
        assert listed(world)["open"] == 150
        await world.follow("Records are dead-lettered", {"3@1042": place})
        assert listed(world)["records"] == 0
        assert world.command("dlq", "replay").stdout == "no open dead letters that match\n"
        await world.produce([(b"doc-0", {"text": "A newer one still."})])
        await world.settled(worker=worker)
        bad = {(r.partition, r.offset) for r in world.produced if r.value == b"{"}
        await assert_true(world, embedder, no_longer_dead=bad)

    asyncio.run(scenario())


def listed(world: World, *arguments: str) -> Any:
    """`penstock dlq list --json`."""
    done = world.command("dlq", "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_value_that_the_dead_letters_do_not_take_is_replayed_from_the_source(
    world: World, embedder: OnnxEmbedder
) -> None:
    async def scenario() -> None:
        await world.create(configs={"max.message.bytes": "8000000"})
        await world.shrink_dead_letters(100_000)
        big = {"text": "poison " + text(1, 20), "metadata": {f"m{i}": "x" * 4000 for i in range(100)}}
        await world.produce([(b"big", big), (b"small", {"text": "poison, small"})])
        worker = world.start_worker(change=BROKEN)
        await world.settled(worker=worker)
        done = world.command("dlq", "replay", "--json")
        assert (done.returncode, json.loads(done.stdout)["outcomes"]) == (0, {"stored": 2}), done.stderr
        everything = {(record.partition, record.offset) for record in world.produced}
        await assert_true(world, embedder, also_dead=everything)

    asyncio.run(scenario())


def test_a_users_mistakes(world: World) -> None:
    asyncio.run(world.create())
    for arguments, code, part in (
        (("show", "3-7"), 2, "partition@offset, for example 3@1042"),
        (("show", "3@7"), 1, "penstock dlq list --all"),
        (("list", "--since", "yesterday"), 2, "neither ISO 8601"),
    ):
        done = world.command("dlq", *arguments)
        assert (done.returncode, part in done.stderr) == (code, True), done.stderr
    assert world.command("dlq", "replay").stdout == "no open dead letters that match\n"
    assert world.command("dlq", "purge").stdout.startswith("nothing to delete: ")
