"""Beside what others use for the same: pages a second and objects a second, one after the other on one machine."""

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiobotocore.session import get_session

from tests.chaos.test_stores import LOGIN, gateway
from tests.kit.environments import python_with
from tests.kit.harness import World
from tests.kit.website import generated, path_of, serving
from tests.stack.test_web import crawl

MODEL_SPEED = "fast"
SCRAPY, AWS = "scrapy==2.19.0", "awscli==1.42.40"
PAGES, OBJECTS, ROUNDS = 5_500, 10_000, 2
SPIDER = """
import sys
from scrapy.crawler import CrawlerProcess
from scrapy.linkextractors import LinkExtractor
from scrapy.spiders import CrawlSpider, Rule

class Pages(CrawlSpider):
    name = "pages"
    start_urls = [sys.argv[1]]
    rules = [Rule(LinkExtractor(), callback="page", follow=True)]

    def parse_start_url(self, response):
        return self.page(response)

    def page(self, response):
        text = " ".join(response.css("main ::text").getall())
        yield {"url": response.url, "title": response.css("title::text").get(), "text": text}

crawler = CrawlerProcess({
    "FEEDS": {sys.argv[2]: {"format": "jsonlines"}}, "LOG_LEVEL": "ERROR", "ROBOTSTXT_OBEY": True,
    "CONCURRENT_REQUESTS": 8, "CONCURRENT_REQUESTS_PER_DOMAIN": 8, "DOWNLOAD_DELAY": 0, "TELNETCONSOLE_ENABLED": False,
})
crawler.crawl(Pages)
crawler.start()
"""


def python_or_skip(name: str, requirement: str) -> str:
    """Of an environment with the other program."""
    try:
        return python_with(name, requirement)
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"{requirement} cannot be installed here: {exc}")


def told(summary: dict[str, Any], what: str, count: int, seconds: list[float]) -> None:
    """The best of the rounds, of whatever does it: other work on the machine only takes away."""
    summary[f"{what}/s"] = round(count / min(seconds))


def test_pages_beside_scrapy(world: World, tmp_path: Path, summary: dict[str, Any]) -> None:
    """Both find all pages and their texts; Scrapy writes lines into a file, Penstock transactions to the broker."""
    python = python_or_skip("scrapy-2.19.0", SCRAPY)
    spider = tmp_path / "spider.py"
    spider.write_text(SPIDER)
    ours, theirs = [], []
    for turn in range(ROUNDS):
        with serving() as site:  # on a port of its own, so that all is new to a crawl
            site.pages = generated(PAGES)
            begun = time.monotonic()
            found = crawl(world, site, "--max-lag", "1000000", "--concurrency", "8")
            ours.append(time.monotonic() - begun)
            assert found["published"] == PAGES
            lines, begun = tmp_path / f"{turn}.jsonl", time.monotonic()
            subprocess.run([python, spider, f"{site.url}/", lines], check=True)
            theirs.append(time.monotonic() - begun)
        texts = {row["url"]: row["text"] for row in map(orjson.loads, lines.read_bytes().splitlines())}
        assert all(f"Text {number} of 0." in texts[site.url + path_of(number)] for number in range(PAGES))
    told(summary, "pages, ingest web: pages", PAGES, ours)
    told(summary, "pages, Scrapy into a file: pages", PAGES, theirs)


def test_objects_beside_aws_s3_sync(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: dict[str, Any]
) -> None:
    """Of one gateway, new and unchanged: `aws s3 sync` writes files, Penstock transactions to the broker."""
    python = python_or_skip("awscli-1.42.40", AWS)
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)

    async def make(url: str) -> None:
        async with get_session().create_client("s3", endpoint_url=url) as client:
            await client.create_bucket(Bucket="handbook")

    copies = tmp_path / "copies"
    with gateway(world, f"{world.name}-events", tmp_path) as (url, folder):
        asyncio.run(make(url))
        for number in range(OBJECTS):
            path = folder / f"{number % 100:02d}" / f"{number:05d}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"Text {number}.")
        ingest = ("ingest", "s3", "s3://handbook", "--endpoint", url, "--max-lag", str(4 * OBJECTS), "--json")
        sync: list[str | Path] = [
            python,
            "-m",
            "awscli",
            "s3",
            "sync",
            "s3://handbook",
            copies,
            "--endpoint-url",
            url,
            "--only-show-errors",
        ]
        for what in ("new", "unchanged"):
            begun = time.monotonic()
            done = world.command(*ingest, extra=LOGIN)
            assert done.returncode == 0, done.stderr
            told(summary, f"{what} objects, ingest s3: objects", OBJECTS, [time.monotonic() - begun])
            begun = time.monotonic()
            subprocess.run(sync, check=True, env={**os.environ, "HOME": str(tmp_path)})
            told(summary, f"{what} objects, aws s3 sync: objects", OBJECTS, [time.monotonic() - begun])
    assert sum(1 for path in copies.rglob("*.txt")) == OBJECTS
