"""Rows that are no documents, and what `dlq` says of them."""

import asyncio
import os
from pathlib import Path

import orjson

from agents.kafka.reader import log_reader
from tests.kit.beam import backfilled, batch_of, start_backfill
from tests.kit.harness import World
from tests.kit.two_models import rows
from tests.stack.test_faults import text


def test_rows_that_are_none_are_dead_letters_and_nothing_is_deleted_then(world: World, tmp_path: Path) -> None:
    """Into an index that it makes itself, by the rules of a mapping; files of other kinds are documents."""
    world.map_by(id="{number}", text="{title}\n{body}")
    folder = tmp_path / "lake"
    (folder / "deep").mkdir(parents=True)
    good = [{"number": number, "title": f"Ticket {number}", "body": text(number)} for number in range(8)]
    lines = [*map(orjson.dumps, good), b"{", orjson.dumps(good[0] | {"body": "Another one."}), orjson.dumps(["no row"])]
    (folder / "deep" / "tickets.jsonl").write_bytes(b"\n".join(lines))
    (folder / "note.md").write_text("# A note\n\nOf its own.")
    (folder / "broken.txt").write_bytes(b"a\0b")
    (folder / "picture.png").write_bytes(b"\x89PNG")

    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 1, {})
        told = backfilled(world, "--from", str(tmp_path / "nothing"), code=2)
        assert "no file is there that can be read" in told
        (tmp_path / "other.jsonl").write_text('{"headline": "x"}\n')
        told = backfilled(world, "--from", str(tmp_path / "other.jsonl"), code=2)
        assert "none of its first rows is a document" in told
        backfilled(world, "--from", str(folder), "--sync", code=1)
        listed = rows(world.command("dlq", "list", "--json"))
        told = sorted((Path(letter["row"]).name, letter["error"], letter["standing"]) for letter in listed["letters"])
        at = [sum(len(line) + 1 for line in lines[:number]) for number in (8, 9, 10)]
        assert told == sorted(
            [
                (f"tickets.jsonl@{at[0]}", "InvalidRecord", "open"),
                (f"tickets.jsonl@{at[1]}", "TwiceInSnapshot", "open"),
                (f"tickets.jsonl@{at[2]}", "InvalidRecord", "open"),
                ("broken.txt", "ConversionError", "open"),
            ]
        )
        shown = world.command("dlq", "show", f"{folder}/deep/tickets.jsonl@{at[1]}")
        assert "have one row a document" in shown.stdout, shown.stdout
        again = rows(world.command("dlq", "replay", "--json"), code=1)
        assert again["outcomes"] == {"dead_lettered": 4}, again
        assert len(await world.chunks()) == 9, "of eight tickets and a note"

        mended = [dict(one, body=f"Mended. {one['body']}") for one in good]
        (folder / "deep" / "tickets.jsonl").write_bytes(b"\n".join(map(orjson.dumps, mended)))
        (folder / "broken.txt").unlink()
        done = backfilled(world, "--from", str(folder), "--sync")
        assert (done["rows"], done["embedded"], done["deleted"], done["dead_lettered"]) == (9, 8, 0, 0)
        worker = world.start_worker()
        await world.produce([(b"{}", good[3] | {"body": "The stream's."})])
        await world.settled(worker=worker)
        texts = [row["text"] for row in (await world.chunks()).values()]
        assert sorted(text.partition(" ")[0] for text in texts).count("Ticket") == 8
        assert any("The stream's." in text for text in texts)

    asyncio.run(scenario())


def test_a_folder_that_changes_without_a_newer_file_is_another_snapshot(world: World, tmp_path: Path) -> None:
    """A file goes, one is replaced by an older one; before any worker has run, and beside another generation."""
    folder = tmp_path / "lake"
    folder.mkdir()

    def put(name: str, at_s: int, texts: dict[str, str]) -> None:
        lines = [orjson.dumps({"id": key, "text": text}) + b"\n" for key, text in texts.items()]
        (folder / name).write_bytes(b"".join(lines))
        os.utime(folder / name, (at_s, at_s))

    async def texts() -> dict[str, str]:
        rows_now = (await world.chunks()).values()
        return {row["metadata"]["doc_id"]: row["text"] for row in rows_now if not row["penstock"]["stub"]}

    async def scenario() -> None:
        async with log_reader(world.settings) as reader:
            await reader.create_topic(world.name, 1, {})
        put("a.jsonl", 1000, {"a": "A.", "b": "B."})
        put("b.jsonl", 2000, {"c": "C.", "d": "D."})
        first = backfilled(world, "--from", str(folder), "--sync")
        assert (first["embedded"], first["deleted"]) == (4, 0)
        again = backfilled(world, "--from", str(folder), "--sync")
        assert (again["settled"], again["at"]) == (4, first["at"])
        put("a.jsonl", 500, {"a": "Another A."})
        changed = backfilled(world, "--from", str(folder), "--sync", "--max-deletes", "1")
        assert (changed["embedded"], changed["deleted"], changed["dead_lettered"]) == (1, 1, 0)
        assert changed["at"] > first["at"]
        assert await texts() == {"a": "Another A.", "c": "C.", "d": "D."}
        assert world.command("index", "verify").returncode == 0, "it was fed by this group from the first row on"

        second = rows(world.command("index", "rebuild", "--json"))
        put("c.jsonl", 3000, {"e": "E."})
        backfilled(world, "--from", str(folder), "--sync")
        lacking = world.command("index", "promote", second["index"])
        assert (lacking.returncode, "lacks snapshots that were loaded into" in lacking.stdout) == (3, True), lacking
        backfilled(world, "--from", str(folder), "--sync", extra={"PENSTOCK_SOURCE__GROUP": second["group"]})
        promoted = world.command("index", "promote", second["index"])
        assert promoted.returncode == 0, (promoted.stdout, promoted.stderr)
        assert await texts() == {"a": "Another A.", "c": "C.", "d": "D.", "e": "E."}

        held = start_backfill(world, "--from", str(folder), "--at", "1s")
        await batch_of(held)
        held.kill()
        held.communicate()
        assert "goes on with it" in world.command("index", "vacuum", "--before", "0s").stderr
        backfilled(world, "--from", str(folder), "--at", "1s")
        assert world.command("index", "vacuum", "--before", "0s").returncode == 0

    asyncio.run(scenario())
