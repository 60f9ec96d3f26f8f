"""What was sent, as it comes: never more than it may be, unpacked or not, and never slower than it may come."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_request import BaseRequest

from agents.sources.http.problems import ProblemError, too_large
from agents.sources.http.room import Room

PART_BYTES = 64 * 1024
GZIP_WINDOW = 31
"""zlib's word for gzip with its largest window."""
GRACE_S = 30.0
LEAST_BYTES_S = 1024
"""After the grace a body has to come at such a rate."""


def require_length(request: BaseRequest, what: str, limit: int) -> None:
    """Before anything is read: raises ProblemError for a length that is too large, or an unknown encoding."""
    if _encoding(request) not in ("identity", "gzip"):
        raise ProblemError(415, "Content-Encoding may be gzip only", headers={"Accept-Encoding": "gzip"}, close=True)
    if (request.content_length or 0) > limit:
        raise too_large(what, limit)


def _encoding(request: BaseRequest) -> str:
    return request.headers.get("Content-Encoding", "identity").strip().lower()


async def invite(request: BaseRequest) -> None:
    """Tell a client that asked beforehand (`Expect: 100-continue`) to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def stopped() -> ProblemError:
    """Of a stream that goes on while the server ends."""
    return ProblemError(503, "the server is stopping: from here on nothing was read", retry_after_s=1, close=True)


async def parts(request: BaseRequest, *, idle_s: float, stopping: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """The body, unpacked. Raises ProblemError: it stops coming (408), is cut off or no gzip (400), `stopped`.

    It has to come at a rate; with `stopping` it is a stream, which may come as slowly as it likes.
    """
    loop = asyncio.get_running_loop()
    begun, received, packed = loop.time(), 0, _encoding(request) == "gzip"
    unpacking = _Unpacking() if packed else None
    if stopping is None:  # a stream was invited before its answer began
        await invite(request)
    while True:
        try:
            async with asyncio.timeout(idle_s):
                part = await (_unless_stopped(request, stopping) if stopping else request.content.readany())
        except TimeoutError:
            raise ProblemError(408, f"nothing came for {idle_s:.0f} s", close=True) from None
        except (web.RequestPayloadError, HttpProcessingError) as exc:
            raise ProblemError(400, "the body was cut off, or is not what its headers say", close=True) from exc
        if not part:
            break
        received += len(part)
        if stopping is None and loop.time() - begun > GRACE_S + received / LEAST_BYTES_S:
            raise ProblemError(408, f"the body comes with less than {LEAST_BYTES_S} bytes a second", close=True)
        if unpacking is None:
            yield part
        else:
            for plain in unpacking.feed(part):
                yield plain
    if unpacking and not unpacking.whole:
        raise ProblemError(400, "the body ends in the midst of its gzip stream", close=True)


async def _unless_stopped(request: BaseRequest, stopping: asyncio.Event) -> bytes:
    tasks = asyncio.create_task(request.content.readany()), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    if not tasks[0].done():
        raise stopped()
    return tasks[0].result()


class _Unpacking:
    """Of a body that may be several gzip streams, `PART_BYTES` at a time: a bomb is never there as a whole."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(GZIP_WINDOW)
        self.whole = False
        """Whether the body may end here."""

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """What is in it, as it is drawn. Raises ProblemError (400) for what is no gzip."""
        while True:
            try:
                plain = self._stream.decompress(packed, PART_BYTES)
            except zlib.error as exc:
                raise ProblemError(400, "the body is not gzip, as its Content-Encoding says", close=True) from exc
            packed, self.whole = self._stream.unconsumed_tail, self._stream.eof
            if self.whole:
                packed, self._stream = self._stream.unused_data, zlib.decompressobj(GZIP_WINDOW)
            if plain:
                yield plain
            if not packed and (self.whole or len(plain) < PART_BYTES):  # else it may have more in it
                return


@asynccontextmanager
async def whole(request: BaseRequest, what: str, limit: int, room: Room, *, idle_s: float) -> AsyncIterator[bytes]:
    """The body, whose bytes are held meanwhile. Raises ProblemError as `parts`, and without room (413, 503)."""
    require_length(request, what, limit)
    taken, body = 0, bytearray()
    try:
        if told := request.content_length or 0:
            room.take(told)
            taken = told
        async for part in parts(request, idle_s=idle_s):
            body += part
            if len(body) > limit:
                raise too_large(what, limit)
            if len(body) > taken:
                room.take(len(body) - taken)
                taken = len(body)
        yield bytes(body)
    finally:
        room.give(taken)


async def lines(
    request: BaseRequest, limit: int, *, idle_s: float, stopping: asyncio.Event
) -> AsyncIterator[bytes | None]:
    """Lines of the body, without their ends; None in place of one that is too long. Raises ProblemError as `parts`."""
    held, skipping = bytearray(), False
    async for part in parts(request, idle_s=idle_s, stopping=stopping):
        begin = 0
        while (end := part.find(b"\n", begin)) >= 0:
            held += part[begin:end]
            begin = end + 1
            yield None if skipping or len(held) > limit else bytes(held)
            held, skipping = bytearray(), False
        if skipping or len(held) + len(part) - begin > limit:
            held, skipping = bytearray(), True
        else:
            held += part[begin:]
    if held or skipping:
        yield None if skipping else bytes(held)
