"""Documents over HTTP, by the real command: what is acknowledged is in the topic, and what is searchable is found."""

import asyncio
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import docx
import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from agents.sources.http.tokens import new_token
from tests.agents.sources.test_convert import pdf_of
from tests.kit.api import Api, asking
from tests.kit.forks import Forked
from tests.kit.harness import World, until
from tests.stack.test_sources import records

MODEL_SPEED = "fast"


@dataclass
class Serving:
    """A server process, and who asks it."""

    api: Api
    process: Forked
    log: Path

    async def ended(self) -> int:
        """Its exit code, when it has."""
        return await asyncio.to_thread(self.process.wait, 300)


@asynccontextmanager
async def serving(
    world: World, *arguments: str, token: str | None = None, change: str = "", **options: Any
) -> AsyncIterator[Serving]:
    """`penstock ingest serve` on any port, ready; killed in the end. `options`: of connections."""
    log = world.tmp / "serve.log"
    log.unlink(missing_ok=True)
    process = world.start("ingest", "serve", "--port", "0", *arguments, output=log, errors=log, change=change)
    try:
        found: list[str] = []

        async def listens() -> bool:
            assert process.poll() is None, log.read_text()
            found[:] = re.findall(r"taking documents at (\S+)/documents", log.read_text())
            return bool(found)

        await until(listens)
        async with asking(found[0], token, **options) as api:

            async def ready() -> bool:
                return (await api.ask("GET", "/readyz")).status == 200

            await until(ready)
            yield Serving(api, process, log)
    finally:
        process.kill()
        process.wait()


async def published(world: World) -> dict[str, list[bytes | None]]:
    """By id, what is in the topic, in order."""
    found: dict[str, list[bytes | None]] = {}
    for record in await records(world):
        found.setdefault((record.key or b"").decode(), []).append(record.value)
    return found


def test_what_is_put_is_found_and_what_is_deleted_is_not(world: World) -> None:
    """JSON, HTML, DOCX, PDF and NDJSON; a deletion; a record that a newer one took over; one that becomes a letter."""

    async def scenario() -> None:
        await world.create(2)
        async with serving(world) as server:
            api = server.api
            early = await api.put("early", {"text": "Before there is a worker."}, "?wait=searchable&timeout=0.1")
            assert (early.status, early.body["state"]) == (202, "published")
            world.start_worker()
            document = docx.Document()
            document.add_heading("Of weirs", 1)
            document.add_paragraph("A weir holds water up.")
            office = BytesIO()
            document.save(office)
            kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
            wait = "?wait=searchable&timeout=290"
            answers = await asyncio.gather(
                api.put("early", {"text": "Written again, with a worker."}, wait),
                api.put("a%2Fb%20c", {"text": "A lock lifts ships.", "title": "Locks"}, wait),
                api.ask("PUT", f"/documents/html{wait}", b"<h1>Sluices</h1><p>Gates.", {"Content-Type": "text/html"}),
                api.ask("PUT", f"/documents/office{wait}", office.getvalue(), {"Content-Type": kind}),
                api.ask("PUT", f"/documents/pdf{wait}&filename=x.pdf", pdf_of("First page.", "Second page.")),
                api.put("letter", {"chunks": [{"text": "words " * 2000}]}, wait),
                api.ask("DELETE", f"/documents/nothing{wait}"),
            )
            assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 422, 200], answers
            assert [answer.body["state"] for answer in answers] == [*["searchable"] * 5, "rejected", "deleted"]
            assert answers[5].body["offset"] >= 0
            found = await visible(world)
            assert found.keys() == {"early", "a/b c", "html", "office", "pdf"}
            assert found["pdf"] == {(1, 2)}  # one chunk, of both pages
            again = await api.put("a%2Fb%20c", {"text": "A lock lifts ships.", "title": "Locks"}, wait)  # unchanged
            assert again.body["state"] == "searchable"
            gone = await api.ask("DELETE", f"/documents/pdf{wait}")
            assert (gone.body["state"], "pdf" in await visible(world)) == ("deleted", False)
            lines = b"".join(b'{"id": "l-%d", "text": "Line %d."}\n' % (n, n) for n in range(50)) + b"{\n"
            answer = await api.ask("POST", "/documents", lines, {"Content-Type": "application/x-ndjson"})
            assert [row["status"] for row in answer.body] == [200] * 50 + [422]
            last = await api.put("l-0", {"text": "The last one."}, wait)
            assert last.body["state"] == "searchable"
            await world.settled()
            text = (await api.ask("GET", "/metrics")).body
            assert 'penstock_source_objects_total{outcome="published",source="http"} 59.0' in text

    asyncio.run(scenario())


async def visible(world: World) -> dict[str, set[tuple[int | None, int | None]]]:
    """Documents that a search finds now, without a refresh, and the first and last pages of their chunks."""
    async with connect(world.settings.elasticsearch) as client:
        query = {"bool": {"must_not": {"term": {"penstock.stub": True}}}}
        rows = (await client.search(index=world.name, size=1000, query=query))["hits"]["hits"]
    found: dict[str, set[tuple[int | None, int | None]]] = {}
    for row in rows:
        metadata = row["_source"]["metadata"]
        found.setdefault(metadata["doc_id"], set()).add((metadata.get("page"), metadata.get("page_end")))
    return found


def test_above_the_lag_nothing_is_taken_and_then_it_goes_on(world: World) -> None:
    """Nobody works: a stream stands still, single documents are told to come back. Then a worker comes."""

    async def scenario() -> None:
        await world.create(2)
        async with serving(world, "--max-lag", "40") as server, server.api.stream() as stream, world.lags() as lag:
            stream.send(*({"id": f"d-{number}", "text": f"Text {number}."} for number in range(150)))
            stream.end()
            await stream.until(40)
            answer = await server.api.put("more", {"text": "x"})
            assert (answer.status, int(answer.headers["Retry-After"]) >= 1) == (429, True)
            assert await lag() == 40
            assert len(stream.results) == 40
            world.start_worker()

            async def over() -> bool:
                assert await lag() <= 44
                return stream.over.is_set()

            await until(over)
            assert [row["status"] for row in stream.results] == [200] * 150

        async def found() -> bool:
            return len(await visible(world)) == 150

        await until(found)

    asyncio.run(scenario())


def test_kill_9_in_the_midst_loses_nothing_that_was_acknowledged(world: World) -> None:
    async def scenario() -> None:
        await world.create(4)
        async with serving(world, "--max-lag", "10000") as server, server.api.stream() as stream:
            acknowledged: list[str] = []

            async def put(number: int) -> None:
                for again in range(1000):
                    doc = f"one-{number}-{again}"
                    acknowledged.append((await server.api.put(doc, {"text": "x"})).body["id"])

            putting = [asyncio.create_task(put(number)) for number in range(4)]
            stream.send(*({"id": f"line-{number}", "text": f"Text {number}."} for number in range(20_000)))
            await stream.until(500)
            server.process.kill()
            await stream.over.wait()
            await asyncio.gather(*putting, return_exceptions=True)
            assert 500 <= len(stream.results) < 20_000
            known = await published(world)
            assert all(row["status"] == 200 for row in stream.results)
            assert {row["id"] for row in stream.results} | set(acknowledged) <= known.keys()

    asyncio.run(scenario())


def test_sigterm_answers_what_was_begun_and_ends_with_0(world: World) -> None:
    async def scenario() -> None:
        await world.create(2)
        async with serving(world) as server, server.api.stream() as stream:
            stream.send(*({"id": f"d-{number}", "text": f"Text {number}."} for number in range(30)))
            await stream.until(30)
            waiting = asyncio.create_task(server.api.put("w", {"text": "x"}, "?wait=searchable&timeout=290"))

            async def there() -> bool:
                return "w" in await published(world)

            await until(there)
            server.process.send_signal(signal.SIGTERM)
            answer = await waiting
            assert (answer.status, answer.body["state"]) == (202, "published")
            await stream.over.wait()
            assert [row["status"] for row in stream.results] == [200] * 30 + [503]
            assert await server.ended() == 0, server.log.read_text()
            assert "Traceback" not in server.log.read_text()
            assert len(await published(world)) == 31

    asyncio.run(scenario())


def test_a_second_sigterm_ends_it_at_once(world: World) -> None:
    async def scenario() -> None:
        await world.create(2)
        async with serving(world) as server:
            held = asyncio.Event()

            async def slowly() -> AsyncIterator[bytes]:
                yield b"{"
                await held.wait()

            kind = {"Content-Type": "application/json"}
            asking = asyncio.create_task(server.api.ask("PUT", "/documents/a", slowly(), kind))

            async def begun() -> bool:
                return "penstock_http_requests_in_flight 2.0" in (await server.api.ask("GET", "/metrics")).body

            await until(begun)
            server.process.send_signal(signal.SIGTERM)

            async def draining() -> bool:
                return "draining" in server.log.read_text()

            await until(draining)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert await server.ended() == 143
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(scenario())


def test_tls_and_tokens_that_change_while_it_runs(world: World, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    (old, old_digest), (new, new_digest) = new_token(), new_token()
    tokens = tmp_path / "tokens.toml"

    def entry(digest: str) -> str:
        return f'[[token]]\nname = "crm"\nsha256 = {json.dumps(digest)}\nprefixes = ["crm/"]\n'

    async def scenario() -> None:
        await world.create(1)
        tokens.write_text(entry(old_digest))
        arguments = ("--tokens", str(tokens), "--tls-cert", str(tmp_path / "server.pem"))
        async with serving(world, *arguments, token=old, ssl=trusted) as server:
            api = server.api
            assert (await api.put("crm/1", {"text": "x"})).status == 200
            assert (await api.put("hr/1", {"text": "x"})).status == 403
            before = await certificate(api)
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
            tokens.write_text(entry(new_digest))
            server.process.send_signal(signal.SIGHUP)

            async def refused() -> bool:
                return (await api.put("crm/2", {"text": "x"})).status == 401

            await until(refused)
            api.token = new
            assert (await api.put("crm/3", {"text": "x"})).status == 200
            assert await certificate(api) != before
            assert new not in server.log.read_text()

    async def certificate(api: Api) -> bytes:
        """Of a connection that begins now."""
        port = int(api.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return found

    asyncio.run(scenario())


def test_the_topic_is_made_and_what_becomes_of_it_is_noticed(world: World) -> None:
    """Its limit, beforehand; a lower one, by the refusal that ends the producer; and partitions that were added."""

    async def scenario() -> None:
        async with serving(world, "--partitions", "2") as server, log_reader(world.settings) as reader:
            api = server.api

            async def put(size: int) -> int:
                return (await api.put("a", {"text": "x" * size})).status

            assert await reader.require_partitions(world.name) == 2
            assert (await put(1_500_000), await put(900_000)) == (413, 200)
            admin = AIOKafkaAdminClient(bootstrap_servers=world.settings.kafka.bootstrap_servers)
            await admin.start()
            lower = ConfigResource(ConfigResourceType.TOPIC, world.name, {"max.message.bytes": "10000"})
            await admin.alter_configs([lower])
            await admin.close()
            assert await put(50_000) == 503

            async def known() -> bool:
                return await put(50_000) == 413

            async def goes_on() -> bool:
                return await put(5_000) == 200

            await until(known)
            await until(goes_on)  # with a producer that is whole, and another one may just be made
            await reader.grow_topic(world.name, 8)

            async def spread() -> bool:
                answers = [await api.put(f"d-{number}", {"text": "x"}) for number in range(20)]
                return any(
                    answer.body.get("partition", 0) > 1 for answer in answers
                )  # one may come between two producers

            await until(spread)
            assert [len(value or b"") for value in (await published(world))["a"]] == [900_011, 5_011]

    asyncio.run(scenario())
