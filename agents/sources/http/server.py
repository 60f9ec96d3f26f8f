"""Connections, and one request after the other on each: what it may do, what became of it, and the drain.

A request in order:

    1. route       there is such a path, and such a method                404, 405
    2. who         the token, and, without tokens, the host asked for     401, 421
    3. room        of documents: not too many at once, no stop            503
    4. what        its handler; everything that fails is a `ProblemError`
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.web_request import BaseRequest

from agents.clock import Deadline
from agents.sources.http import Limits
from agents.sources.http.call import Call
from agents.sources.http.metrics import Metrics
from agents.sources.http.problems import SERVER, ProblemError, busy
from agents.sources.http.room import Room
from agents.sources.http.tokens import Token, Tokens
from streams.errors import PenstockError
from streams.record import MAX_ID_CHARS

DOCUMENTS = "/documents"
DOCUMENT = "/documents/{id}"
OPEN = ("/livez", "/readyz", "/openapi.json")
"""For whoever asks, whatever else goes on; they tell nothing of documents or servers."""
OTHER = "other"
"""In metrics, every path and method that is none of ours: whoever asks must not make series."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
LINGER_S = 2.0
"""How long the rest of a refused body is read, so that the client comes to read the refusal."""
LINE_BYTES = 12 * MAX_ID_CHARS + 4096
"""Of a request's first line: every byte of the longest id may be percent-encoded, and a query comes behind it."""
HANDSHAKE_S = 10.0
END_S = 2.0

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
Routes = Mapping[str, Mapping[str, Handler]]
"""By path, as in the OpenAPI document, and method."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where. `local`: only this machine reaches it, by these names. `secure`: with TLS."""

    host: str
    port: int
    secure: ssl.SSLContext | None
    local: bool


class _Connection(web.RequestHandler):
    """What aiohttp makes of requests that are none is told as every other problem; too many connections are closed."""

    __slots__ = ("_most",)

    def __init__(self, manager: web.Server, most: int, **options: object) -> None:
        super().__init__(manager, **options)  # type: ignore[arg-type]  # those of aiohttp's own server
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > self._most:
            self.force_close()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500 and not isinstance(exc, ConnectionError):
            logger.error("a request failed", exc_info=exc)
        detail = "the server failed" if status >= 500 else " ".join((message or "no valid HTTP").split())[:200]
        return ProblemError(status, detail, close=True).response()


class _Connections(web.Server):
    def __init__(self, handler: Callable[[BaseRequest], Awaitable[web.StreamResponse]], limits: Limits) -> None:
        super().__init__(handler, handler_cancellation=True)  # whoever has gone waits for nothing
        self._limits = limits

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            self._limits.connections,
            loop=self._loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=self._limits.idle_s,
            lingering_time=LINGER_S,
            max_line_size=LINE_BYTES,
        )


class Server:
    """Answers by `routes`. `tokens`: None: whoever reaches it may do everything."""

    def __init__(
        self,
        listening: Listening,
        routes: Routes,
        tokens: Tokens | None,
        metrics: Metrics,
        limits: Limits,
        stopping: asyncio.Event,
    ) -> None:
        self._listening = listening
        self._routes = routes
        self._tokens = tokens
        self._metrics = metrics
        self._stopping = stopping
        self._room = Room(limits.requests, f"too many requests at once ({limits.requests})")
        self._connections = _Connections(self._handle, limits)
        self._busy = set[object]()
        self._idle = asyncio.Event()
        self._sockets: asyncio.Server | None = None

    async def listen(self) -> int:
        """Begin. Returns the port. Raises PenstockError when it is taken."""
        where, secure = self._listening, self._listening.secure
        try:
            self._sockets = await asyncio.get_running_loop().create_server(
                self._connections,
                where.host,
                where.port,
                ssl=secure,
                ssl_handshake_timeout=HANDSHAKE_S if secure else None,
            )
        except OSError as exc:
            raise PenstockError(
                f"port {where.port} on {where.host} cannot be used ({exc.strerror}): another process has it? `--port`"
            ) from exc
        return int(self._sockets.sockets[0].getsockname()[1])

    async def drain(self, deadline: Deadline) -> bool:
        """Take no connection more, answer what was begun, and end. Returns whether all was answered by then."""
        if self._sockets is not None:
            self._sockets.close()
        for connection in self._connections.connections:
            if connection not in self._busy:
                connection.close()
        while self._busy and deadline.left_s:
            self._idle.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), deadline.left_s)
        done = not self._busy
        await self._connections.shutdown(END_S if done else 0.1)
        return done

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        begun, labels = time.monotonic(), [OTHER, OTHER]
        connection = request.protocol
        self._busy.add(connection)
        self._metrics.in_flight.inc()
        status = 499  # the client went first
        try:
            response = await self._answer(request, labels)
            status = response.status
            if not response.prepared:
                response.headers.update(SERVER)
            if self._stopping.is_set():
                response.force_close()
            return response
        except ConnectionError:
            raise
        except Exception:
            status = 500
            raise
        finally:
            self._metrics.in_flight.dec()
            self._metrics.seconds.labels(*labels, str(status)).observe(time.monotonic() - begun)
            asyncio.get_running_loop().call_soon(self._end, connection)

    def _end(self, connection: object) -> None:
        self._busy.discard(connection)
        self._idle.set()

    async def _answer(self, request: BaseRequest, labels: list[str]) -> web.StreamResponse:
        """Raises for what is a bug, or a client that has gone."""
        try:
            path = request.raw_path.partition("?")[0]
            route = _route_of(path)
            handlers = self._routes.get(route)
            if handlers is None:
                raise ProblemError(404, "there is nothing here: /openapi.json says what there is")
            labels[1] = route
            if (handler := handlers.get(request.method)) is None:
                allowed = {"Allow": ", ".join(sorted(handlers))}
                raise ProblemError(405, f"{route} takes {allowed['Allow']}", headers=allowed)
            labels[0] = request.method
            token = None if route in OPEN else self._who(request)
            call = Call(request=request, route=route, doc_id=_id_in(path, route), token=token, stopping=self._stopping)
            if not route.startswith(DOCUMENTS):
                return await handler(call)
            if self._stopping.is_set():
                raise busy("the server is stopping")
            with self._room.held():
                return await handler(call)
        except ProblemError as problem:
            return problem.response()

    def _who(self, request: BaseRequest) -> Token | None:
        """Raises ProblemError. Without tokens, a page in a browser must not reach us under a name of its own."""
        if self._tokens is not None:
            return self._tokens.of(request.headers.get("Authorization"))
        host = request.headers.get("Host", "").lower()
        if self._listening.local and host.removesuffix(f":{host.rpartition(':')[2]}") not in LOCAL_NAMES:
            raise ProblemError(421, "without tokens it is asked for as localhost or 127.0.0.1 only")
        return None


def _route_of(path: str) -> str:
    if path.startswith(f"{DOCUMENTS}/") and len(path) > len(DOCUMENTS) + 1:
        return DOCUMENT
    return path


def _id_in(path: str, route: str) -> str:
    """Percent-encoded UTF-8, slashes and all. Raises ProblemError (400)."""
    if route != DOCUMENT:
        return ""
    try:
        return unquote_to_bytes(path[len(DOCUMENTS) + 1 :]).decode()
    except UnicodeDecodeError as exc:
        raise ProblemError(400, f"the id is not UTF-8, percent-encoded: {exc.reason} at byte {exc.start}") from exc
