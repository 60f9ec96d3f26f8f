"""Objects of S3, or of what speaks like it. An object's id is `s3://BUCKET/KEY`, its tag the ETag.

Keys are taken byte for byte, whatever is in them, such as `a//b` or `a/../b`. Credentials come from where Amazon's own
tools have them: the environment, `~/.aws`, or the machine's role.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as NoConnectionError

from agents.sources import Failure, Listed, Outgoing, PassedOver
from agents.sources.convert.kinds import GZIP
from agents.sources.patterns import EXCLUDED, Patterns
from agents.sources.reading import Ids, Origin, Reading, why_passed_over
from streams.errors import AwayError, ConfigError, PenstockError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

SCHEME = "s3://"
PART_BYTES = 1024**2
LARGEST_OBJECT = 4 * 1024**3
"""Bytes on disk while one object is read."""
ATTEMPTS = 5
MISSING = ("NoSuchBucket", "404", "NoSuchKey")


def object_sources(
    uris: Sequence[str],
    ids: Ids,
    patterns: Patterns = Patterns(),  # noqa: B008 - frozen
    *,
    endpoint: str | None,
    region: str | None,
) -> "list[Objects]":
    """A source for each URI, in their order, twice the same once. Raises ConfigError for what is no such URI."""
    return list({uri: Objects(uri, ids, patterns, endpoint=endpoint, region=region) for uri in uris}.values())


class Objects:
    """`Source` of the objects of a bucket whose keys begin so: `s3://BUCKET/PREFIX`."""

    def __init__(self, uri: str, ids: Ids, patterns: Patterns, *, endpoint: str | None, region: str | None) -> None:
        self._bucket, _, self._prefix = uri.removeprefix(SCHEME).partition("/")
        if not uri.startswith(SCHEME) or not self._bucket:
            raise ConfigError(f"{uri}: s3://BUCKET or s3://BUCKET/PREFIX is needed")
        self._options = {"endpoint_url": endpoint, "region_name": region}
        self._patterns = patterns
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
        config = AioConfig(retries={"max_attempts": ATTEMPTS, "mode": "standard"})
        made = get_session().create_client("s3", config=config, **self._options)
        client: S3Client = await self._stack.enter_async_context(made)
        self._connected = client
        return client

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
                    excluded = None if self._patterns.takes(self._relative(key)) else EXCLUDED
                    yield excluded or why_passed_over(key.rpartition("/")[2]) or listed

    def excludes(self, name: str) -> bool:
        """As `Source` says."""
        return not self._patterns.takes(self._relative(name.removeprefix(f"{SCHEME}{self._bucket}/")))

    def _relative(self, key: str) -> str:
        """What follows the prefix; of an object that has the prefix for its key, its name."""
        return key.removeprefix(self._prefix).lstrip("/") or key.rpartition("/")[2]

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure]:
        """As `Reading.documents`, of a copy on disk that is gone afterwards."""
        key = listed.id.removeprefix(f"{SCHEME}{self._bucket}/")
        if listed.size > LARGEST_OBJECT:
            yield Failure(origin=listed.id, reason=f"{listed.size} bytes are more than {LARGEST_OBJECT}: divide it")
            return
        relative = self._relative(key)
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

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Whatever the client raises inside is an error of our own outside; AwayError when it may pass."""
        try:
            yield
        except NoCredentialsError as exc:
            raise ConfigError(
                f"{what}: no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from exc
        except ClientError as exc:
            code, told = exc.response["Error"].get("Code", ""), exc.response["Error"].get("Message", "")
            kind = AwayError if exc.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 else PenstockError
            if code in MISSING:
                told = "there is no such bucket, or object"
            raise kind(f"{what}: {told or code} ({code})") from exc
        except (HTTPClientError, NoConnectionError) as exc:
            raise AwayError(f"{what} cannot be reached: {exc}") from exc
        except BotoCoreError as exc:
            raise ConfigError(f"{what}: {exc}") from exc


def _suffixes(key: str) -> str:
    """Those that say how it is read: `.pdf`, `.csv.gz`."""
    name = key.rpartition("/")[2].lower()
    plain = name.removesuffix(GZIP)
    return f".{plain.rpartition('.')[2]}{name[len(plain) :]}"
