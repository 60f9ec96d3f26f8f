"""A server in this process, whose log is in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from agents.clock import Deadline
from agents.elastic.client import connect
from agents.settings import Settings
from agents.sources.http import Limits, admission
from agents.sources.http.admission import Admission
from agents.sources.http.documents import Documents
from agents.sources.http.lines import Lines
from agents.sources.http.log import Log
from agents.sources.http.metrics import Metrics
from agents.sources.http.room import Room
from agents.sources.http.routes import routes
from agents.sources.http.server import Listening, Server
from agents.sources.http.tokens import Tokens
from agents.sources.http.uploads import Uploads
from agents.sources.http.waiting import Waiting
from streams.contract import Described
from tests.kit.api import Api, asking
from tests.kit.harness import until


@dataclass
class Broker:
    """Acknowledges what it is sent when it may. `settled`: so many of its records count in no lag."""

    acknowledges: bool = True
    error: KafkaError | None = None
    records: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    settled: int = 0
    looks: int = 0
    most: int = 0
    """The largest lag that there was."""
    waiting: list[tuple["asyncio.Future[Any]", bytes, bytes | None]] = field(default_factory=list)

    async def send(self, topic: str, *, key: bytes, value: bytes | None, headers: object = ()) -> "asyncio.Future[Any]":
        """As aiokafka's producer."""
        assert topic == "documents"
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((future, key, value))
        if self.acknowledges:
            self.acknowledge()
        return future

    def acknowledge(self) -> None:
        """All that waits."""
        for future, key, value in self.waiting:
            if self.error:
                future.set_exception(self.error)
                continue
            self.records.append((key, value))
            future.set_result(SimpleNamespace(partition=0, offset=len(self.records) - 1))
        self.waiting.clear()
        self.most = max(self.most, len(self.records) - self.settled)

    async def rows(self, *_: object) -> list[dict[str, int]]:
        """As `partition_rows`."""
        self.looks += 1
        lag = len(self.records) - self.settled
        await asyncio.sleep(0)
        return [{"lag": lag, "settled_offset": self.settled}]


@dataclass
class Running:
    """A server, and what it stands on."""

    api: Api
    server: Server
    log: Log
    broker: Broker
    metrics: Metrics
    held: Room
    uploads: Uploads
    stopping: asyncio.Event
    port: int

    def count(self, outcome: str, source: str = "http") -> float:
        """Of documents."""
        found = self.metrics.registry.get_sample_value(
            "penstock_source_objects_total", {"source": source, "outcome": outcome}
        )
        return found or 0.0

    async def raw(self, *parts: bytes) -> bytes:
        """What is answered to these bytes, up to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def running(
    limits: Limits | None = None,
    *,
    tokens: Tokens | None = None,
    token: str | None = None,
    max_lag: int = 1000,
    largest: int = 1024**2,
    local: bool = False,
) -> AsyncIterator[Running]:
    """On any port."""
    limits = limits or Limits()
    settings, broker, stopping, metrics = Settings(), Broker(), asyncio.Event(), Metrics()
    lag = Admission(settings, max_lag)
    log = Log(settings, lag, partitions=1, publish_s=limits.publish_s)
    log.limit, log._producer = largest, broker
    reader: Any = SimpleNamespace()
    lag.about(reader, Described(partitions=1, log="log"))
    uploads, held = Uploads(limits), Room(limits.held, f"too many bytes of documents at once ({limits.held})")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "partition_rows", broker.rows)
        async with connect(settings.elasticsearch) as client:
            documents = Documents(log, Waiting(log, client, limits.waits, stopping), uploads, held, limits)
            answers = routes(documents, Lines(log, held, metrics, limits), metrics, list)
            where = Listening(host="127.0.0.1", port=0, secure=None, local=local)
            server = Server(where, answers, tokens, metrics, limits, stopping)
            port = await server.listen()
            try:
                async with asking(f"http://127.0.0.1:{port}", token) as api:
                    yield Running(api, server, log, broker, metrics, held, uploads, stopping, port)
            finally:
                stopping.set()
                await server.drain(Deadline(5))
                await uploads.close()


async def so(condition: Callable[[], bool]) -> None:
    """Wait until it is."""

    async def check() -> bool:
        return condition()

    await until(check, every_s=0.01)
