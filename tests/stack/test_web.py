"""Sites: what changed is published, once, whatever happens in between; on a real broker, from a real server."""

import asyncio
import json
import signal
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from agents.kafka.reader import log_reader
from tests.kit.harness import World, until
from tests.kit.website import Website, generated, path_of, serving
from tests.stack.test_sources import DIES, PLACES, records
from tests.stack.test_stores import watching

MODEL_SPEED = "fast"
FAST = ("--allow-private", "--delay", "0", "--partitions", "2")


@pytest.fixture
def site() -> Iterator[Website]:
    """Empty."""
    with serving() as made:
        yield made


def crawl(world: World, site: Website, *arguments: str, code: int = 0, change: str = "") -> dict[str, Any]:
    """What the command says of itself."""
    done = world.command("ingest", "web", site.url, *FAST, *arguments, "--json", change=change)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found | {"stderr": done.stderr}


async def newest(world: World) -> dict[str, str]:
    """The text of each document; none of its records has the value of the one before."""
    last: dict[bytes | None, bytes | None] = {}
    for record in await records(world):
        assert last.get(record.key, b"") != record.value, f"{record.key!r} was repeated"
        last[record.key] = record.value
    return {key.decode(): orjson.loads(value)["text"] for key, value in last.items() if key and value}


def test_a_site_is_published_and_then_only_what_changed(world: World, site: Website) -> None:
    site.pages = generated(60)
    assert crawl(world, site, "--dry-run")["objects"]["changed"] == 60
    found = crawl(world, site)
    assert (found["published"], found["objects"]) == (60, {"changed": 60, "unchanged": 0, "failed": 0})
    site.asked.clear()
    assert crawl(world, site)["objects"] == {"changed": 0, "unchanged": 60, "failed": 0}
    assert site.statuses().keys() == {304}
    site.pages = generated(60, edits={7: 1}, gone={50, 51})
    found = crawl(world, site)
    assert (found["deleted"], found["gone"]) == (0, 2)
    assert crawl(world, site, "--sync")["deleted"] == 2
    texts = asyncio.run(newest(world))
    assert texts.keys() == {site.url + path for path in site.pages}
    assert "Text 7 of 1." in texts[site.url + path_of(7)]
    site.pages = generated(60, gone={*range(20, 60)})
    found = crawl(world, site, "--sync", code=3)
    assert "38 of 58 documents" in found["stderr"]
    assert crawl(world, site, "--sync", "--max-deletes", "38")["deleted"] == 38


@pytest.mark.parametrize("place", PLACES)
def test_kill_9_of_a_crawl_loses_and_repeats_nothing(world: World, site: Website, place: str) -> None:
    arguments = ("--sync", "--max-lag", "400", "--max-deletes", "10")  # twenty at a time
    edits: dict[int, int] = {}
    for left in (2, 2, 3):
        edits |= {number: edits.get(number, 0) + 1 for number in (0, 3, 40)}
        site.pages = generated(80, edits, gone={60, 61} if left == 3 else set())
        crawl(world, site, *arguments, code=9, change=DIES.format(left=left) + PLACES[place])
    crawl(world, site, *arguments)
    crawl(world, site, *arguments)
    texts = asyncio.run(newest(world))
    assert texts.keys() == {site.url + path for path in site.pages}
    assert all(f"Text {number} of {edits.get(number, 0)}." in texts[site.url + path_of(number)] for number in (0, 3, 7))
    site.asked.clear()
    assert crawl(world, site, *arguments)["published"] == 0
    assert site.statuses().keys() == {304}


def test_a_crawl_waits_for_the_workers(world: World, site: Website) -> None:
    """There is none: it publishes as much as may lag, and the rest when it may."""
    site.pages = generated(400)
    errors = world.tmp / "errors"

    async def scenario() -> int:
        words = ("ingest", "web", site.url, *FAST, "--max-lag", "100")
        process = await asyncio.to_thread(world.start, *words, output=world.tmp / "output", errors=errors)

        async def waits() -> bool:
            assert process.poll() is None, errors.read_text()
            return "waiting for the workers" in errors.read_text()

        await until(waits)
        process.kill()
        process.wait()
        async with log_reader(world.settings) as reader:
            return sum(bound.end for bound in (await reader.bounds(world.name, range(2))).values())

    assert 50 < asyncio.run(scenario()) <= 110
    assert crawl(world, site, "--max-lag", "100000")["objects"]["failed"] == 0
    assert asyncio.run(newest(world)).keys() == {site.url + path for path in site.pages}


def test_a_site_is_watched_until_sigterm(world: World, site: Website) -> None:
    site.pages = generated(12)

    async def scenario() -> None:
        async with watching(world, "web", site.url, *FAST, "--watch", "1", "--sync", "--max-deletes", "2") as watch:
            assert (await watch.told(lambda row: bool(row.get("published"))))["published"] == 12
            site.pages = generated(12, edits={5: 1}, gone={11})
            found = await watch.told(lambda row: bool(row.get("published")))
            assert found["published"] in (1, 2)

            async def gone() -> bool:
                return bool(sum(row.get("deleted", 0) for row in watch.passes()) == 1)

            await until(gone)
            watch.process.send_signal(signal.SIGTERM)
            assert (await watch.ended())[0] == 0

    asyncio.run(scenario())
    assert asyncio.run(newest(world)).keys() == {site.url + path for path in site.pages}


def test_a_site_that_is_not_public_is_refused(world: World, site: Website) -> None:
    site.pages = generated(3)
    done = world.command("ingest", "web", site.url, "--json")
    assert done.returncode == 1
    assert "is no public address: --allow-private is for intranets" in done.stderr
    assert not site.served
    done = world.command("ingest", "web", "example.org")
    assert (done.returncode, "https://example.org/docs/ is needed" in done.stderr) == (2, True)
