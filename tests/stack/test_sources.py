"""Sources: what changed is published, once, whatever happens in between; what is gone is deleted when it may be."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session
from aiokafka import AIOKafkaProducer

from agents.kafka.connection import connection
from agents.kafka.reader import log_reader
from streams.record import Record
from tests.kit.harness import World
from tests.kit.moto import LOGIN, moto
from tests.stack.test_logs import new_log

DIES = """
from agents.sources.publish import Publisher
from aiokafka import AIOKafkaProducer
import os

left = {left}

def count(number):
    global left
    left -= 1
    if left == 0:
        os._exit(9)
"""
PLACES = {
    "before a transaction": """
publish = Publisher.publish
async def dies(self, *arguments):
    count(0)
    await publish(self, *arguments)
Publisher.publish = dies
""",
    "with records acknowledged": """
records = Publisher._records
async def dies(self, *arguments):
    rows = await records(self, *arguments)
    count(0)
    return rows
Publisher._records = dies
""",
    "before a commit": """
commit = AIOKafkaProducer.commit_transaction
async def dies(self):
    count(0)
    await commit(self)
AIOKafkaProducer.commit_transaction = dies
""",
    "after a commit": """
commit = AIOKafkaProducer.commit_transaction
async def dies(self):
    await commit(self)
    count(0)
AIOKafkaProducer.commit_transaction = dies
""",
}


async def records(world: World, topic: str = "") -> list[Record]:
    """All that is committed in the source topic, or another one, if it is there."""
    found: list[Record] = []
    async with log_reader(world.settings) as reader:
        topic = topic or world.name
        count = await reader.partitions(topic) or 0
        for partition, bounds in (await reader.bounds(topic, range(count))).items():
            offset = bounds.begin
            while offset < bounds.end:
                page = await reader.page(topic, partition, offset, bounds.end)
                found += page.records
                offset = page.position
    return found


def ingest(world: World, *arguments: object, code: int = 0, change: str = "") -> dict[str, Any]:
    """What the command says of itself."""
    done = world.command("ingest", "files", *map(str, arguments), "--json", change=change)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found | {"stderr": done.stderr}


def folder_of(tmp_path: Path, count: int) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.md").write_text(f"# Title {number}\n\nText {number}.")
    return folder


def test_what_changed_is_published_and_what_is_gone_deleted(world: World, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 20)
    (folder / "more.jsonl").write_text("".join(f'{{"id": "line-{n}", "text": "Line {n}."}}\n' for n in range(10)))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    found = ingest(world, folder, "--partitions", "2", "--dry-run")
    assert (found["objects"]["changed"], found["published"]) == (21, 0)
    found = ingest(world, folder, "--partitions", "2")
    assert (found["published"], found["objects"]["changed"], found["passed_over"]) == (30, 21, {".png": 1})
    found = ingest(world, folder)
    assert (found["published"], found["objects"]) == (0, {"changed": 0, "unchanged": 21, "failed": 0})
    (folder / "0.md").write_text("Another text.")
    (folder / "1.md").touch()
    (folder / "2.md").unlink()
    lines = (folder / "more.jsonl").read_text().splitlines(keepends=True)
    (folder / "more.jsonl").write_text("".join([*lines[1:], '{"id": "new", "text": "New."}\n']))
    (folder / "other.jsonl").write_text(lines[0])  # moved, as a log is that is rotated
    found = ingest(world, folder)
    assert (found["published"], found["deleted"], found["gone"]) == (2, 0, 1)
    assert ingest(world, folder, "--sync")["deleted"] == 1
    for number in range(3, 9):
        (folder / f"{number}.md").unlink()
    (folder / "9.md").write_text("Edited meanwhile.")
    found = ingest(world, folder, "--sync", "--strict", code=3)
    assert (found["published"], found["deleted"], found["gone"]) == (0, 0, 6)
    found = ingest(world, folder, "--sync", code=3)
    assert (found["published"], found["deleted"], found["gone"]) == (1, 0, 6)
    assert "6 of 30 documents" in found["refused"][0]
    assert "--sync --max-deletes 6`" in found["stderr"]
    assert ingest(world, folder, "--sync", "--max-deletes", "6")["deleted"] == 6
    assert ingest(world, folder, "--sync")["deleted"] == 0
    made = asyncio.run(records(world))
    assert len(made) == 30 + 2 + 1 + 1 + 6
    last = {record.key: record.value for record in sorted(made, key=lambda one: (one.partition, one.offset))}
    left = sorted(key.decode().rpartition("/")[2] for key, value in last.items() if key and value)
    assert left == sorted([f"{n}.md" for n in (0, 1, *range(9, 20))] + [f"line-{n}" for n in range(10)] + ["new"])


def test_what_fails_is_listed_and_the_rest_goes_on(world: World, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 3)
    (folder / "bad.txt").write_bytes(b"a\0b")
    (folder / "broken.txt").symlink_to(folder / "nowhere")
    (folder / "lines.jsonl").write_text('{"id": "a", "text": "A."}\n{\n{"id": "b", "text": "B."}\n')
    (tmp_path / "good.md").write_text("# Good")
    found = ingest(world, tmp_path / "good.md", folder, "--strict", code=1)
    assert (found["published"], found["objects"]["failed"]) == (0, 3)
    assert ingest(world, tmp_path / "good.md", "--strict")["published"] == 1
    assert ingest(world, folder, "--dry-run", "--strict", code=1)["objects"]["failed"] == 3
    found = ingest(world, folder, code=1)
    assert (found["published"], found["incomplete"]) == (5, [])
    assert [row["origin"].rpartition("/")[2] for row in found["failures"]] == ["bad.txt", "broken.txt", "lines.jsonl:2"]
    (folder / "0.md").unlink()
    (folder / "lines.jsonl").write_text('{"id": "a", "text": "A."}\n{\n')
    found = ingest(world, folder, "--sync", "--max-deletes", "5", code=1)
    assert (found["deleted"], found["published"]) == (1, 0), "what a bad line was is not known"
    (folder / "lines.jsonl").write_text('{"id": "a", "text": "A."}\n')
    for name in ("bad.txt", "broken.txt"):
        (folder / name).unlink()
    assert ingest(world, folder, "--sync", "--max-deletes", "5")["deleted"] == 1


def test_other_ids_are_refused_or_given_to_all(world: World, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 4)
    ingest(world, folder, "--partitions", "2", "--prefix", "old/")
    (folder / "4.md").write_text("New.")
    found = ingest(world, folder, "--prefix", "new/", "--dry-run", code=3)
    assert "got ids by `--prefix old/`, and `--prefix new/`" in found["stderr"]
    found = ingest(world, folder, "--prefix", "new/", "--id", "relative", code=3)
    assert "Run it with `--id uri --prefix old/`; or `penstock ingest … --again --sync`" in found["stderr"]
    assert len(asyncio.run(records(world))) == 4, "nothing was published"
    found = ingest(world, folder, "--prefix", "new/", "--id", "relative", "--again", "--sync")
    assert (found["published"], found["deleted"]) == (5, 4)
    made = sorted(asyncio.run(records(world)), key=lambda one: (one.partition, one.offset))
    last = {record.key: record.value for record in made}
    assert sorted(key for key, value in last.items() if key and value) == [b"new/%d.md" % n for n in range(5)]
    assert ingest(world, folder, "--prefix", "new/", "--id", "relative", "--sync")["published"] == 0


def test_files_that_are_empty_now_are_deletions_and_bounded_as_such(world: World, tmp_path: Path) -> None:
    """A full disk, a copy that died: what was there must not go because of it."""
    folder = folder_of(tmp_path, 10)
    assert ingest(world, folder)["published"] == 10
    for number in range(5):
        (folder / f"{number}.md").write_text("" if number else " \n")
    found = ingest(world, folder)
    assert (found["published"], found["deleted"], found["gone"]) == (0, 0, 5)
    assert "5 of 10 documents" in ingest(world, folder, "--sync", code=3)["stderr"]
    (folder / "0.md").write_text("# It is back.")
    found = ingest(world, folder, "--sync", "--max-deletes", "5")
    assert (found["published"], found["deleted"]) == (1, 4)


def test_a_document_belongs_to_one_source_and_one_object(world: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.txt").write_text(name)
    assert ingest(world, tmp_path / "a", "--id", "relative")["published"] == 1
    found = ingest(world, tmp_path / "b", "--id", "relative", code=1)
    assert (found["published"], "belongs to the source file:" in found["failures"][0]["reason"]) == (0, True)
    assert ingest(world, tmp_path / "b", "--id", "relative", "--prefix", "b/")["published"] == 1
    for name in ("one", "two"):
        (tmp_path / "a" / f"{name}.jsonl").write_text('{"id": "twice", "text": "There."}\n')
    found = ingest(world, tmp_path / "a", "--id", "relative", code=1)
    assert (found["published"], "one.jsonl, too" in found["failures"][0]["reason"]) == (1, True)
    assert {record.key for record in asyncio.run(records(world))} == {b"same.txt", b"b/same.txt", b"twice"}


@pytest.mark.parametrize("place", PLACES)
def test_kill_9_of_an_ingest_loses_and_repeats_nothing(world: World, tmp_path: Path, place: str) -> None:
    folder = folder_of(tmp_path, 30)
    arguments = (folder, "--partitions", "2", "--max-lag", "200", "--max-deletes", "3")  # ten at a time
    for left in (1, 2):
        ingest(world, *arguments, code=9, change=DIES.format(left=left) + PLACES[place])
    for number in range(3):
        (folder / f"{number}.md").unlink()
    ingest(world, *arguments, "--sync", code=9, change=DIES.format(left=2) + PLACES[place])
    ingest(world, *arguments, "--sync")
    made = asyncio.run(records(world))
    assert len({record.key for record in made if record.value}) == len([record for record in made if record.value])
    gone = {record.key for record in made if not record.value}
    assert len(gone) == sum(not record.value for record in made)
    assert len({record.key for record in made} - gone) == 27
    assert ingest(world, *arguments, "--sync")["published"] == 0


def test_whoever_begins_later_puts_an_end_to_the_one_before(world: World, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 30)
    meets = f"""
import subprocess, sys
from pathlib import Path
from agents.sources.publish import Publisher
records = Publisher._records
async def waits(self, *arguments):
    rows = await records(self, *arguments)
    another = [Path(sys.executable).with_name("penstock"), "ingest", "files", {str(folder)!r}]
    subprocess.run(another, check=True, stdout=subprocess.DEVNULL)
    return rows
Publisher._records = waits
"""
    found = ingest(world, folder, code=1, change=meets)
    assert "somebody else has begun to ingest the same source" in found["stderr"]
    assert len(asyncio.run(records(world))) == 30
    assert ingest(world, folder)["published"] == 0


def test_a_topic_made_anew_has_everything_again(world: World, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 3)
    assert ingest(world, folder)["published"] == 3
    asyncio.run(new_log(world, 1, claims_too=False))
    assert ingest(world, folder, "--sync")["published"] == 3
    assert ingest(world, folder, "--again")["published"] == 3


def test_a_bucket_is_read_again_where_it_changed(world: World) -> None:
    async def put(url: str, **bodies: str | None) -> None:
        async with get_session().create_client("s3", endpoint_url=url) as client:
            await client.create_bucket(Bucket="handbook")
            for key, body in bodies.items():
                if body is None:
                    await client.delete_object(Bucket="handbook", Key=f"docs/{key}.md")
                else:
                    await client.put_object(Bucket="handbook", Key=f"docs/{key}.md", Body=body.encode())

    with moto() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in LOGIN.items():
            patch.setenv(name, value)

        def ingested() -> tuple[int, int, int]:
            arguments = ("s3://handbook/docs/", "--endpoint", url, "--sync", "--max-deletes", "1", "--json")
            done = world.command("ingest", "s3", *arguments, extra=LOGIN)
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
            return found["published"], found["objects"]["unchanged"], found["deleted"]

        asyncio.run(put(url, a="# A", b="# B", c="# C"))
        assert ingested() == (3, 0, 0)
        assert ingested() == (0, 3, 0)
        asyncio.run(put(url, a="# Another", b="# B", c=None))
        assert ingested() == (1, 1, 1)
    assert [record.value for record in asyncio.run(records(world)) if record.key == b"s3://handbook/docs/c.md"][1:] == [
        None
    ]


def test_a_library_that_is_missing_deletes_nothing(world: World, tmp_path: Path) -> None:
    """The same folder, ingested where the extra is not installed."""
    folder = folder_of(tmp_path, 3)
    (folder / "page.html").write_text("<p>Only with selectolax.</p>")
    without = "from agents.sources import reading\nreading.is_there = lambda kind: kind != '.html'\n"
    assert ingest(world, folder)["published"] == 4
    found = ingest(world, folder, "--sync", "--max-deletes", "4", change=without)
    assert (found["deleted"], found["passed_over"]) == (0, {".html": 1})
    assert "brings it" in found["options"][".html"]
    assert ingest(world, folder, "--sync")["objects"] == {"changed": 0, "unchanged": 4, "failed": 0}


def test_what_is_remembered_is_read_to_its_end(world: World, tmp_path: Path) -> None:
    """Another source's transaction is open, before rows that are committed."""
    folder = folder_of(tmp_path, 3)

    async def scenario() -> None:
        assert (await asyncio.to_thread(ingest, world, folder))["published"] == 3
        topic = world.settings.sources_topic
        producer = AIOKafkaProducer(**connection(world.settings), transactional_id=f"{world.name}-other")
        async with producer:
            transaction = producer.transaction()
            await transaction.__aenter__()
            await producer.send_and_wait(topic, b"{}", b'["object", "other:/", "o"]')
            (folder / "new.md").write_text("# New")
            again = asyncio.create_task(asyncio.to_thread(ingest, world, folder))
            await asyncio.sleep(3)
            assert not again.done()
            await transaction.__aexit__(None, None, None)
            assert (await again)["published"] == 1

    asyncio.run(scenario())
