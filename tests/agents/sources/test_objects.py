"""`penstock ingest s3`, against a real server of its protocol."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiobotocore.session import get_session

from agents.sources import Failure, Listed, Outgoing, PassedOver, objects
from agents.sources.objects import Objects, object_sources
from agents.sources.reading import Ids
from streams.errors import AwayError, ConfigError, PenstockError
from tests.kit.moto import LOGIN, moto

ODD = ["a//b.txt", "x/../c.txt", "x/./d.txt", "with space.txt", "tab\there.txt", "ümläut.txt", "+plus&=%20.txt"]
ODD += ["/lead.txt"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server for all tests here."""
    with moto() as url:
        yield url


@pytest.fixture(autouse=True)
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)


@asynccontextmanager
async def client(endpoint: str) -> AsyncIterator[Any]:
    """What others put objects with."""
    async with get_session().create_client("s3", endpoint_url=endpoint, region_name="us-east-1") as made:
        yield made


async def put(endpoint: str, bucket: str, bodies: dict[str, bytes]) -> None:
    """Into a bucket that is made."""
    async with client(endpoint) as s3:
        await s3.create_bucket(Bucket=bucket)
        for key, body in bodies.items():
            await s3.put_object(Bucket=bucket, Key=key, Body=body)


async def read(source: Objects) -> tuple[list[Listed | Failure | PassedOver], list[Outgoing | Failure]]:
    """All of it."""
    try:
        rows = [row async for row in source.listing()]
        return rows, [found for row in rows if isinstance(row, Listed) async for found in source.fetch(row)]
    finally:
        await source.close()


def of(endpoint: str, uri: str, ids: Ids = Ids()) -> Objects:  # noqa: B008 - frozen
    (source,) = object_sources([uri, uri], ids, endpoint=endpoint, region=None)
    return source


def test_every_key_is_taken_as_it_is(endpoint: str) -> None:
    async def scenario() -> None:
        await put(endpoint, "odd", {key: f"Text of {key}".encode() for key in ODD})
        rows, documents = await read(of(endpoint, "s3://odd"))
        assert {row.id for row in rows if isinstance(row, Listed)} == {f"s3://odd/{key}" for key in ODD}
        found = {row.key.decode(): orjson.loads(row.value or b"") for row in documents if isinstance(row, Outgoing)}
        texts = {doc: body["text"] for doc, body in found.items()}
        assert texts == {f"s3://odd/{key}": f"Text of {key}" for key in ODD}
        assert all(body["url"] == doc for doc, body in found.items())

    asyncio.run(scenario())


def test_what_is_below_a_prefix_by_kind(endpoint: str) -> None:
    async def scenario() -> None:
        lines = gzip.compress(b'{"id": "one", "text": "One."}\n{\n')
        await put(
            endpoint,
            "kinds",
            {
                "docs/": b"",
                "docs/a.md": b"# Title\n\ntext",
                "docs/b.csv.gz": gzip.compress(b"name,metres\nNorth,3\n"),
                "docs/lines.jsonl.gz": lines,
                "docs/picture.png": b"\x89PNG",
                "docs/broken.pdf": b"%PDF",
                "other/c.txt": b"not asked for",
            },
        )
        rows, documents = await read(of(endpoint, "s3://kinds/docs/", Ids(by="relative", prefix="k:")))
        assert [row for row in rows if isinstance(row, PassedOver)] == [PassedOver(kind=".png")]
        assert [row.key for row in documents if isinstance(row, Outgoing)] == [b"k:a.md", b"k:b.csv.gz", b"k:one"]
        assert [row.origin for row in documents if isinstance(row, Failure)] == [
            "s3://kinds/docs/broken.pdf",
            "s3://kinds/docs/lines.jsonl.gz:2",
        ]

    asyncio.run(scenario())


def test_the_tag_is_another_one_when_the_bytes_are(endpoint: str) -> None:
    async def scenario() -> None:
        await put(endpoint, "tags", {"a.txt": b"one"})
        first, _ = await read(of(endpoint, "s3://tags/"))
        await put_again(b"one")
        again, _ = await read(of(endpoint, "s3://tags/"))
        await put_again(b"two")
        other, _ = await read(of(endpoint, "s3://tags/"))
        assert first == again != other

    async def put_again(body: bytes) -> None:
        async with client(endpoint) as s3:
            await s3.put_object(Bucket="tags", Key="a.txt", Body=body)

    asyncio.run(scenario())


def test_an_object_that_is_gone_since_it_was_listed_is_a_failure(endpoint: str) -> None:
    async def scenario() -> None:
        await put(endpoint, "gone", {"a.txt": b"one"})
        source = of(endpoint, "s3://gone")
        found = [row async for row in source.fetch(Listed(id="s3://gone/b.txt", tag="", size=1))]
        assert found == [
            Failure(origin="s3://gone/b.txt", reason="s3://gone/b.txt: there is no such bucket, or object (NoSuchKey)")
        ]
        await source.close()

    asyncio.run(scenario())


def test_mistakes_are_named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("handbook/docs", "s3://", "gs://a/b"):
        with pytest.raises(ConfigError, match="s3://BUCKET"):
            of(endpoint, uri)
    with pytest.raises(PenstockError, match=r"s3://none/: there is no such bucket"):
        asyncio.run(read(of(endpoint, "s3://none")))
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    with pytest.raises(AwayError, match="cannot be reached"):
        asyncio.run(read(of("http://127.0.0.1:1", "s3://none")))
    for name in LOGIN:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(ConfigError, match="set AWS_ACCESS_KEY_ID"):
        asyncio.run(read(of(endpoint, "s3://none")))
