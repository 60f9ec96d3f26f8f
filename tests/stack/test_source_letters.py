"""Objects that cannot be ingested are dead letters until they can be, by pointer, once, whatever happens in between."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.kit.harness import World
from tests.stack.test_sources import DIES, PLACES, folder_of, ingest, records

BAD = b"a\0b"
"""No text."""


def listed(world: World, *arguments: str) -> dict[str, dict[str, Any]]:
    """`penstock dlq list --json` of stage source, by name."""
    done = world.command("dlq", "list", "--stage", "source", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {row["key"].rpartition("/")[2]: row for row in json.loads(done.stdout)["letters"]}


def letters(world: World) -> list[str]:
    """Objects of all letters that are committed, by name."""
    found = asyncio.run(records(world, world.settings.dead_letter_topic))
    return sorted((record.key or b"").decode().rpartition("/")[2] for record in found)


def test_an_object_that_fails_is_a_dead_letter_until_it_is_published(world: World, tmp_path: Path) -> None:
    asyncio.run(world.create())
    folder = folder_of(tmp_path, 2)
    (folder / "bad.txt").write_bytes(BAD)
    (folder / "lines.jsonl").write_text('{"id": "a", "text": "A."}\n{\n[]\n')
    (folder / "broken.txt").symlink_to(folder / "nowhere")
    for options in (["--strict"], ["--strict", "--dry-run"]):
        ingest(world, folder, *options, code=1)
    assert listed(world) == {}
    assert ingest(world, folder, code=1)["published"] == 3
    found = listed(world)
    assert {name: row["standing"] for name, row in found.items()} == dict.fromkeys(
        ("bad.txt", "broken.txt", "lines.jsonl"), "open"
    )
    assert found["lines.jsonl"]["message"].startswith("line 2: not JSON in UTF-8: ")
    assert found["lines.jsonl"]["message"].endswith(" (and 1 more)")
    uri = (folder / "bad.txt").as_uri()
    shown = json.loads(world.command("dlq", "show", uri, "--json").stdout)
    assert (shown["source"], shown["standing"], shown["bytes"]) == (f"{folder.as_uri()}/", "open", 0)
    assert (shown["partition"], shown["offset"], shown["error"]) == (-1, -1, "ConversionError")
    assert uri in world.command("dlq", "list").stdout

    ingest(world, folder, code=1)
    assert letters(world) == ["bad.txt", "broken.txt", "lines.jsonl"]
    replayed = world.command("dlq", "replay")
    assert replayed.returncode == 1
    assert f"mend it, then run `penstock ingest files {folder}/` again" in replayed.stdout
    assert "3 not replayed, but to be ingested again" in replayed.stdout
    assert world.command("dlq", "purge", "--yes").stdout.startswith("nothing to delete: ")

    (folder / "bad.txt").write_text("Mended.")
    (folder / "broken.txt").unlink()
    (folder / "lines.jsonl").write_text('{"id": "a", "text": "A."}\n')
    assert ingest(world, folder)["published"] == 1
    assert listed(world) == {}
    assert {row["standing"] for row in listed(world, "--all").values()} == {"resolved"}
    done = world.command("dlq", "purge", "--yes")
    assert done.stdout.startswith("deleted 3 letters from "), done.stdout + done.stderr


def test_kill_9_neither_loses_nor_doubles_a_letter(world: World, tmp_path: Path) -> None:
    """One object fails in each run, which ends the process around the transaction in which that is written."""
    folder = folder_of(tmp_path, 1)
    ingest(world, folder)
    for number, (place, change) in enumerate(PLACES.items()):
        (folder / f"bad-{number}.txt").write_bytes(BAD)
        killed = world.command("ingest", "files", str(folder), change=DIES.format(left=1) + change)
        assert killed.returncode == 9, f"{place}: {killed.stderr}"
        assert len(letters(world)) <= number + (place == "after a commit"), place
        ingest(world, folder, code=1)
        assert letters(world) == [f"bad-{n}.txt" for n in range(number + 1)], place
