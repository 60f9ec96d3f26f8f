"""What listens at `kafka.bootstrap_servers` and is no Kafka is a wrong setting; a broker that is away is waited for.

`log_reader` with aiokafka's own clients, over real little servers.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from agents.kafka import bootstrap, reader
from agents.kafka.reader import log_reader
from agents.local.servers import free_port
from agents.settings import Settings
from agents.settings.sections import KafkaSettings
from streams.errors import AwayError, ConfigError, PenstockError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As Elasticsearch: nothing before the line has an end, and the connection stays open."""
    await reader.readline()
    writer.write(BAD_REQUEST)
    await reader.read()


async def http_closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As nginx: the first byte is already wrong."""
    await reader.read(1)
    writer.write(BAD_REQUEST)
    await writer.drain()


async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It speaks first."""
    writer.write(b"220 mail.example ESMTP\r\n")
    await reader.read()


async def tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An alert, as for every connection that does not begin with a handshake."""
    await reader.read(1)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x16")
    await writer.drain()


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """It takes the connection, and that is all."""
    await reader.read()


async def closing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """As a proxy whose broker is not up yet."""


async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It says which requests it knows, and takes none of them."""
    size = struct.unpack(">i", await reader.readexactly(4))[0]
    request = await reader.readexactly(size)
    answer = request[4:8] + struct.pack(">hi3h", 0, 1, 3, 0, 1)
    writer.write(struct.pack(">i", len(answer)) + answer)
    await writer.drain()


@asynccontextmanager
async def listening(*servers: Serve) -> AsyncIterator[list[str]]:
    """Their addresses."""
    started = []

    def closed_after(serve: Serve) -> Serve:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            finally:
                writer.close()

        return run

    for serve in servers:
        started.append(await asyncio.start_server(closed_after(serve), "127.0.0.1", 0))
    try:
        yield [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in started]
    finally:
        for server in started:
            server.close()


def failure(*serving: Serve, closed: int | None = None) -> tuple[list[str], PenstockError]:
    """The bootstrap servers, and the error. `closed`: a port where nothing listens, beside them."""

    async def run() -> tuple[list[str], PenstockError]:
        async with listening(*serving) as servers:
            if closed is not None:
                servers.append(f"127.0.0.1:{closed}")
            settings = Settings(kafka=KafkaSettings(bootstrap_servers=",".join(servers)))
            with pytest.raises(PenstockError) as caught:
                async with log_reader(settings):
                    pass
            return servers, caught.value

    return asyncio.run(run())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of servers with which the client gets nowhere, however long it tries."""
    monkeypatch.setattr(reader, "CONNECT_TIMEOUT_S", 1)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (http, "answers 'HTTP/1.1 400 Bad Request'"),
        (http_closing, "answers 'HTTP/1.1 400 Bad Request'"),
        (mail, "answers '220 mail.example ESMTP'"),
        (tls, "it speaks TLS, and kafka.security_protocol"),
    ],
)
def test_what_is_no_kafka_is_a_wrong_setting_that_is_named_with_what_answered(serve: Serve, said: str) -> None:
    (server,), error = failure(serve)
    assert isinstance(error, ConfigError), error
    assert f"kafka.bootstrap_servers = {server}" in str(error)
    assert said in str(error)


@pytest.mark.usefixtures("short")
def test_who_says_nothing_may_be_a_broker_that_hangs_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "SILENT_S", 1)
    (server,), error = failure(silent)
    assert isinstance(error, AwayError), error
    assert f"{server} takes connections and says nothing" in str(error)
    assert "kafka.bootstrap_servers" in str(error)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("other", [silent, None], ids=["silent", "away"])
def test_one_wrong_server_beside_one_that_may_come_is_named_and_waited_for(other: Serve | None) -> None:
    (wrong, _), error = failure(http, other) if other else failure(http, closed=free_port())
    assert isinstance(error, AwayError), error
    assert f"{wrong} answers 'HTTP/1.1 400 Bad Request'" in str(error)


def test_a_port_where_nothing_listens_is_waited_for() -> None:
    _, error = failure(closed=free_port())
    assert isinstance(error, AwayError), error


@pytest.mark.parametrize("serving", [(closing,), (broker,), (http_closing, broker)])
def test_a_connection_that_is_closed_is_for_the_login_or_the_certificates(serving: tuple[Serve, ...]) -> None:
    _, error = failure(*serving)
    assert (type(error), error.exit_code) == (PenstockError, 1)
    assert "kafka.security_protocol" in str(error)


def test_a_stop_in_the_moment_that_a_connection_breaks_is_not_lost() -> None:
    """One of the reader's two clients fails, the other one waits: the stop comes before, with or after that failure."""

    async def stopped(turns: int) -> bool:
        """So many turns of the loop after the first connection was closed."""
        taken, closed = 0, asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal taken
            taken += 1
            if taken > 1:
                await silent(reader, writer)
                return
            await reader.readexactly(4)
            closed.set()

        async def connect(server: str) -> None:
            async with log_reader(Settings(kafka=KafkaSettings(bootstrap_servers=server))):
                pass

        async with listening(serve) as (server,):
            connecting = asyncio.create_task(connect(server))
            await closed.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait([connecting])
            return connecting.cancelled()

    async def scenario() -> list[int]:
        return [turns for turns in range(20) if not await stopped(turns)]

    assert asyncio.run(scenario()) == []
