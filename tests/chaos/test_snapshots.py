"""Rows that are no documents, and what `dlq` says of them."""

import asyncio
from pathlib import Path

import orjson

from agents.kafka.reader import log_reader
from tests.kit.beam import backfilled
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
