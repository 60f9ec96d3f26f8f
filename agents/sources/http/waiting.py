"""What became of a record in the index that serves: settled by its workers, then seen by a search.

All who wait share one look at the claims, and what the index is. A claim is about an index and a log: one about others
settles nothing here, so that a document is never called searchable because an earlier index had it.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Literal

from agents.clock import Deadline
from agents.elastic.client import Client
from agents.elastic.incarnation import IndexIdentity
from agents.elastic.index import Index, settings_of
from agents.elastic.visible import Sight
from agents.kafka.lag import partition_rows
from agents.settings import Settings
from agents.sources.http.log import Log, Place
from streams.errors import AwayError, PenstockError

State = Literal["searchable", "deleted", "superseded", "rejected", "published"]
"""A search finds it; or finds it no more, as it was deleted; a newer record is there; a dead letter; not known yet."""
LOOK_S = 0.2
INDEX_S = 5.0
"""How old what is known of the index may be."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`why`: where it is not known, for people."""

    state: State
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    settings: Settings
    """As its workers have them."""
    identity: IndexIdentity


class Waiting:
    """Of one server. `stopping`: nobody waits any more."""

    def __init__(self, log: Log, client: Client, most: int, stopping: asyncio.Event) -> None:
        """`most`: who wait at once; they must not keep others from publishing."""
        self._left = most
        self._log = log
        self._client = client
        self._stopping = stopping
        self._looking = asyncio.Lock()
        self._serving: _Serving | None = None
        self._known_until = self._rows_until = Deadline(0)
        self._rows: list[dict[str, Any]] = []

    async def until_searchable(self, doc_id: str, place: Place, seconds: float) -> Found:
        """Returns when it is known, or with `published` after so long. Never raises because a server is away."""
        if not self._left:
            return Found(state="published", why="too many wait already")
        self._left -= 1
        try:
            return await self._until(doc_id, place, Deadline(seconds))
        finally:
            self._left += 1

    async def _until(self, doc_id: str, place: Place, deadline: Deadline) -> Found:
        why = "the workers have not settled it yet"
        while True:
            try:
                async with asyncio.timeout(max(LOOK_S, deadline.left_s)):
                    found = await self._look(doc_id, place)
            except TimeoutError:
                found = None
            except AwayError as exc:
                logger.debug("not known yet", extra={"reason": str(exc)})
                found, why = None, "Kafka or Elasticsearch is away"
            except PenstockError as exc:
                logger.warning("what became of a record cannot be seen", extra={"reason": str(exc)})
                return Found(state="published", why="the index cannot be asked: the server's log says why")
            if found and found.state != "published":
                return found
            why = found.why if found else why
            if self._stopping.is_set() or not deadline.left_s:
                return Found(state="published", why=why)
            await asyncio.sleep(min(LOOK_S, deadline.left_s))

    async def _look(self, doc_id: str, place: Place) -> Found:
        async with self._looking:
            serving, settled = await self._settled()
        if settled.get(place.partition, 0) <= place.offset:
            return Found(state="published", why="the workers have not settled it yet")
        identity = serving.identity
        sight = Sight(self._client, self._log.settings.elasticsearch, identity)
        made = identity.epochs.version(place.partition, place.offset)
        entry = await sight.entry(doc_id)
        if entry is None or entry.version < made or (entry.version == made and entry.state == "rejected"):
            return Found(state="rejected")
        if entry.version > made:
            return Found(state="superseded")
        if entry.state == "done" and await sight.shows(entry):
            return Found(state="searchable" if entry.n else "deleted")
        return Found(state="published", why="it is in the index, and a search finds it after its next refresh")

    async def _settled(self) -> tuple[_Serving, dict[int, int]]:
        """The index that serves, and by partition the offset below which everything is settled in it."""
        if self._serving is None or not self._known_until.left_s:
            self._serving = await self._index()
            self._known_until = Deadline(INDEX_S)
        serving = self._serving
        if not self._rows_until.left_s:
            reader, topic = self._log.reader, self._log.topic
            if reader is None or topic is None:
                raise AwayError("Kafka is away")
            sink = serving.identity.sink
            self._rows = await partition_rows(reader, serving.settings, topic.partitions, sink, topic.log or None)
            self._rows_until = Deadline(LOOK_S)
        return serving, {row["partition"]: row["settled_offset"] for row in self._rows}

    async def _index(self) -> _Serving:
        settings = self._log.settings
        index = Index(self._client, settings)
        generation = await index.generation()
        return _Serving(settings=settings_of(settings, generation), identity=await index.identity(generation))
