"""A large site that changes while crawls of it are killed, again and again."""

import asyncio
import random
import time
from contextlib import suppress
from typing import Any

import psutil

from tests.kit.harness import World, until
from tests.kit.website import generated, path_of, serving
from tests.stack.test_web import FAST, crawl, newest

MODEL_SPEED = "fast"
PAGES = 5_500
KILLS = 100
LARGE = 40_000
"""Pages of a large site."""
ROOM_MIB = 32
SMALL_CACHE = "import agents.scratch; agents.scratch.CACHE_KIB = 8 * 1024"
"""Of 64 MiB; so that what else grows with a site is seen."""


def test_a_hundred_kills_over_a_site_that_changes(world: World, summary: dict[str, Any]) -> None:
    """0 lost, 0 twice, 0 stale; a crawl after that fetches nothing."""
    chance = random.Random(5)
    edits: dict[int, int] = {}
    gone: set[int] = set()
    arguments = ("--sync", "--max-lag", "1000000", "--max-deletes", "100%", "--concurrency", "8")
    with serving() as site:
        site.pages = generated(PAGES)

        async def kill(number: int) -> bool:
            """In the midst of a crawl, or after it. Returns whether it was still running."""
            wanted = site.served + chance.randrange(1, 700)
            log = world.tmp / f"crawl-{number}.log"
            words = ("ingest", "web", site.url, *FAST, *arguments, "--json")
            process = await asyncio.to_thread(world.start, *words, output=log, errors=log)

            async def far() -> bool:
                return site.served >= wanted or process.poll() is not None

            await until(far, every_s=0.01)
            ran = process.poll() is None
            process.kill()
            process.wait()
            return ran

        killed = over = 0
        while killed < KILLS:
            ran = asyncio.run(kill(killed + over))
            killed, over = killed + ran, over + (not ran)
            for page in chance.sample(range(PAGES), 20):
                edits[page] = edits.get(page, 0) + 1
            gone = {*chance.sample(sorted(gone), len(gone) // 2), *chance.sample(range(600, PAGES), 5)}
            site.pages = generated(PAGES, edits, gone)
        for _ in range(2):  # the one that was killed last, and one that sees all
            begun = time.monotonic()
            found = crawl(world, site, *arguments)
            assert found["objects"]["failed"] == 0, found
        texts = asyncio.run(newest(world))
        wanted = {site.url + path_of(number): number for number in range(PAGES) if number not in gone}
        assert texts.keys() == wanted.keys()
        stale = [url for url, number in wanted.items() if f"Text {number} of {edits.get(number, 0)}." not in texts[url]]
        assert not stale
        site.asked.clear()
        begun = time.monotonic()
        assert crawl(world, site, *arguments)["published"] == 0
        assert site.statuses() == {304: len(wanted)}
        summary[f"web: s for {len(wanted)} unchanged pages"] = round(time.monotonic() - begun, 1)
        summary["web: kills, crawls that ended, edits"] = [killed, over, sum(edits.values())]


def test_pages_a_second(world: World, summary: dict[str, Any]) -> None:
    """With no delay, eight requests at once, from a server in Python on the same cores."""
    with serving() as site:
        site.pages = generated(PAGES)
        for what in ("new", "unchanged"):
            begun = time.monotonic()
            found = crawl(world, site, "--max-lag", "1000000", "--concurrency", "8")
            assert found["published"] == (PAGES if what == "new" else 0)
            summary[f"web: {what} pages/s"] = round(PAGES / (time.monotonic() - begun))


def test_a_site_ten_times_as_large_takes_no_more_memory(world: World, summary: dict[str, Any]) -> None:
    """What is to be visited, and what was, is on disk. Both crawls are new ones: of a folder of the site each."""

    async def most(url: str, number: int) -> int:
        """Bytes of resident memory, of the process that crawls."""
        log = world.tmp / f"large-{number}.log"
        words = ("ingest", "web", url, *FAST, "--max-lag", "1000000", "--concurrency", "8", "--json")
        process, found = await asyncio.to_thread(world.start, *words, output=log, errors=log, change=SMALL_CACHE), 0
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                found = max(found, psutil.Process(process.pid).memory_info().rss)
            await asyncio.sleep(0.1)
        assert process.wait() == 0, log.read_text()[-3000:]
        return found

    held = []
    for number, pages in enumerate((LARGE // 10, LARGE)):
        with serving() as site:
            site.pages = generated(pages)
            held.append(asyncio.run(most(site.url, number)))
    assert len(asyncio.run(newest(world))) == LARGE // 10 + LARGE
    small, large = (rss / 1024**2 for rss in held)
    summary[f"web: MiB for {LARGE // 10} and {LARGE} pages"] = [round(small), round(large)]
    assert large - small < ROOM_MIB
