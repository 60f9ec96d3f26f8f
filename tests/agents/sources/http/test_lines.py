"""NDJSON: a result for each line, in order; bad lines harm no others; back-pressure, and the stop. No Kafka."""

import asyncio
import json
from pathlib import Path

from agents.clock import Deadline
from agents.sources.http import Limits
from agents.sources.http.tokens import Tokens, new_token
from tests.agents.sources.http.running import Running, running, so
from tests.agents.sources.http.test_documents import with_server
from tests.kit.api import LINES


def line(number: int) -> dict[str, str]:
    return {"id": f"d-{number}", "text": f"Text {number}."}


def test_bad_lines_have_their_reasons_and_harm_no_others() -> None:
    async def scenario(server: Running) -> None:
        body = b"\n".join(
            [
                json.dumps(line(1)).encode(),
                b"{",
                b"",
                b'{"text": "No id."}',
                b'{"id": "bad", "text": "x", "titel": "y"}',
                b'{"id": "long", "text": "' + b"x" * 5000 + b'"}',
                b'{"id": "\xff", "text": "x"}',
                b'{"id": "gone", "text": ""}\r',
                json.dumps(line(2)).encode(),  # and no line feed at its end
            ]
        )
        answer = await server.api.ask("POST", "/documents", body, LINES)
        assert answer.status == 200
        found = [(row["line"], row["status"], row.get("id"), row.get("offset")) for row in answer.body]
        assert found == [
            (1, 200, "d-1", 0),
            (2, 422, None, None),
            (4, 422, None, None),
            (5, 422, None, None),
            (6, 413, None, None),
            (7, 422, None, None),
            (8, 200, "gone", 1),
            (9, 200, "d-2", 2),
        ]
        assert "did you mean `title`?" in answer.body[3]["detail"]
        assert [key for key, _ in server.broker.records] == [b"d-1", b"gone", b"d-2"]
        assert (server.count("published"), server.count("invalid"), server.count("refused")) == (3, 4, 1)
        assert server.held.taken == 0

    with_server(scenario, largest=4000)


def test_whoever_asks_before_sending_is_told_to_before_the_answer_begins() -> None:
    """As curl does with a file: what came in the midst of the results would be no result."""

    async def scenario(server: Running) -> None:
        body = json.dumps(line(1)).encode() + b"\n"
        head = "POST /documents HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: application/x-ndjson\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        told = await server.raw(head.encode() + body)
        assert told.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert told.count(b"100 Continue") == 1
        assert b'"line":1,"id":"d-1","status":200' in told

    with_server(scenario)


def test_ids_of_others_are_refused_line_by_line(tmp_path: Path) -> None:
    token, digest = new_token()
    file = tmp_path / "tokens.toml"
    file.write_text(f'[[token]]\nname = "crm"\nsha256 = "{digest}"\nprefixes = ["crm/"]\n')

    async def scenario(server: Running) -> None:
        body = b'{"id": "crm/1", "text": "x"}\n{"id": "hr/1", "text": "x"}\n'
        answer = await server.api.ask("POST", "/documents", body, LINES)
        assert [(row["status"], row["id"]) for row in answer.body] == [(200, "crm/1"), (403, "hr/1")]
        assert (server.count("published", "http/crm"), server.count("refused", "http/crm")) == (1, 1)

    with_server(scenario, tokens=Tokens(file), token=token)


def test_results_come_while_more_is_sent() -> None:
    async def scenario(server: Running) -> None:
        async with server.api.stream() as stream:
            for number in range(1, 4):
                stream.send(line(number))
                await stream.until(number)
            stream.end()
            await stream.over.wait()
            assert [row["offset"] for row in stream.results] == [0, 1, 2]

    with_server(scenario)


def test_where_workers_are_behind_the_sender_is_held_up_and_nothing_is_lost() -> None:
    async def scenario(server: Running) -> None:
        async with server.api.stream() as stream:
            stream.send(*map(line, range(200)))
            stream.end()
            while not stream.over.is_set():
                await so(lambda: len(server.broker.records) - server.broker.settled == 20 or stream.over.is_set())
                if len(server.broker.records) - server.broker.settled == 20:
                    assert (await server.api.put("x", {"text": "x"})).status == 429
                server.broker.settled = len(server.broker.records)
                await server.log.admission.look()
            assert [row["status"] for row in stream.results] == [200] * 200
            assert [row["id"] for row in stream.results] == [f"d-{number}" for number in range(200)]
        assert server.broker.most <= 20

    with_server(scenario, max_lag=20)


def test_a_line_that_waits_too_long_is_told_when_to_come_back() -> None:
    async def scenario(server: Running) -> None:
        body = b"".join(json.dumps(line(number)).encode() + b"\n" for number in range(7))
        answer = await server.api.ask("POST", "/documents", body, LINES)
        assert [row["status"] for row in answer.body] == [200] * 5 + [429] * 2
        assert answer.body[-1]["retry_after"] >= 1
        assert server.held.taken == 0

    with_server(scenario, max_lag=5, limits=Limits(publish_s=0.1))


def test_a_stop_ends_a_stream_after_what_was_read() -> None:
    async def scenario(server: Running) -> None:
        server.broker.acknowledges = False
        async with server.api.stream() as stream:
            stream.send(*map(line, range(3)))
            await so(lambda: len(server.broker.waiting) == 3)
            server.stopping.set()
            draining = asyncio.create_task(server.server.drain(Deadline(60)))
            await asyncio.sleep(0)
            assert not draining.done()
            server.broker.acknowledge()
            await stream.over.wait()
            assert await draining
            assert [row["status"] for row in stream.results] == [200, 200, 200, 503]
            assert "from here on nothing was read" in stream.results[-1]["detail"]

    with_server(scenario)


def test_a_client_that_goes_leaves_nothing_held() -> None:
    async def scenario() -> None:
        async with running() as server:
            server.broker.acknowledges = False
            async with server.api.stream() as stream:
                stream.send(*map(line, range(3)))
                await so(lambda: len(server.broker.waiting) == 3)
                assert server.held.taken > 0
            await so(lambda: server.held.taken == 0)
            server.broker.acknowledge()
            assert len(server.broker.records) == 3

    asyncio.run(scenario())


def test_a_client_that_reads_only_in_the_end_may_send_thousands_of_lines() -> None:
    async def scenario(server: Running) -> None:
        body = b"".join(json.dumps(line(number)).encode() + b"\n" for number in range(8_000))
        head = b"POST /documents HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n"
        answer = await server.raw(head + b"Content-Length: %d\r\n\r\n" % len(body), body)
        assert answer.count(b'"status":200') == 8_000

    with_server(scenario, max_lag=100_000)


def test_a_client_that_never_reads_does_not_stay() -> None:
    async def scenario(server: Running) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        head = b"POST /documents HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        body = json.dumps(line(1) | {"id": "d" * 8000}).encode() + b"\n"  # each result has it, too
        writer.write(head + b"Content-Length: %d\r\n\r\n" % (len(body) * 10**9))
        try:
            while True:
                writer.write(body * 10)
                await writer.drain()
        except ConnectionError:
            pass
        await so(lambda: server.held.taken == 0)
        writer.close()

    with_server(scenario, max_lag=10**9, limits=Limits(answers=1000, idle_s=0.3))
