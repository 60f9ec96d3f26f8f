"""Many documents: NDJSON, and for each line of it a result, in order, as soon as it is there.

A line that is no document harms no other. Where the workers are behind, nothing more is read until they have caught up,
so that whoever sends is held up; after `publish_s` of that a line is answered with 429. At a stop no further line is
read: the last result says so, and lines without a result were not published.

Results wait in memory for a client that reads them in the end only: some 4 MiB of them, 30,000 lines. Then nothing more
is read until it reads them.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from agents.sources import Failure, Outgoing
from agents.sources.http import Limits
from agents.sources.http.body import invite, lines, require_length, stopped
from agents.sources.http.call import Call
from agents.sources.http.documents import as_json, outcome_of
from agents.sources.http.log import Log
from agents.sources.http.metrics import Metrics
from agents.sources.http.problems import SERVER, ProblemError, too_large
from agents.sources.http.room import Room
from agents.sources.media import media_type
from agents.sources.reading import of_line

TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
IN_FLIGHT = 2000
"""Lines of a stream between reading and their result."""
WRITE_BYTES = 16 * 1024
"""Of results, together, while more are ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """`sent`: its record, handed over; or why it was not. `held`: bytes to give back."""

    number: int
    doc_id: str | None
    sent: "asyncio.Future[Any] | ProblemError"
    held: int = 0


class Lines:
    """`POST /documents`."""

    def __init__(self, log: Log, held: Room, metrics: Metrics, limits: Limits) -> None:
        self._log = log
        self._held = held
        self._metrics = metrics
        self._limits = limits
        self._streams = Room(limits.streams, f"too many streams of documents are open ({limits.streams})")

    async def post(self, call: Call) -> web.StreamResponse:
        """Publish them. Raises ProblemError where nothing was read."""
        request = call.request
        if media_type(request.headers).name not in TYPES:
            raise ProblemError(415, f"send {TYPES[0]}: one document a line, each with its `id`", close=True)
        if "wait" in request.rel_url.query:
            raise ProblemError(400, "`wait` is for single documents: `PUT /documents/{id}?wait=searchable`", close=True)
        require_length(request, "the body", 2**63)
        await self._log.require_room()
        with self._streams.held():
            response = web.StreamResponse(headers={**SERVER, "Content-Type": TYPES[0], "X-Accel-Buffering": "no"})
            await invite(request)  # behind the answer's head it would be in the midst of the results
            await response.prepare(request)
            if request.transport:
                request.transport.set_write_buffer_limits(high=self._limits.answers)
            waiting = asyncio.Queue[_Line | None](IN_FLIGHT)
            reading = asyncio.create_task(self._read(call, waiting))
            try:
                await self._write(call, response, waiting)
            finally:
                reading.cancel()
                reading.add_done_callback(lambda _: self._forget(waiting))  # even where this is cancelled once more
            await self._unless_unread(call, response.write_eof())
            if not request.content.at_eof():
                response.force_close()
        return response

    async def _read(self, call: Call, waiting: "asyncio.Queue[_Line | None]") -> None:
        """Line after line, until the body ends, or the stop. What ends it early is told in place of a result."""
        number = 0
        try:
            async for number, line in _numbered(call, self._log.largest, self._limits.idle_s):
                if line is None or line.strip():
                    begun = await self._begin(call, number, line)
                    try:
                        await waiting.put(begun)
                    except BaseException:
                        self._held.give(begun.held)
                        raise
        except ProblemError as problem:
            await waiting.put(_Line(number=number + 1, doc_id=None, sent=problem))
        except ConnectionError:
            pass  # nobody is left to be told
        await waiting.put(None)

    async def _begin(self, call: Call, number: int, line: bytes | None) -> _Line:
        """Hand it over, when there is room for it."""
        limit = self._log.largest
        if line is None:
            return _Line(number=number, doc_id=None, sent=too_large("the line", limit))
        made = of_line(line.strip(), "")
        if isinstance(made, Failure):
            return _Line(number=number, doc_id=None, sent=ProblemError(422, made.reason))
        doc_id, size = made.key.decode(), len(line)
        await self._held.wait(size)
        try:
            return _Line(number=number, doc_id=doc_id, sent=await self._hand_over(call, made, doc_id), held=size)
        except BaseException as exc:
            self._held.give(size)
            if isinstance(exc, ProblemError):
                return _Line(number=number, doc_id=doc_id, sent=exc)
            raise

    async def _hand_over(self, call: Call, made: Outgoing, doc_id: str) -> "asyncio.Future[Any]":
        call.require_allowed(doc_id)
        self._log.require_small(made)
        await self._log.admission.take_patiently(self._limits.publish_s, call.stopping)
        return await self._log.begin(made)

    async def _write(self, call: Call, response: web.StreamResponse, waiting: "asyncio.Queue[_Line | None]") -> None:
        """Results in order. Raises ConnectionError when the client does not read them."""
        ready = bytearray()
        while (line := await waiting.get()) is not None:
            ready += orjson.dumps(await self._result(call, line)) + b"\n"
            if len(ready) >= WRITE_BYTES or waiting.empty():
                await self._unless_unread(call, response.write(bytes(ready)))
                ready = bytearray()
        await self._unless_unread(call, response.write(bytes(ready)))

    async def _unless_unread(self, call: Call, sending: Coroutine[Any, Any, None]) -> None:
        """Raises ConnectionError, and ends the connection, where the client does not read for so long."""
        try:
            async with asyncio.timeout(self._limits.idle_s):
                await sending
        except TimeoutError as exc:
            if call.request.transport:
                call.request.transport.abort()
            raise ConnectionResetError("the client reads no results") from exc

    async def _result(self, call: Call, line: _Line) -> dict[str, object]:
        told: dict[str, object] = {"line": line.number}
        if line.doc_id is not None:
            told["id"] = line.doc_id
        try:
            if isinstance(line.sent, ProblemError):
                raise line.sent
            place = await self._log.end(line.sent)
        except ProblemError as problem:
            self._metrics.count(call.source, outcome_of(problem))
            retry = problem.headers.get("Retry-After")
            return told | problem.body() | ({"retry_after": int(retry)} if retry else {})
        finally:
            self._held.give(line.held)
        self._metrics.count(call.source, "published")
        return told | {"status": 200, **as_json(place)}

    def _forget(self, waiting: "asyncio.Queue[_Line | None]") -> None:
        """Lines that nobody is told about any more; their records are published all the same."""
        while not waiting.empty():
            if line := waiting.get_nowait():
                self._held.give(line.held)


async def _numbered(call: Call, limit: int, idle_s: float) -> AsyncIterator[tuple[int, bytes | None]]:
    """Lines from 1 on. Raises ProblemError as `lines`, and at a stop."""
    number = 0
    async for line in lines(call.request, limit, idle_s=idle_s, stopping=call.stopping):
        if call.stopping.is_set():
            raise stopped()
        number += 1
        yield number, line
