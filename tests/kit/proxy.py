"""A proxy before Elasticsearch that fails on purpose: by status, by delay, by a lost answer, by a changed body."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}


@dataclass(frozen=True, kw_only=True)
class Act:
    """What happens to one request. Nothing set: it is forwarded as it is."""

    status: int = 0
    """Answered so, and not forwarded."""
    retry_after: str = ""
    delay_s: float = 0.0
    lose_answer: bool = False
    """Forwarded, then the connection is closed without an answer."""
    body: bytes | None = None
    """Forwarded instead."""
    answer: Callable[[Any], Any] | None = None
    """Changes the answer's JSON."""


Rule = Callable[[str, bytes], Act | None]


@dataclass
class Proxy:
    """`rule` decides for each request by path and body; `seen` counts them by the path's last part."""

    url: str = ""
    rule: Rule = lambda path, body: None
    seen: dict[str, int] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """For a worker that talks through it."""
        return {"PENSTOCK_ELASTICSEARCH__URL": self.url}


@asynccontextmanager
async def proxy(elasticsearch_port: int) -> AsyncIterator[Proxy]:
    """A running proxy on a free port of the loopback interface."""
    made = Proxy()

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        name = request.path.rsplit("/", 1)[-1]
        made.seen[name] = made.seen.get(name, 0) + 1
        act = made.rule(request.path, body) or Act()
        await asyncio.sleep(act.delay_s)
        if act.status:
            headers = {**PRODUCT, **({"Retry-After": act.retry_after} if act.retry_after else {})}
            error = {"error": {"type": "on_purpose", "reason": "the proxy says so"}, "status": act.status}
            return web.json_response(error, status=act.status, headers=headers)
        url = f"http://127.0.0.1:{elasticsearch_port}{request.path_qs}"
        headers = {name: request.headers[name] for name in ("content-type", "accept") if name in request.headers}
        try:
            async with session.request(
                request.method, url, data=io.BytesIO(body if act.body is None else act.body), headers=headers
            ) as answer:
                data, kind, status = await answer.read(), answer.headers.get("content-type", ""), answer.status
        except aiohttp.ClientError:
            data, kind, status = b"", "", 0
        if act.lose_answer or not status:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if act.answer:
            data = orjson.dumps(act.answer(orjson.loads(data)))
        return web.Response(body=data, status=status, headers={**PRODUCT, "content-type": kind})

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        await site.start()
        port = runner.addresses[0][1]
        made.url = f"http://127.0.0.1:{port}"
        try:
            yield made
        finally:
            await runner.cleanup()


@asynccontextmanager
async def forwarded(port: int, to: int) -> AsyncIterator[None]:
    """Bytes between a port and another one of the loopback interface, as they are."""
    writers: set[asyncio.StreamWriter] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        writers.discard(writer)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    async with await asyncio.start_server(handle, "127.0.0.1", port):
        yield
    for writer in writers:
        writer.transport.abort()


def is_chunks(path: str) -> bool:
    """A bulk request to the chunk index."""
    return path.endswith("/_bulk") and "-registry" not in path


def items_of(body: bytes) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(action line, source) of a bulk body."""
    lines = body.splitlines()
    return [(orjson.loads(lines[i]), orjson.loads(lines[i + 1])) for i in range(0, len(lines), 2)]


def bulk_body(items: list[tuple[dict[str, Any], dict[str, Any]]]) -> bytes:
    """Inverse of `items_of`."""
    return b"".join(orjson.dumps(action) + b"\n" + orjson.dumps(source) + b"\n" for action, source in items)
