"""Objects of S3, or of what speaks like it. An object's id is `s3://BUCKET/KEY`, its tag the ETag.

Keys are taken byte for byte, whatever is in them, such as `a//b` or `a/../b`.
"""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from agents.sources import Failure, Listed, Outgoing, PassedOver
from agents.sources.amazon import client, translated
from agents.sources.convert.kinds import GZIP
from agents.sources.reading import Ids, Origin, Reading, why_passed_over
from streams.errors import AwayError, ConfigError, PenstockError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

SCHEME = "s3://"
PART_BYTES = 1024**2
LARGEST_OBJECT = 4 * 1024**3
"""Bytes on disk while one object is read."""
ATTEMPTS = 5
MISSING = dict.fromkeys(("NoSuchBucket", "404", "NoSuchKey"), "there is no such bucket, or object")


def object_sources(uris: Sequence[str], ids: Ids, *, endpoint: str | None, region: str | None) -> "list[Objects]":
    """A source for each URI, in their order, twice the same once. Raises ConfigError for what is no such URI."""
    return list({uri: Objects(uri, ids, endpoint=endpoint, region=region) for uri in uris}.values())


class Objects:
    """`Source` of the objects of a bucket whose keys begin so: `s3://BUCKET/PREFIX`."""

    def __init__(self, uri: str, ids: Ids, *, endpoint: str | None, region: str | None) -> None:
        self._bucket, _, self._prefix = uri.removeprefix(SCHEME).partition("/")
        if not uri.startswith(SCHEME) or not self._bucket:
            raise ConfigError(f"{uri}: s3://BUCKET or s3://BUCKET/PREFIX is needed")
        self._endpoint, self._region = endpoint, region
        self._reading = Reading(ids)
        self._stack = AsyncExitStack()
        self._connected: S3Client | None = None

    @property
    def name(self) -> str:
        """The URI; objects of `docs/` and of `docs` are two sources."""
        return f"{SCHEME}{self._bucket}/{self._prefix}"

    async def close(self) -> None:
        """Close the connections, and end the process that converts."""
        await self._reading.close()
        await self._stack.aclose()
        self._connected = None

    async def _client(self) -> "S3Client":
        if self._connected is not None:
            return self._connected
        made = client("s3", self._endpoint, self._region, retries={"max_attempts": ATTEMPTS, "mode": "standard"})
        connected: S3Client = await self._stack.enter_async_context(made)
        self._connected = connected
        return connected

    async def listing(self) -> AsyncIterator[Listed | Failure | PassedOver]:
        """Every object of a kind that is taken. Raises PenstockError where the bucket cannot be listed to its end."""
        with self._translated(self.name):
            pages = (
                (await self._client())
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self._bucket, Prefix=self._prefix)
            )
            async for page in pages:
                for row in page.get("Contents", []):
                    key, size = row["Key"], row["Size"]
                    if key.endswith("/") and not size:  # what consoles make of a folder
                        continue
                    listed = Listed(id=f"{SCHEME}{self._bucket}/{key}", tag=row["ETag"].strip('"'), size=size)
                    yield why_passed_over(key.rpartition("/")[2]) or listed

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure]:
        """As `Reading.documents`, of a copy on disk that is gone afterwards."""
        key = listed.id.removeprefix(f"{SCHEME}{self._bucket}/")
        if listed.size > LARGEST_OBJECT:
            yield Failure(origin=listed.id, reason=f"{listed.size} bytes are more than {LARGEST_OBJECT}: divide it")
            return
        relative = key.removeprefix(self._prefix).lstrip("/") or key.rpartition("/")[2]
        with tempfile.TemporaryDirectory(prefix="penstock-object-") as folder:
            path = Path(folder) / f"object{_suffixes(key)}"
            try:
                with self._translated(listed.id):
                    await self._download(key, path)
            except AwayError:
                raise
            except PenstockError as exc:
                yield Failure(origin=listed.id, reason=str(exc))
                return
            async for found in self._reading.documents(path, Origin(uri=listed.id, shown=listed.id, relative=relative)):
                yield found

    async def _download(self, key: str, path: Path) -> None:
        answer = await (await self._client()).get_object(Bucket=self._bucket, Key=key)
        with path.open("wb") as opened:
            async with answer["Body"] as body:
                async for part in body.iter_chunks(PART_BYTES):
                    opened.write(part)

    def _translated(self, what: str) -> AbstractContextManager[None]:
        return translated(what, MISSING)


def _suffixes(key: str) -> str:
    """Those that say how it is read: `.pdf`, `.csv.gz`."""
    name = key.rpartition("/")[2].lower()
    plain = name.removesuffix(GZIP)
    return f".{plain.rpartition('.')[2]}{name[len(plain) :]}"
