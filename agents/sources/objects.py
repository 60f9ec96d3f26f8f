"""Objects of a store, whichever it is: an object's id is the URI of its bucket with its key, its tag the ETag.

Keys are taken byte for byte, whatever is in them, such as `a//b` or `a/../b`.
"""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agents.sources import Failure, Listed, Outgoing, PassedOver
from agents.sources.convert.decoded import PACKED
from agents.sources.convert.kinds import GZIP
from agents.sources.patterns import EXCLUDED, Patterns
from agents.sources.reading import Ids, Origin, Reading, why_passed_over
from streams.errors import AwayError, ConfigError, PenstockError

LARGEST_OBJECT = 4 * 1024**3
"""Bytes on disk while one object is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object of a store. `tag`: its ETag, without quotes. `version`: its id, where the bucket keeps versions."""

    key: str
    tag: str
    size: int
    version: str | None = None


class Store(Protocol):
    """A bucket, or a container. What its client raises is an error of ours here: AwayError when it may pass."""

    @property
    def uri(self) -> str:
        """`s3://BUCKET/`: with the key behind it that of an object."""

    def list(self, prefix: str) -> AsyncIterator[Found | Failure]:
        """Every object whose key begins so. Raises PenstockError where they cannot be listed to the end."""

    async def look(self, key: str) -> Found | None:
        """An object as it is now; None where there is none. Raises PenstockError where that cannot be told."""

    async def read(self, key: str, path: Path, largest: int) -> Found:
        """Copy an object as it is now into a file, all of it of one version, in parts. Returns what was read.

        Raises PenstockError, also for one of more bytes than `largest`.
        """

    async def close(self) -> None:
        """Close the connections. Twice is harmless."""


class Objects:
    """`Source` of the objects of a store whose keys begin so."""

    def __init__(self, store: Store, prefix: str, ids: Ids, patterns: Patterns) -> None:
        self._store = store
        self._prefix = prefix
        self._patterns = patterns
        self._reading = Reading(ids)

    @property
    def name(self) -> str:
        """The URI; objects of `docs/` and of `docs` are two sources."""
        return f"{self._store.uri}{self._prefix}"

    async def close(self) -> None:
        """Close the connections, and end the process that converts."""
        await self._reading.close()
        await self._store.close()

    async def listing(self) -> AsyncIterator[Listed | Failure | PassedOver]:
        """Every object of a kind that is taken. Raises PenstockError where the bucket cannot be listed to its end."""
        async for found in self._store.list(self._prefix):
            if isinstance(found, Failure):
                yield found
            elif not (found.key.endswith("/") and not found.size):  # what consoles make of a folder
                yield self._taken(found)

    async def look(self, name: str) -> Listed | PassedOver | None:
        """One object as a listing would have it now, by its id; None where there is none.

        Raises PenstockError where that cannot be told.
        """
        found = await self._store.look(self._key(name))
        return self._taken(found) if found else None

    def concerns(self, name: str) -> bool:
        """As `Told` says."""
        key = self._key(name)
        return name.startswith(self.name) and not self.excludes(name) and not why_passed_over(key.rpartition("/")[2])

    def excludes(self, name: str) -> bool:
        """As `Source` says."""
        return not self._patterns.takes(self._relative(self._key(name)))

    def _taken(self, found: Found) -> Listed | PassedOver:
        if not self._patterns.takes(self._relative(found.key)):
            return EXCLUDED
        return why_passed_over(found.key.rpartition("/")[2]) or self._listed(found)

    def _listed(self, found: Found) -> Listed:
        return Listed(id=f"{self._store.uri}{found.key}", tag=found.tag, size=found.size, version=found.version)

    def _key(self, name: str) -> str:
        return name.removeprefix(self._store.uri)

    def _relative(self, key: str) -> str:
        """What follows the prefix; of an object that has the prefix for its key, its name."""
        return key.removeprefix(self._prefix).lstrip("/") or key.rpartition("/")[2]

    async def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure | Listed]:
        """As `Reading.documents`, of a copy on disk that is gone afterwards; first what it is a copy of."""
        key = self._key(listed.id)
        with tempfile.TemporaryDirectory(prefix="penstock-object-") as folder:
            path = Path(folder) / f"object{_suffixes(key)}"
            try:
                found = await self._store.read(key, path, LARGEST_OBJECT)
            except AwayError:
                raise
            except PenstockError as exc:
                yield Failure(origin=listed.id, reason=str(exc))
                return
            except OSError as exc:
                yield Failure(origin=listed.id, reason=f"no copy can be made in {folder}: {exc.strerror or exc}")
                return
            yield self._listed(found)
            path = _named_as_packed(path)
            origin = Origin(uri=listed.id, shown=listed.id, relative=self._relative(key))
            async for document in self._reading.documents(path, origin):
                yield document


def _named_as_packed(path: Path) -> Path:
    """Stores give objects with `Content-Encoding: gzip` as they have them, whose names say nothing of it."""
    with path.open("rb") as opened:
        packed = opened.read(len(PACKED)) == PACKED
    return path.rename(path.with_name(path.name + GZIP)) if packed and path.suffix != GZIP else path


def tag_of(etag: str | None, changed: datetime, size: int) -> str:
    """ETags are quoted or not, by call. Where a server has none for an object: when it was changed, and its size."""
    return (etag or "").strip('"') or f"{int(changed.timestamp())}-{size}"


def divided(uri: str, scheme: str, bucket: str = "BUCKET") -> tuple[str, str]:
    """Bucket and prefix. Raises ConfigError for what is no URI of this scheme."""
    name, _, prefix = uri.removeprefix(scheme).partition("/")
    if not uri.startswith(scheme) or not name:
        raise ConfigError(f"{uri}: {scheme}{bucket} or {scheme}{bucket}/PREFIX is needed")
    return name, prefix


def too_large(size: int, largest: int) -> PenstockError:
    """Of an object of so many bytes."""
    return PenstockError(f"{size} bytes are more than {largest}: divide it")


def _suffixes(key: str) -> str:
    """Those that say how it is read: `.pdf`, `.csv.gz`."""
    name = key.rpartition("/")[2].lower()
    plain = name.removesuffix(GZIP)
    return f".{plain.rpartition('.')[2]}{name[len(plain) :]}"
