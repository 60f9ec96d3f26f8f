"""Whether topic and index are still those that the worker was started for: at each assignment, and while it runs."""

import logging

from agents.elastic.client import Client
from agents.elastic.errors import index_gone, translated
from agents.elastic.index import Index
from agents.elastic.requests import Requests
from agents.indexing.preflight import Checked
from agents.kafka.claims import Looks, read_claims
from agents.kafka.reader import LogReader
from agents.settings import Settings
from streams.contract import same_log
from streams.epochs import another_log, begin_epoch
from streams.errors import PenstockError, RefusedError

LOOK_TIMEOUT_S = 10.0
"""An assignment waits for this look: a server that hangs must not hold it up for longer."""

logger = logging.getLogger(__name__)


class Incarnations:
    """Compares with what was checked before the start."""

    def __init__(
        self, settings: Settings, checked: Checked, reader: LogReader, client: Client, requests: Requests
    ) -> None:
        self._settings = settings
        self._checked = checked
        self._reader = reader
        self._client = client.options(request_timeout=LOOK_TIMEOUT_S)
        self._requests = requests
        self._looks = Looks()

    async def require_same(self, *, idle: bool) -> None:
        """Raises RefusedError when one is another now, PenstockError while Kafka does not answer.

        `idle`: no partition is ours (there are none while a topic is deleted), so that nobody looks at the claimed
        records meanwhile: after a while Faust would assign partitions of the new topic.
        """
        await self._same_topic(idle=idle)
        await self._same_index()

    async def _same_topic(self, *, idle: bool) -> None:
        topic, before = self._settings.source.topic, self._checked.topic
        found = await self._reader.describe(topic)
        if found is None:
            logger.warning("the source topic is gone", extra={"topic": topic})
            return
        way = begin_epoch(None, self._settings.source.group)
        if not same_log(before.log, found.log):
            raise another_log(topic, f"it was {before.log} when this worker started, and is {found.log} now", way)
        if found.partitions != before.partitions:
            raise RefusedError(
                f"{topic} has {found.partitions} partitions now, the index was made for {before.partitions}: keys have "
                f"moved, and offsets no longer compare. {way}"
            )
        if idle:
            claims, sink = await read_claims(self._reader, self._settings), self._checked.identity.sink
            same = {number: claim for number, claim in claims.items() if claim.sink == sink}
            await self._looks.require_same_log(self._reader, topic, same)

    async def _same_index(self) -> None:
        """Elasticsearch being away, or the index closed, is the breaker's business."""
        identity = self._checked.identity
        if not self._requests.closed:
            return
        try:
            with translated(self._settings.elasticsearch.url):
                if not await self._client.indices.exists_alias(name=identity.write_alias):
                    raise index_gone(identity.write_alias)
            found = await Index(self._client, self._settings).identify(identity.contract)
        except RefusedError:
            raise
        except PenstockError as exc:
            logger.debug("the index could not be looked at", extra={"reason": str(exc)})
            return
        if found.sink != identity.sink:
            raise RefusedError(
                f"{identity.index} was restored, or lost a shard's history, while this worker ran: what it settled "
                "may be missing. `penstock index create`, then start again: claims about the older state are void, "
                "and the topic is processed from the start; once the workers have caught up, `penstock index verify "
                "--repair`"
            )
