"""Schemas by id: asked for once, waited for while the registry is away, and those that are not there are told."""

import asyncio
import json
import math

import pytest
from pydantic import AnyHttpUrl, SecretStr

from agents.metrics import Metrics
from agents.schemas.form import MAKES
from agents.schemas.registry import SchemaRegistry
from agents.settings.sections import SchemaRegistrySettings
from streams.errors import AwayError, PenstockError
from streams.values import Reader
from tests.kit.harness import until
from tests.kit.registry import Registry, registry
from tests.streams.test_values import PAGE, PERSON, SCHEMA, encoded

STRING = {"schema": '"string"'}


def client(
    there: Registry, readers: dict[int, Reader | str], patience_s: float = math.inf, **login: str
) -> SchemaRegistry:
    password = {"password": SecretStr(login["password"])} if "password" in login else {}
    settings = SchemaRegistrySettings(url=AnyHttpUrl(there.url), username=login.get("username"), **password)
    return SchemaRegistry(settings, "AVRO", MAKES["avro"], readers, Metrics(), patience_s)


async def _same(value: bool) -> bool:
    return value


def test_each_is_asked_for_once_with_what_it_refers_to() -> None:
    async def scenario() -> None:
        async with registry() as there:
            readers: dict[int, Reader | str] = {}
            reference = {"name": "org.Person", "subject": "org/person.avsc", "version": 2}
            there.schemas = {7: {"schema": json.dumps(SCHEMA), "references": [reference]}, 8: STRING}
            there.subjects["org/person.avsc", "2"] = {"schema": json.dumps(PERSON)}
            schemas = client(there, readers)
            await asyncio.gather(schemas.know([7]), schemas.know([7, 8]))
            await schemas.know([8, 7])
            assert len(there.asked) == 3, there.asked
            read = readers[7]
            assert callable(read)
            assert read(encoded(PAGE))["author"] == {"name": "A. Keeper"}

    asyncio.run(scenario())


def test_it_is_waited_for_and_what_it_does_not_know_is_said() -> None:
    async def scenario() -> None:
        async with registry() as there:
            readers: dict[int, Reader | str] = {}
            there.schemas = {2: {"schema": "{}", "schemaType": "PROTOBUF"}, 3: {"schema": "{"}}
            schemas, there.down = client(there, readers), True
            asked = asyncio.create_task(schemas.know([1]))
            await until(lambda: _same(schemas.waits))
            assert not asked.done()
            there.down = False
            await asked
            assert not await _same(schemas.waits)
            assert "schema 1 of the registry" in str(readers[1])
            assert "unknown there" in str(readers[1])
            await schemas.know([2, 3])
            assert "it is PROTOBUF, and source.format says avro" in str(readers[2])
            assert "no Avro schema" in str(readers[3])
            there.schemas[4] = {"schema": json.dumps(SCHEMA), "references": [{"subject": "a/b", "version": 1}]}
            await schemas.know([4])
            assert "it refers to version 1 of a/b, and that: it is unknown there" in str(readers[4])
            there.page = "<html>"
            asked = asyncio.create_task(schemas.know([5]))
            await until(lambda: _same(schemas.waits))
            there.page = ""
            await asked
            there.schemas[1] = STRING
            await schemas.know([1])
            assert callable(readers[1]), "it may have been registered since"

    asyncio.run(scenario())


def test_whoever_cannot_wait_hears_what_it_answers() -> None:
    async def scenario() -> None:
        async with registry() as there:
            there.down = True
            with pytest.raises(AwayError) as told:
                await client(there, {}, patience_s=0.2).know([1])
            assert f"the schema registry at {there.url} does not answer for schema 1 (status 503)" in str(told.value)

    asyncio.run(scenario())


def test_a_login_and_what_is_no_registry() -> None:
    async def scenario() -> None:
        async with registry() as there:
            readers: dict[int, Reader | str] = {}
            there.login, there.schemas = ("u", "p"), {1: STRING}
            with pytest.raises(PenstockError, match=r"refuses the login \(401\)"):
                await client(there, readers).know([1])
            await client(there, readers, username="u", password="p").know([1])
            assert callable(readers[1])

        async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(hello, "127.0.0.1", there.port):
            with pytest.raises(PenstockError, match="is no schema registry"):
                await client(there, {}).know([1])

    asyncio.run(scenario())
