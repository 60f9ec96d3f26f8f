"""Buckets of S3, or of what speaks like it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from agents.sources import Failure
from agents.sources.amazon import BROKEN_OFF, client, code_of, translated
from agents.sources.objects import Found, Objects, divided, tag_of, too_large
from agents.sources.patterns import Patterns
from agents.sources.reading import Ids
from streams.errors import AwayError, PenstockError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

SCHEME = "s3://"
PART_BYTES = 1024**2
ATTEMPTS = 5
MISSING = dict.fromkeys(("NoSuchBucket", "404", "NoSuchKey"), "there is no such bucket, or object")
REPLACED = ("PreconditionFailed", "412", "InvalidRange", "416")


class ReplacedError(PenstockError):
    """An object is another one since its first part was read."""


def bucket_sources(
    uris: Sequence[str], ids: Ids, patterns: Patterns, *, endpoint: str | None, region: str | None
) -> list[Objects]:
    """A source for each URI, in their order, twice the same once. Raises ConfigError for what is no such URI."""
    found: dict[str, Objects] = {}
    for uri in uris:
        bucket, prefix = divided(uri, SCHEME)
        found[uri] = Objects(Bucket(bucket, endpoint=endpoint, region=region), prefix, ids, patterns)
    return list(found.values())


class Bucket:
    """`Store` of a bucket."""

    def __init__(self, bucket: str, *, endpoint: str | None, region: str | None) -> None:
        self._bucket = bucket
        self._endpoint, self._region = endpoint, region
        self._stack = AsyncExitStack()
        self._connected: S3Client | None = None

    @property
    def uri(self) -> str:
        """`s3://BUCKET/`."""
        return f"{SCHEME}{self._bucket}/"

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()
        self._connected = None

    async def _client(self) -> "S3Client":
        if self._connected is not None:
            return self._connected
        made = client("s3", self._endpoint, self._region, retries={"max_attempts": ATTEMPTS, "mode": "standard"})
        connected: S3Client = await self._stack.enter_async_context(made)
        self._connected = connected
        return connected

    async def list(self, prefix: str) -> AsyncIterator[Found | Failure]:
        """A page of 1,000 at a time."""
        with translated(f"{self.uri}{prefix}", MISSING):
            connected = await self._client()
            async for page in connected.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for row in page.get("Contents", []):
                    yield _found(row["Key"], row, row["Size"])

    async def look(self, key: str) -> Found | None:
        """By its head; that there is no object is believed where there is a bucket, which a head does not tell."""
        with translated(f"{self.uri}{key}", MISSING):
            connected = await self._client()
            try:
                answer = await connected.head_object(Bucket=self._bucket, Key=key)
            except ClientError as exc:
                if code_of(exc) not in MISSING:
                    raise
                await connected.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
                return None
            return _found(key, answer, answer["ContentLength"])

    async def read(self, key: str, path: Path, largest: int) -> Found:
        """A connection that breaks is gone on from where it was, unless the object was replaced meanwhile."""
        with path.open("wb") as opened, translated(f"{self.uri}{key}", MISSING):
            found: Found | None = None
            for left in reversed(range(ATTEMPTS)):
                try:
                    if found is None:
                        opened.truncate(0)
                        opened.seek(0)
                        answer = await (await self._client()).get_object(Bucket=self._bucket, Key=key)
                        found = _found(key, answer, answer["ContentLength"])
                        if found.size > largest:
                            answer["Body"].close()
                            raise too_large(found.size, largest)
                    else:
                        answer = await self._rest(found, opened.tell())
                    await _copy(answer["Body"], opened)
                    if opened.tell() == found.size:
                        return found
                except ReplacedError:
                    found = None
                except BROKEN_OFF:
                    if not left:
                        raise
        raise AwayError(f"{self.uri}{key} broke off {ATTEMPTS} times, or is replaced again and again")

    async def _rest(self, found: Found, begin: int) -> Any:
        connected = await self._client()
        try:
            return await connected.get_object(
                Bucket=self._bucket, Key=found.key, Range=f"bytes={begin}-", IfMatch=f'"{found.tag}"'
            )
        except ClientError as exc:
            if code_of(exc) in REPLACED:
                raise ReplacedError from exc
            raise


async def _copy(body: Any, to: IO[bytes]) -> None:
    async with body:
        async for part in body.iter_chunks(PART_BYTES):
            to.write(part)


def _found(key: str, told: Any, size: int) -> Found:
    """The version `null` is that of a bucket that keeps none."""
    version, tag = told.get("VersionId"), tag_of(told.get("ETag"), told["LastModified"], size)
    return Found(key=key, tag=tag, size=size, version=None if version == "null" else version)
