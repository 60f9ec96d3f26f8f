"""`penstock ingest s3`, against a real server of its protocol."""

import asyncio
import gc
import gzip
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import psutil
import pytest
from aiobotocore.session import get_session

from agents.sources import Failure, Listed, Outgoing, PassedOver, s3
from agents.sources.objects import Found, Objects
from agents.sources.patterns import Patterns, patterns
from agents.sources.reading import Ids
from agents.sources.s3 import Bucket, bucket_sources
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
    async with client(endpoint) as amazon:
        await amazon.create_bucket(Bucket=bucket)
        for key, body in bodies.items():
            await amazon.put_object(Bucket=bucket, Key=key, Body=body)


async def read(source: Objects) -> tuple[list[Listed | Failure | PassedOver], list[Outgoing | Failure | Listed]]:
    """All of it."""
    try:
        rows = [row async for row in source.listing()]
        return rows, [found for row in rows if isinstance(row, Listed) async for found in source.fetch(row)]
    finally:
        await source.close()


def of(endpoint: str, uri: str, ids: Ids = Ids(), which: Patterns = Patterns()) -> Objects:  # noqa: B008 - frozen
    (source,) = bucket_sources([uri, uri], ids, which, endpoint=endpoint, region=None)
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
                "docs/page.html": gzip.compress(b"<p>As web servers want it, with Content-Encoding."),
                "docs/picture.png": b"\x89PNG",
                "docs/broken.pdf": b"%PDF",
                "other/c.txt": b"not asked for",
            },
        )
        rows, documents = await read(of(endpoint, "s3://kinds/docs/", Ids(by="relative", prefix="k:")))
        assert [row for row in rows if isinstance(row, PassedOver)] == [PassedOver(kind=".png")]
        assert [row.key for row in documents if isinstance(row, Outgoing)] == [
            b"k:a.md",
            b"k:b.csv.gz",
            b"k:one",
            b"k:page.html",
        ]
        body = next(row.value for row in documents if isinstance(row, Outgoing) and row.key == b"k:page.html")
        assert orjson.loads(body or b"")["text"] == "As web servers want it, with Content-Encoding."
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
        async with client(endpoint) as amazon:
            await amazon.put_object(Bucket="tags", Key="a.txt", Body=body)

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


def test_what_was_read_is_what_is_remembered(endpoint: str) -> None:
    """The object was replaced since it was listed; its bucket keeps versions."""

    async def scenario() -> None:
        async with client(endpoint) as amazon:
            await amazon.create_bucket(Bucket="versions")
            kept = {"Status": "Enabled"}
            await amazon.put_bucket_versioning(Bucket="versions", VersioningConfiguration=kept)
            first = await amazon.put_object(Bucket="versions", Key="a.txt", Body=b"one")
            source = of(endpoint, "s3://versions")
            (listed,) = [row async for row in source.listing()]
            second = await amazon.put_object(Bucket="versions", Key="a.txt", Body=b"another")
            assert isinstance(listed, Listed)
            assert (listed.tag, listed.version) == (first["ETag"].strip('"'), None)
            read, document = [found async for found in source.fetch(listed)]
            assert (
                read
                == Listed(id=listed.id, tag=second["ETag"].strip('"'), size=7, version=second["VersionId"])
                == await source.look(listed.id)
            )
            assert isinstance(document, Outgoing)
            assert orjson.loads(document.value or b"")["text"] == "another"
            await amazon.delete_object(Bucket="versions", Key="a.txt")
            assert await source.look(listed.id) is None
            await source.close()

    asyncio.run(scenario())


def test_that_an_object_is_gone_is_not_believed_of_a_bucket_that_is(endpoint: str) -> None:
    async def scenario() -> None:
        await put(endpoint, "looked", {"a.txt": b"one", "a.png": b"", "drafts/b.txt": b"two"})
        source = of(endpoint, "s3://looked", which=patterns((), ["drafts/"]))
        assert await source.look("s3://looked/a") is None
        assert await source.look("s3://looked/a.png") == PassedOver(kind=".png")
        assert await source.look("s3://looked/drafts/b.txt") == PassedOver(kind="excluded")
        await source.close()
        for bucket in ("s3://nowhere", "s3://nowhere/docs/"):
            source = of(endpoint, bucket)
            with pytest.raises(PenstockError, match="there is no such bucket"):
                await source.look("s3://nowhere/docs/a.txt")
            await source.close()

    asyncio.run(scenario())


@asynccontextmanager
async def breaks_off(endpoint: str, after: int) -> AsyncIterator[tuple[str, list[int]]]:
    """A way to the server on which every connection ends after so many bytes of answers; how much came on each."""
    host, port = endpoint.removeprefix("http://").split(":")
    passed = list[int]()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        number = len(passed)
        passed.append(0)

        async def ask() -> None:
            while data := await reader.read(2**16):
                back.write(data)
            back.close()

        asking = asyncio.create_task(ask())
        with suppress(ConnectionError):
            while passed[number] < after and (data := await there.read(min(2**16, after - passed[number]))):
                passed[number] += len(data)
                writer.write(data)
                await writer.drain()
        asking.cancel()
        for one in (back, writer):
            one.close()
            with suppress(ConnectionError):
                await one.wait_closed()

    handlers = list[asyncio.Task[None]]()
    server = await asyncio.start_server(
        lambda reader, writer: handlers.append(asyncio.create_task(forward(reader, writer))), "127.0.0.1", 0
    )
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", passed
    await asyncio.gather(*handlers)


def test_a_copy_that_breaks_off_goes_on_where_it_was(endpoint: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        body = b"".join(b"%07d\n" % number for number in range(400_000))
        await put(endpoint, "large", {"a.txt": body})
        async with breaks_off(endpoint, 900_000) as (url, passed):
            store = Bucket("large", endpoint=url, region=None)
            found = await store.read("a.txt", tmp_path / "copy", len(body))
            assert (found.size, len(passed)) == (len(body), 4)
            assert (tmp_path / "copy").read_bytes() == body
            with pytest.raises(PenstockError, match="3200000 bytes are more than 3199999: divide it"):
                await store.read("a.txt", tmp_path / "copy", len(body) - 1)
            await store.close()
        async with breaks_off(endpoint, 400_000) as (url, _):
            store = Bucket("large", endpoint=url, region=None)
            with pytest.raises(AwayError, match=r"s3://large/a\.txt"):
                await store.read("a.txt", tmp_path / "copy", len(body))
            await store.close()

    asyncio.run(scenario())


def test_an_object_that_is_replaced_while_it_is_copied_is_of_one_version(endpoint: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        old, new = (letter * 1_500_000 for letter in (b"a", b"b"))
        await put(endpoint, "moving", {"a.txt": old})
        async with breaks_off(endpoint, 900_000) as (url, _):
            store = Bucket("moving", endpoint=url, region=None)
            rest = store._rest

            async def replaced(found: Found, begin: int) -> Any:
                async with client(endpoint) as amazon:
                    await amazon.put_object(Bucket="moving", Key="a.txt", Body=new)
                return await rest(found, begin)

            store._rest = replaced  # type: ignore[method-assign]
            found = await store.read("a.txt", tmp_path / "copy", 2_000_000)
            await store.close()
        assert (tmp_path / "copy").read_bytes() == new
        assert found == Found(key="a.txt", tag=hashlib.md5(new).hexdigest(), size=len(new))  # noqa: S324 - an ETag

    asyncio.run(scenario())


class Room:
    """How much more memory this process has than at the beginning, at most, as it is asked now and then."""

    def __init__(self) -> None:
        gc.collect()
        self._process = psutil.Process()
        self._before: int = self._process.memory_info().rss
        self.most = 0

    def look(self, *_: object) -> None:
        """Now."""
        self.most = max(self.most, self._process.memory_info().rss - self._before)


def test_an_object_of_many_parts_is_never_in_memory(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        line = orjson.dumps({"id": "line", "text": "x" * 1_000_000}) + b"\n"
        part = line * 9
        async with client(endpoint) as amazon:
            await amazon.create_bucket(Bucket="parts")
            where = {"Bucket": "parts", "Key": "corpus.jsonl"}
            upload = {**where, "UploadId": (await amazon.create_multipart_upload(**where))["UploadId"]}
            tags = [await amazon.upload_part(**upload, PartNumber=number + 1, Body=part) for number in range(7)]
            parts = {"Parts": [{"PartNumber": n + 1, "ETag": tag["ETag"]} for n, tag in enumerate(tags)]}
            await amazon.complete_multipart_upload(**upload, MultipartUpload=parts)
        source = of(endpoint, "s3://parts")
        (listed,) = [row async for row in source.listing()]
        assert isinstance(listed, Listed)
        assert (listed.size, listed.tag[-2:]) == (7 * len(part), "-7")
        room, copy = Room(), s3._copy

        async def watched(body: Any, to: Any) -> None:
            write = to.write

            def noted(data: bytes) -> None:
                write(data)
                room.look()

            where: Any = SimpleNamespace(write=noted)
            await copy(body, where)

        monkeypatch.setattr(s3, "_copy", watched)
        count = 0
        async for found in source.fetch(listed):
            count += isinstance(found, Outgoing)
            room.look()
        assert count == 63
        assert room.most < 48 * 1024**2 < listed.size
        await source.close()

    asyncio.run(scenario())


def test_mistakes_are_named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("handbook/docs", "s3://", "gs://a/b"):
        with pytest.raises(ConfigError, match="s3://BUCKET"):
            of(endpoint, uri)
    with pytest.raises(PenstockError, match=r"s3://none/: there is no such bucket"):
        asyncio.run(read(of(endpoint, "s3://none")))
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    with pytest.raises(AwayError, match="cannot be reached"):
        asyncio.run(read(of("http://127.0.0.1:1", "s3://none")))
    for name in LOGIN:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(ConfigError, match="set AWS_ACCESS_KEY_ID"):
        asyncio.run(read(of(endpoint, "s3://none")))
