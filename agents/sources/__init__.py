"""Where documents come from. A source lists its objects and fetches them; `agents.sources.run` publishes what changed.

An object is what a source lists and fetches as one: a file, say. It may hold many documents, as JSON lines do, or none.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

LARGEST_BYTES = 16 * 1024**2
"""Of a record that is published; brokers take 1 MiB unless they are told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to publish in the wire format. `origin`: where it came from, for messages to people."""

    key: bytes
    value: bytes | None
    origin: str
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object of a listing. `id`: its URI. `tag`: another one when its bytes changed. `size`: bytes, where known.

    `version`: of these bytes, where the source keeps older ones, and tells.
    """

    id: str
    tag: str
    size: int = 0
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What could not be listed, read, or made a document of, and why; for people. The others go on.

    For its dead letter alone: `error`, its kind; `object`, its URI, where it is in no listing, and `origin` is none;
    `line`, in the object, where it is about one.
    """

    origin: str
    reason: str
    error: str = field(default="SourceError", compare=False)
    object: str | None = field(default=None, compare=False)
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """An object of a kind that is not taken, such as `.png`, or one that is excluded. `option`: what would take it."""

    kind: str
    option: str | None = None


class Source(Protocol):
    """What documents are read from. Neither method publishes anything."""

    @property
    def name(self) -> str:
        """What its objects are remembered under, run after run: its URI."""

    def listing(self) -> AsyncIterator[Listed | Failure | PassedOver]:
        """Every object that there is now; not all of them after a failure. Raises PenstockError where none can be."""

    def fetch(self, listed: Listed) -> AsyncIterator[Outgoing | Failure | Listed]:
        """The documents of one object, each valid for a worker.

        First, where it is known, what they are read from: the object may have been replaced since it was listed.
        """

    def excludes(self, name: str) -> bool:
        """Whether the object of this id, listed before or not, is none that is looked at now: by `--exclude`, say."""

    async def close(self) -> None:
        """End what it has begun. Twice is harmless."""


@runtime_checkable
class Told(Source, Protocol):
    """A source that can be asked for one object, because somebody tells which may have changed."""

    def concerns(self, name: str) -> bool:
        """Whether an object of this id, if there is one, would be listed."""

    async def look(self, name: str) -> Listed | PassedOver | None:
        """An object as a listing would have it now, by its id; None where there is none.

        Raises PenstockError where that cannot be told.
        """
