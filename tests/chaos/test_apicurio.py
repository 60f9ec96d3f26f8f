"""Records as Confluent's own clients write them, with schemas in a registry that is not Confluent's: Apicurio."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.apicurio import Apicurio, apicurio
from tests.kit.harness import World
from tests.streams.test_values import framed

MODEL_SPEED = "fast"
PERSON = 'syntax = "proto3";\npackage org;\nmessage Person { string name = 1; }\n'
PAGE = """syntax = "proto3";
package org;
import "org/text/person.proto";
message Other {}
message Page { string title = 1; Person author = 2; }
"""


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """One for all of them."""
    with apicurio(tmp_path_factory.mktemp("apicurio")) as found:
        yield found


def rows(version: int, count: int = 5) -> list[dict[str, Any]]:
    return [{"version": version, "title": f"Lock {version}-{n}", "author": {"name": "Åse"}} for n in range(count)]


def texts(version: int, count: int = 5) -> set[str]:
    return {f"{row['title']} by Åse" for row in rows(version, count)}


async def indexed(world: World) -> set[str]:
    return {row["text"] for row in (await world.chunks()).values() if not row["penstock"]["stub"]}


@pytest.mark.parametrize("form", ["avro", "protobuf", "json_schema"])
def test_what_confluents_serializers_write_is_indexed_and_a_registry_that_is_down_is_waited_for(
    world: World, schemas: Apicurio, form: str
) -> None:
    first, then = schemas.serialized(form, world.name, rows(1)), schemas.serialized(form, world.name, rows(2))

    async def scenario() -> None:
        world.map_by(registry=schemas.url, form=form, text="{title} by {author.name}")
        await world.create(partitions=1)
        await world.produce((f"a{n}".encode(), value) for n, value in enumerate(first))
        await world.produce([(b"unknown", framed(10**6, first[0][5:]))])
        worker = world.start_worker({"PENSTOCK_LIFECYCLE__STALL_S": "5"})
        await world.settled(worker=worker)
        letters = {letter.key for letter in await world.dead_letters()}
        if form == "json_schema":  # what it says is in the record itself: nobody is asked
            assert letters == set()
            assert await indexed(world) == texts(1)
            assert worker.terminate() == 0
            return
        assert letters == {b"unknown"}
        assert await indexed(world) == texts(1)
        schemas.stop()
        await world.produce((f"b{n}".encode(), value) for n, value in enumerate(then))
        await worker.said("the schema registry does not answer")
        await asyncio.sleep(8)  # it is waited for, longer than a worker may stand still
        assert len(await world.dead_letters()) == 1
        assert await indexed(world) == texts(1)
        await asyncio.to_thread(schemas.start)
        await world.settled(worker=worker)
        assert len(await world.dead_letters()) == 1
        assert await indexed(world) == texts(1) | texts(2)
        assert worker.terminate() == 0

    try:
        asyncio.run(scenario())
    finally:
        schemas.stop()
        schemas.start()


def test_a_proto_file_is_read_as_its_text_is_registered(world: World, schemas: Apicurio) -> None:
    """As clients for Java register it; asked for a descriptor of it, Apicurio answers with one that nobody can use."""
    values = schemas.serialized("protobuf", world.name, rows(1))
    subject = f"{world.name}-person"
    schemas.register(subject, schema=PERSON, schemaType="PROTOBUF")
    person = {"name": "org/text/person.proto", "subject": subject, "version": 1}
    number = schemas.register(f"{world.name}-page", schema=PAGE, schemaType="PROTOBUF", references=[person])

    async def scenario() -> None:
        world.map_by(registry=schemas.url, form="protobuf", text="{title} by {author.name}")
        await world.create(partitions=1)
        await world.produce((f"a{n}".encode(), framed(number, value[5:])) for n, value in enumerate(values))
        worker = world.start_worker()
        await world.settled(worker=worker)
        assert await world.dead_letters() == []
        assert await indexed(world) == texts(1)
        assert worker.terminate() == 0

    asyncio.run(scenario())


def test_the_id_of_a_record_is_that_of_the_content(schemas: Apicurio) -> None:
    """Of the two that Apicurio has: a schema under two subjects has one of these, and two of the global ones."""
    ids = [int.from_bytes(schemas.serialized("avro", topic, rows(1, 1))[0][1:5]) for topic in ("ids-a", "ids-b")]
    told = [
        schemas.ask(f"/apis/registry/v3/groups/default/artifacts/{topic}-value/versions/1")
        for topic in ("ids-a", "ids-b")
    ]
    assert ids == [one["contentId"] for one in told]
    assert ids[0] == ids[1]
    assert told[0]["globalId"] != told[1]["globalId"]
