"""Documents in, answers out: ids, limits, encodings, files, and what is told of each failure. No Kafka."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientConnectionError
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber

from agents.clock import Deadline
from agents.sources.http import Limits
from agents.sources.http.problems import ProblemError
from streams.record import MAX_ID_CHARS
from tests.agents.sources.http.running import Running, running, so
from tests.kit.api import JSON, LINES

Scenario = Callable[[Running], Awaitable[None]]
TEXT = b'{"text": "Locks of rivers."}'


def with_server(scenario: Scenario, **options: Any) -> None:
    async def run() -> None:
        async with running(**options) as server:
            await asyncio.wait_for(scenario(server), 120)

    asyncio.run(run())


@pytest.mark.parametrize(
    "doc_id", ["a", "a/b c", "50%", "?#&", "naïve/水/🜂", "..", "/", "x" * MAX_ID_CHARS, "🜂" * MAX_ID_CHARS]
)
def test_any_id_is_a_path(doc_id: str) -> None:
    async def scenario(server: Running) -> None:
        path = quote(doc_id, safe="").replace(".", "%2E")
        answer = await server.api.ask("PUT", f"/documents/{path}", TEXT, JSON)
        assert (answer.status, answer.body["id"], answer.body["offset"]) == (200, doc_id, 0), answer.body
        assert (await server.api.ask("DELETE", f"/documents/{path}")).body["offset"] == 1
        assert server.broker.records == [(doc_id.encode(), TEXT), (doc_id.encode(), None)]
        assert (server.count("published"), server.count("deleted")) == (1, 1)

    with_server(scenario)


def test_slashes_of_an_id_may_stand_as_they_are() -> None:
    async def scenario(server: Running) -> None:
        assert (await server.api.ask("PUT", "/documents/a/b//c", TEXT, JSON)).body["id"] == "a/b//c"

    with_server(scenario)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "part"),
    [
        ("PUT", "/documents/a", b'{"text": 1}', JSON, 422, "`text` is a JSON number"),
        ("PUT", "/documents/a", b"{", JSON, 422, "not JSON"),
        ("PUT", "/documents/a", b"", JSON, 422, "not JSON"),
        ("PUT", "/documents/a", b"null", JSON, 422, "an object with `text`"),
        ("PUT", "/documents/a", b'{"id": "b", "text": "x"}', JSON, 422, "is not the record's key"),
        ("PUT", "/documents/" + "x" * (MAX_ID_CHARS + 1), TEXT, JSON, 422, "use a hash of it"),
        ("PUT", "/documents/%ff", TEXT, JSON, 400, "not UTF-8"),
        ("PUT", "/documents/a", TEXT, {"Content-Type": "image/png"}, 415, "image/png is of no kind"),
        ("PUT", "/documents/a?filename=a.png", TEXT, {"Content-Type": "text/html"}, 415, "a.png is of no kind"),
        ("PUT", "/documents/a", TEXT, JSON | {"Content-Encoding": "br"}, 415, "gzip only"),
        ("PUT", "/documents/a?wait=long", TEXT, JSON, 400, "`searchable` only"),
        ("PUT", "/documents/a?wait=searchable&timeout=x", TEXT, JSON, 400, "a number of seconds"),
        ("PUT", "/documents/a?wait=searchable&timeout=nan", TEXT, JSON, 400, "a number of seconds"),
        ("POST", "/documents", TEXT, JSON, 415, "application/x-ndjson"),
        ("POST", "/documents?wait=searchable", TEXT, LINES, 400, "for single documents"),
        ("POST", "/documents/a", TEXT, JSON, 405, "takes DELETE, PUT"),
        ("PUT", "/documents/", TEXT, JSON, 404, "nothing here"),
        ("GET", "/", None, {}, 404, "/openapi.json"),
    ],
)
def test_what_is_no_document_is_told_and_not_published(
    method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, part: str
) -> None:
    async def scenario(server: Running) -> None:
        answer = await server.api.ask(method, path, body, headers)
        assert (answer.status, part in answer.body["detail"]) == (status, True), answer.body
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert server.broker.records == []
        assert (await server.api.put("a", {"text": "x"})).status == 200

    with_server(scenario)


def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    head = b"PUT /documents/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

    async def scenario(server: Running) -> None:
        answer = await server.raw(head + b"Content-Length: 5000\r\n\r\n")  # and not a byte of it
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        asked = await server.raw(head + b"Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n")
        assert asked.startswith(b"HTTP/1.1 413 "), asked
        assert server.broker.records == []
        assert server.held.taken == 0

    with_server(scenario, largest=4000)


def test_a_client_that_asks_beforehand_is_told_to_go_on() -> None:
    async def scenario(server: Running) -> None:
        answer = await server.api.ask("PUT", "/documents/a", TEXT, JSON, expect100=True)
        assert answer.status == 200

    with_server(scenario)


def test_a_body_without_a_length_is_bounded_as_it_comes() -> None:
    async def scenario(server: Running) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000

        async def short() -> AsyncIterator[bytes]:
            for number in range(len(TEXT)):
                yield TEXT[number : number + 1]

        assert (await server.api.ask("PUT", "/documents/a", short(), JSON)).status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = (
            b"PUT /documents/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        )
        writer.write(head + b"\r\n" + b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        for _ in range(4):
            writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.close()
        assert server.held.taken == 0

    with_server(scenario, largest=4000)


def test_packed_bodies_and_bombs() -> None:
    async def scenario(server: Running) -> None:
        packed = JSON | {"Content-Encoding": "gzip"}

        async def put(body: bytes) -> tuple[int, str]:
            answer = await server.api.ask("PUT", "/documents/a", body, packed)
            return answer.status, answer.body.get("detail", "")

        assert await put(gzip.compress(TEXT)) == (200, "")
        halves = gzip.compress(TEXT[:5]) + gzip.compress(TEXT[5:])
        assert (await put(halves), server.broker.records[-1][1]) == ((200, ""), TEXT)
        even = json.dumps({"text": "x" * (3 * 64 * 1024 - 12)}).encode()
        assert len(even) % (64 * 1024) == 0
        assert (await put(gzip.compress(even)), server.broker.records[-1][1]) == ((200, ""), even)
        assert await put(TEXT) == (400, "the body is not gzip, as its Content-Encoding says")
        assert await put(gzip.compress(TEXT)[:-9]) == (400, "the body ends in the midst of its gzip stream")
        bomb = gzip.compress(b'{"text": "' + b" " * 50 * 1024**2)
        assert (await put(bomb))[0] == 413
        assert server.held.taken == 0
        lines = gzip.compress(b'{"id": "a", "text": "A."}\n' + b" " * 50 * 1024**2 + b'\n{"id": "b", "text": "B."}')
        answer = await server.api.ask("POST", "/documents", lines, LINES | {"Content-Encoding": "gzip"})
        assert [row["status"] for row in answer.body] == [200, 413, 200]

    with_server(scenario)


def test_files_become_documents_one_after_the_other() -> None:
    async def scenario(server: Running) -> None:
        async def put(path: str, body: bytes, content_type: str) -> Any:
            return await server.api.ask("PUT", f"/documents/{path}", body, {"Content-Type": content_type})

        page = b"<html><head><title>Weirs</title></head><body><h1>Weirs</h1><p>Of rivers.</p></body></html>"
        answers = await asyncio.gather(
            put("pages/weirs", page, "text/html; charset=utf-8"),
            put("a/notes.md?url=http://x/n", b"# Locks\n\nText.\n\n## Gates\n\nMore.", "text/markdown"),
            put("plain?filename=of%20rivers.txt.gz", gzip.compress(b"Plain."), "application/octet-stream"),
            put("broken", b"%PDF-1.4 no", "application/pdf"),
        )
        assert [answer.status for answer in answers] == [200, 200, 200, 422], answers
        made = {key.decode(): json.loads(value or b"") for key, value in server.broker.records}
        assert made["pages/weirs"]["title"] == "Weirs"
        assert (made["a/notes.md"]["url"], made["plain"]["title"]) == ("http://x/n", "of rivers")
        assert [row.get("heading") for row in made["a/notes.md"]["sections"]] == ["Locks", "Locks › Gates"]
        assert "no valid .pdf" in answers[3].body["detail"]

    with_server(scenario)


def test_a_queue_of_files_is_bounded_and_so_is_one_file() -> None:
    async def scenario(server: Running) -> None:
        text = {"Content-Type": "text/plain"}
        assert (await server.api.ask("PUT", "/documents/a", b"x" * 2000, text)).status == 413
        held = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b"Some"
            await held.wait()

        first = asyncio.create_task(server.api.ask("PUT", "/documents/a", slowly(), text))
        await so(lambda: server.uploads._room.taken == 1)
        answer = await server.api.ask("PUT", "/documents/b", b"Text.", text)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        held.set()
        assert (await first).status == 200

    with_server(scenario, limits=Limits(uploads=1, upload=1000))


def test_a_client_that_is_slow_or_silent_does_not_stay() -> None:
    head = b"PUT /documents/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"

    async def scenario(server: Running) -> None:
        assert (await server.raw(head + b"{")).startswith(b"HTTP/1.1 408 ")
        assert await server.raw(b"PUT /documents/a HTTP/1.1\r\nHos") == b""
        assert await server.raw() == b""
        assert server.held.taken == 0

    with_server(scenario, limits=Limits(idle_s=0.2))


def test_what_is_no_http_is_a_problem_too() -> None:
    async def scenario(server: Running) -> None:
        answer = await server.raw(b"HELO there\r\n\r\n")
        assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
        assert b"application/problem+json" in answer

    with_server(scenario)


def test_too_many_at_once_are_told_to_come_back() -> None:
    async def scenario(server: Running) -> None:
        server.broker.acknowledges = False
        first = [asyncio.create_task(server.api.put(str(number), {"text": "x"})) for number in range(2)]
        await so(lambda: len(server.broker.waiting) == 2)
        answer = await server.api.put("c", {"text": "x"})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await server.api.ask("GET", "/livez")).status == 200
        server.broker.acknowledge()
        assert [(await one).status for one in first] == [200, 200]

    with_server(scenario, limits=Limits(requests=2))


def test_bytes_of_documents_are_bounded_all_together() -> None:
    async def scenario(server: Running) -> None:
        server.broker.acknowledges = False
        first = asyncio.create_task(server.api.put("a", {"text": "x" * 500}))
        await so(lambda: len(server.broker.waiting) == 1)
        answer = await server.api.put("b", {"text": "x" * 600})
        assert (answer.status, "(1000)" in answer.body["detail"]) == (503, True)
        server.broker.acknowledge()
        assert (await first).status == 200
        server.broker.acknowledges = True
        assert (await server.api.put("b", {"text": "x" * 600})).status == 200

    with_server(scenario, limits=Limits(held=1000))


@pytest.mark.parametrize(
    ("error", "part"),
    [(OutOfOrderSequenceNumber(), "did not take it"), (MessageSizeTooLargeError(), "smaller records than before")],
)
def test_what_is_not_acknowledged_is_no_success(error: Any, part: str) -> None:
    async def scenario(server: Running) -> None:
        server.broker.error = error
        answer = await server.api.put("a", {"text": "x"})
        assert (answer.status, part in answer.body["detail"], server.count("failed")) == (503, True, 1)
        assert server.log._broken.is_set()

    with_server(scenario)


def test_no_acknowledgement_in_time_is_told_as_what_it_is() -> None:
    async def scenario(server: Running) -> None:
        server.broker.acknowledges = False
        answer = await server.api.put("a", {"text": "x"})
        assert (answer.status, "may be published later" in answer.body["detail"]) == (503, True)
        server.broker.acknowledge()

    with_server(scenario, limits=Limits(publish_s=0.1))


def test_a_fault_of_ours_has_no_traceback_in_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: Running) -> None:
        async def fails(_: object) -> None:
            raise RuntimeError("a secret place")

        monkeypatch.setattr(server.log, "publish", fails)
        answer = await server.api.put("a", {"text": "x"})
        assert (answer.status, answer.body["detail"]) == (500, "the server failed")

    with_server(scenario)


def test_a_problem_says_when_to_come_back_in_whole_seconds() -> None:
    assert ProblemError(429, "x", retry_after_s=0.2).headers["Retry-After"] == "1"
    assert ProblemError(429, "x", retry_after_s=3.2).headers["Retry-After"] == "4"


def test_a_stop_waits_for_what_is_on_its_way_and_takes_nothing_new() -> None:
    """The rest of a body comes when the drain has begun; an idle connection is closed, and no new one is taken."""
    half = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield TEXT[:5]
        await half.wait()
        yield TEXT[5:]

    async def scenario(server: Running) -> None:
        assert (await server.api.put("before", {"text": "x"})).status == 200
        sending = asyncio.create_task(server.api.ask("PUT", "/documents/a", body(), JSON))
        await so(lambda: len(server.server._busy) == 1)
        server.stopping.set()
        draining = asyncio.create_task(server.server.drain(Deadline(60)))
        await asyncio.sleep(0)
        with pytest.raises(ClientConnectionError):
            await server.api.put("b", {"text": "x"})
        assert not draining.done()
        half.set()
        assert ((await sending).status, await draining) == (200, True)
        assert [key for key, _ in server.broker.records] == [b"before", b"a"]

    with_server(scenario)
