"""Buckets of S3, or of what speaks like it. Credentials come from where Amazon's own tools have them: the environment,
`~/.aws`, or the machine's role.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientPayloadError
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, NoCredentialsError
from botocore.exceptions import ConnectionError as NoConnectionError

from agents.sources import Failure
from agents.sources.objects import Found, Objects, divided, tag_of, too_large
from agents.sources.patterns import Patterns
from agents.sources.reading import Ids
from streams.errors import AwayError, ConfigError, PenstockError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

SCHEME = "s3://"
PART_BYTES = 1024**2
ATTEMPTS = 5
MISSING = ("NoSuchBucket", "404", "NoSuchKey")
BROKEN_OFF = (HTTPClientError, IncompleteReadError, ClientPayloadError)
"""The last is aiohttp's own: the client lets it through."""
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
        self._options = {"endpoint_url": endpoint, "region_name": region}
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
        config = AioConfig(retries={"max_attempts": ATTEMPTS, "mode": "standard"})
        made = get_session().create_client("s3", config=config, **self._options)
        client: S3Client = await self._stack.enter_async_context(made)
        self._connected = client
        return client

    async def list(self, prefix: str) -> AsyncIterator[Found | Failure]:
        """A page of 1,000 at a time."""
        with _translated(f"{self.uri}{prefix}"):
            client = await self._client()
            async for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for row in page.get("Contents", []):
                    yield _found(row["Key"], row, row["Size"])

    async def look(self, key: str) -> Found | None:
        """By its head; that there is no object is believed where there is a bucket, which a head does not tell."""
        with _translated(f"{self.uri}{key}"):
            client = await self._client()
            try:
                answer = await client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as exc:
                if _code(exc) not in MISSING:
                    raise
                await client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
                return None
            return _found(key, answer, answer["ContentLength"])

    async def read(self, key: str, path: Path, largest: int) -> Found:
        """A connection that breaks is gone on from where it was, unless the object was replaced meanwhile."""
        with path.open("wb") as opened, _translated(f"{self.uri}{key}"):
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
        client = await self._client()
        try:
            return await client.get_object(
                Bucket=self._bucket, Key=found.key, Range=f"bytes={begin}-", IfMatch=f'"{found.tag}"'
            )
        except ClientError as exc:
            if _code(exc) in REPLACED:
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


def _code(exc: ClientError) -> str:
    code: str = exc.response["Error"].get("Code", "")
    return code


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Whatever the client raises inside is an error of our own outside; AwayError when it may pass."""
    try:
        yield
    except NoCredentialsError as exc:
        raise ConfigError(
            f"{what}: no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from exc
    except ClientError as exc:
        code, told = _code(exc), exc.response["Error"].get("Message", "")
        kind = AwayError if exc.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 else PenstockError
        if code in MISSING:
            told = "there is no such bucket, or object"
        raise kind(f"{what}: {told or code} ({code})") from exc
    except (*BROKEN_OFF, NoConnectionError) as exc:
        raise AwayError(f"{what} cannot be reached: {exc}") from exc
    except BotoCoreError as exc:
        raise ConfigError(f"{what}: {exc}") from exc
