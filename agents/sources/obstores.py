"""Buckets of Google Cloud Storage and containers of Azure's blob storage. Credentials come from where their own tools
have them: the environment, what `gcloud` or `az` left behind, or the machine's identity.

The client cannot name every key: one with an empty segment, `.` or `..` for a segment, or a control character ends its
listing of the folder that it is in, which is a failure that names it, and a slash at the beginning or end is lost. What
is behind such a key is never taken for another object: reading it is a failure.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError, GenericError, InvalidPathError
from obstore.store import AzureStore, GCSStore

from agents.sources import Failure
from agents.sources.objects import Found, Objects, divided, tag_of, too_large
from agents.sources.patterns import Patterns
from agents.sources.reading import Ids
from streams.errors import AwayError, ConfigError, PenstockError

GCS, AZURE = "gs://", "az://"
PART_BYTES = 1024**2
ATTEMPTS = 5
RETRY_S = 60.0
PASSES = ("error sending request", " retries, ", "timed out", "status code: 429", "status code: 5")
"""In what the client says of a server that is away, or busy."""
QUERY = re.compile(r"(https?://[^\s?]+)\?\S+")
MAY_NOT = ("status code: 401", "status code: 403", "token request", "Account must be specified", "credential")
"""Of one that does not know this login."""


def gcs_sources(uris: Sequence[str], ids: Ids, patterns: Patterns, *, endpoint: str | None) -> list[Objects]:
    """A source for each `gs://BUCKET/PREFIX`, in their order, twice the same once. Raises ConfigError."""
    config: Any = {"base_url": endpoint} if endpoint else {}

    def connect(bucket: str) -> Any:
        return GCSStore(bucket, config=config, client_options=_plain(endpoint), retry_config=_retries())

    hint = "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
    return _sources(uris, GCS, "BUCKET", connect, hint, ids, patterns)


def azure_sources(
    uris: Sequence[str], ids: Ids, patterns: Patterns, *, account: str | None, endpoint: str | None
) -> list[Objects]:
    """A source for each `az://CONTAINER/PREFIX`, in their order, twice the same once. Raises ConfigError."""
    config: Any = {name: value for name, value in (("account_name", account), ("endpoint", endpoint)) if value}

    def connect(container: str) -> Any:
        return AzureStore(container, config=config, client_options=_plain(endpoint), retry_config=_retries())

    hint = (
        "name the account (`--account`, or AZURE_STORAGE_ACCOUNT_NAME), and set AZURE_STORAGE_ACCOUNT_KEY, or "
        "AZURE_USE_AZURE_CLI=true after `az login`"
    )
    return _sources(uris, AZURE, "CONTAINER", connect, hint, ids, patterns)


def _sources(
    uris: Sequence[str],
    scheme: str,
    what: str,
    connect: Callable[[str], Any],
    hint: str,
    ids: Ids,
    patterns: Patterns,
) -> list[Objects]:
    found: dict[str, Objects] = {}
    for uri in uris:
        name, prefix = divided(uri, scheme, what)
        if any(part in ("", ".", "..") for part in prefix.rstrip("/").split("/") if prefix.rstrip("/")):
            raise ConfigError(
                f"{uri}: the client cannot list below a folder without a name, `.` or `..`: begin above it"
            )
        with _translated(uri, hint):
            found[uri] = Objects(Container(f"{scheme}{name}/", connect(name), hint), prefix, ids, patterns)
    return list(found.values())


def _plain(endpoint: str | None) -> Any:
    return {"allow_http": bool(endpoint and endpoint.startswith("http://"))}


def _retries() -> Any:
    return {"max_retries": ATTEMPTS, "retry_timeout": timedelta(seconds=RETRY_S)}


class Container:
    """`Store` of a bucket, or a container."""

    def __init__(self, uri: str, client: Any, hint: str) -> None:
        """`hint`: how credentials are given."""
        self._uri = uri
        self._client = client
        self._hint = hint

    @property
    def uri(self) -> str:
        """With a slash at its end."""
        return self._uri

    async def close(self) -> None:
        """Nothing: its connections are the library's."""

    async def list(self, prefix: str) -> AsyncIterator[Found | Failure]:
        """Page by page. The client lists folders: those of half a name are listed with what is beside them."""
        with _translated(f"{self._uri}{prefix}", self._hint):
            async for found in self._below(prefix.rpartition("/")[0]):
                if isinstance(found, Failure) or found.key.startswith(prefix):
                    yield found

    async def _below(self, folder: str) -> AsyncIterator[Found | Failure]:
        """At once; where a key cannot be named, folder by folder, so that it holds up its own alone."""
        try:
            async for page in obstore.list(self._client, folder or None):
                for row in page:
                    yield _found(row)
            return
        except InvalidPathError as exc:
            failure = _unnamed(f"{self._uri}{folder}", exc)
        try:  # what was listed so far comes again, as the same
            told = await obstore.list_with_delimiter_async(self._client, folder or None)
        except InvalidPathError:
            yield failure  # which names all of the key
            return
        for row in told["objects"]:
            yield _found(row)
        inside = [one for one in told["common_prefixes"] if len(one) > len(folder)]  # of `/a` it is the folder itself
        if not inside or len(inside) < len(told["common_prefixes"]):
            yield failure
        for one in inside:
            async for found in self._below(one):
                yield found

    async def look(self, key: str) -> Found | None:
        """By its head."""
        with _translated(f"{self._uri}{key}", self._hint):
            try:
                return _found(await obstore.head_async(self._client, key))
            except FileNotFoundError:
                return None

    async def read(self, key: str, path: Path, largest: int) -> Found:
        """The client goes on where a connection breaks, with the same version."""
        with _translated(f"{self._uri}{key}", self._hint):
            answer = await obstore.get_async(self._client, key)
            found = _found(answer.meta)
            if found.size > largest:
                raise too_large(found.size, largest)
            with path.open("wb") as opened:
                async for part in answer.stream(PART_BYTES):
                    opened.write(part)
            return found


def _found(row: Any) -> Found:
    tag = tag_of(row["e_tag"], row["last_modified"], row["size"])
    return Found(key=row["path"], tag=tag, size=row["size"], version=row["version"])


def _unnamed(folder: str, exc: Exception) -> Failure:
    said = _said(exc).removeprefix("Encountered object with invalid path: ")
    return Failure(origin=folder, reason=f"not all of it can be listed: {said}: rename that object")


def _said(exc: Exception) -> str:
    """Without what is for the library's own makers, and without queries: a signature may be in one."""
    return QUERY.sub(r"\1", str(exc).partition("\n\nDebug")[0])


@contextmanager
def _translated(what: str, hint: str) -> Iterator[None]:
    """Whatever the client raises inside is an error of our own outside; AwayError when it may pass."""
    try:
        yield
    except FileNotFoundError as exc:
        raise PenstockError(
            f"{what}: there is no such object, or its name is one that the client cannot write"
        ) from exc
    except BaseError as exc:
        said = _said(exc)
        if isinstance(exc, GenericError) and "status code: 404" in said:
            raise PenstockError(f"{what}: there is no such bucket, or container") from exc
        if any(part in said for part in MAY_NOT):
            raise ConfigError(f"{what}: {said}: {hint}") from exc
        if isinstance(exc, GenericError) and any(part in said for part in PASSES):
            raise AwayError(f"{what} cannot be reached: {said}") from exc
        raise PenstockError(f"{what}: {said}") from exc
