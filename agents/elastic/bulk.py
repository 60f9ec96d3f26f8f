"""Elasticsearch as a store of documents, and the bulk loop: operations in, an outcome for every one of them out.

The client's own bulk helper raises in mid-stream and retries 429 only.
"""

import asyncio
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from elasticsearch import ApiError, AsyncElasticsearch

from agents.elastic.errors import ACCESS, GONE, INDEX_GONE, answer_of, index_gone, passes
from agents.elastic.requests import Requests
from agents.elastic.store import Operation
from agents.fail_points import FailPoints
from agents.metrics import Metrics
from streams.errors import PenstockError
from streams.plan import Conflict, Outcome, Refused, Written

MAX_BODY_BYTES = 1024**2
"""As large as pays (`make bench`, part bulk), and well below the server's http.max_content_length of 100 MB."""
AT_A_TIME = 2
"""How many bodies one call of `ElasticStore.send` has in flight: more gained nothing (`make bench`, part bulk)."""
MAX_BODY_ITEMS = 1000
KEPT_BYTES = 4 * MAX_BODY_BYTES
"""Of items that have to be sent again, beyond which no others are drawn."""
DIVIDED_AFTER = 4
"""Tries with 429, after which a body is sent in halves, in case it is for the size of a single item."""
THROTTLED = "429"
NEVER = frozenset({"routing_missing_exception", "illegal_argument_exception"})
"""What a row of a read has of a setting that keeps it from ever being read."""
PRESSURE = re.compile(r"operation_bytes=(?P<wanted>\d+).*?max_\w*bytes=(?P<limit>\d+)")
"""In the reason of a rejection by indexing pressure: what the operation takes, and what all may take together."""
NO_SUCH_PIPELINE = re.compile(r"pipeline with id \[.*\] does not exist", re.DOTALL)
PIPELINE = (
    "an ingest pipeline: set index.default_pipeline and index.final_pipeline of the index and its registry to `_none`"
)
SHARD_WAIT = "1s"
"""How long the server waits for a shard, or for as many copies as the index wants, before it says that one is away: by
itself a minute, in which nothing would tell a shard that is away from a worker that stands still."""
ANSWER = "filter_path=items.*.status,items.*._seq_no,items.*._primary_term,items.*.error"
"""What is looked at, of each item."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Item:
    """An operation that has no outcome yet. `together`: with how many others it may be sent, itself included."""

    number: int
    body: bytes
    tries: int = 0
    together: int = MAX_BODY_ITEMS


@dataclass(slots=True)
class _Sending:
    """One call of `send`: what is drawn of its operations, which outcomes are there, what has to be sent again."""

    operations: Iterator[Operation]
    outcomes: list[Outcome | None] = field(default_factory=list)
    again: list[_Item] = field(default_factory=list)
    kept: int = 0
    """Bytes of `again`."""
    reason: str = ""
    drawn: bool = False
    """Whether all operations are."""

    def items(self) -> Iterator[_Item]:
        """Those to send again, then new ones while few have to be sent again."""
        again, self.again, self.kept = self.again, [], 0
        yield from sorted(again, key=lambda item: -item.together)
        if self.kept >= KEPT_BYTES:
            return
        for operation in self.operations:
            self.outcomes.append(None)
            yield _Item(len(self.outcomes) - 1, encode(operation))
            if self.kept >= KEPT_BYTES:
                return
        self.drawn = True

    def not_now(self, part: "_Part", items: Iterable[_Item], reason: str, tries: int = 1) -> None:
        """Send these again; after some tries in less company: of one that is too large the neighbours pass."""
        for item in items:
            before, item.tries = item.tries, item.tries + tries
            if reason == THROTTLED and item.tries >= DIVIDED_AFTER:
                item.together = max(1, len(part) // 2)
                if len(part) == 1 and item.tries // DIVIDED_AFTER > before // DIVIDED_AFTER:
                    told = {"tries": item.tries, "bytes": len(item.body)}
                    logger.warning("Elasticsearch does not take this item for now", extra=_about(item) | told)
            self.again.append(item)
            self.kept += len(item.body)
            self.reason = reason


_Part = list[_Item]


class ElasticStore:
    """`Store` over one client: asks until every row and every operation has its answer."""

    def __init__(
        self, client: AsyncElasticsearch, requests: Requests, metrics: Metrics, fail_points: FailPoints
    ) -> None:
        self._client = client
        self._requests = requests
        self._metrics = metrics
        self._fail_points = fail_points

    async def get(self, index: str, ids: Sequence[str], fields: str | None = None) -> list[Any]:
        """See `Store`. Waits also while a shard alone is away, whose rows have errors instead."""
        if not ids:  # which the server takes for a mistake
            return []
        for attempt in itertools.count():
            try:
                answer = await self._requests.until_answered(
                    lambda: self._client.mget(index=index, ids=list(ids), source_includes=fields),
                    lambda answer: next((row["error"]["type"] for row in answer["docs"] if "error" in row), None),
                )
            except ApiError as exc:
                if exc.status_code == 404:
                    raise index_gone(index) from exc
                raise PenstockError(f"{index} cannot be read, Elasticsearch {answer_of(exc)}") from exc
            rows: list[Any] = answer["docs"]
            error = next((row["error"] for row in rows if "error" in row), None)
            if error is None:
                return rows
            if error["type"] == INDEX_GONE:
                raise index_gone(index)
            if error["type"] in GONE:
                raise PenstockError(f"{index} cannot be read: {error['reason']}{ACCESS[403]}")
            if error["type"] in NEVER:
                raise PenstockError(f"{index} cannot be read: {error['reason']}")
            await self._requests.wait(attempt, error["type"])
        raise AssertionError("unreachable")

    async def send(self, index: str, operations: Iterable[Operation], *, require_alias: bool = False) -> list[Outcome]:
        """See `Store`.

        Operations are drawn and encoded body by body: those of a large document are never all in memory. What has to be
        sent again is kept encoded, and nothing more is drawn when that is more than `KEPT_BYTES`. Only items without an
        outcome are sent again: a throttled one neither delays nor repeats its neighbours. With a time-out the write may
        have happened, and is then repeated.
        """
        sending = _Sending(iter(operations))
        path = f"/{index}/_bulk?{ANSWER}&timeout={SHARD_WAIT}" + ("&require_alias=true" if require_alias else "")
        while True:
            parts = _parts(sending.items())
            senders = [asyncio.create_task(self._send_parts(path, parts, sending)) for _ in range(AT_A_TIME)]
            try:
                await asyncio.gather(*senders)
            finally:  # of one that failed, the others end too
                for sender in senders:
                    sender.cancel()
            if sending.again:
                await self._requests.wait(max(item.tries for item in sending.again) - 1, sending.reason)
            elif sending.drawn:
                return [outcome for outcome in sending.outcomes if outcome is not None]

    async def _send_parts(self, path: str, parts: Iterator[_Part], sending: _Sending) -> None:
        """Send what the others, who take from the same `parts`, leave."""
        for part in parts:
            with self._metrics.bulk_seconds.time():
                await self._send_part(path, part, sending)
            if len(part) < len(sending.outcomes) or not sending.drawn:
                self._fail_points.passing("mid_chunks")

    async def _send_part(self, path: str, part: _Part, sending: _Sending) -> None:
        """Set the outcomes of one request, or put its items among those that have to be sent again."""
        tries = 0

        async def post() -> Any:
            nonlocal tries
            tries += 1
            try:
                return await self._client.perform_request(
                    "POST",
                    path,
                    headers={"content-type": "application/x-ndjson", "accept": "application/json"},
                    body=b"".join(item.body for item in part),
                )
            except ApiError as exc:
                if exc.status_code != 429 or (tries < DIVIDED_AFTER and not _never(part, exc.body)):
                    raise
                return exc  # for its size, perhaps: others go on meanwhile

        try:
            answer = await self._requests.until_answered(post, _refused)
        except ApiError as exc:
            if exc.status_code == 413:
                await self._send_halves(path, part, sending)
                return
            raise PenstockError(f"a bulk request failed, Elasticsearch {answer_of(exc)}") from exc
        if isinstance(answer, ApiError):
            if _never(part, answer.body):
                sending.outcomes[part[0].number] = Refused("too_large", _reason(answer.body))
            else:
                sending.not_now(part, part, THROTTLED, tries)
            return
        for item, result in zip(part, answer.body["items"], strict=True):
            ((_, details),) = result.items()
            outcome = sending.outcomes[item.number] = outcome_of(details)
            if outcome is None and details["status"] == 429 and _never(part, details):
                sending.outcomes[item.number] = Refused("too_large", _reason(details))
            elif outcome is None:
                sending.not_now(part, [item], str(details["status"]))

    async def _send_halves(self, path: str, part: _Part, sending: _Sending) -> None:
        """The server takes no body of this size. A single item that is too large can never be written."""
        if len(part) == 1:
            (item,) = part
            text = f"{len(item.body)} bytes are more than the server takes"
            sending.outcomes[item.number] = Refused("too_large", text)
            return
        half = len(part) // 2
        await self._send_part(path, part[:half], sending)
        await self._send_part(path, part[half:], sending)


def encode(operation: Operation) -> bytes:
    """One line pair of a bulk body, newlines included."""
    header = orjson.dumps({operation.action: operation.meta}) + b"\n"
    if operation.action == "delete":
        return header
    return header + orjson.dumps(operation.source, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def _parts(items: Iterable[_Item]) -> Iterator[_Part]:
    """As many as fit one body, and as may be sent together."""
    part: _Part = []
    size = 0
    most = MAX_BODY_ITEMS
    for item in items:
        if part and (size + len(item.body) > MAX_BODY_BYTES or len(part) >= min(most, item.together)):
            yield part
            part, size = [], 0
        if not part:
            most = min(item.together, MAX_BODY_ITEMS)
        part.append(item)
        size += len(item.body)
    if part:
        yield part


def _about(item: _Item) -> dict[str, Any]:
    """What names an item in the log: its `_id`, and the record that it comes from, where its source says so."""
    lines = [orjson.loads(line) for line in item.body.splitlines()]
    (meta,) = lines[0].values()
    provenance = lines[1].get("penstock") or {} if len(lines) > 1 else {}
    return {"id": meta["_id"]} | {name: provenance[name] for name in ("topic", "partition", "offset") if provenance}


def _never(part: _Part, answer: Any) -> bool:
    """Whether a single item is by itself larger than a limit of the server, as its answer has it.

    The breaker's `durability` says what fills the server's memory, not what the request is: it is no reason to give a
    document up. Transient or permanent, a body below the limit passes when there is room.
    """
    error = answer.get("error") if isinstance(answer, dict) else None
    if len(part) != 1 or not isinstance(error, dict):
        return False
    causes = [error, error.get("caused_by") or {}, *error.get("root_cause", [])]
    if any(len(part[0].body) > cause.get("bytes_limit", float("inf")) for cause in causes):
        return True
    found = [PRESSURE.search(str(cause.get("reason", ""))) for cause in causes]
    return any(int(match["wanted"]) > int(match["limit"]) for match in found if match)


def _reason(answer: dict[str, Any]) -> str:
    return str(answer["error"].get("reason", ""))[:1000]


def _refused(answer: Any) -> str | None:
    """Why a bulk refuses every item for now. Without the server's words: they may quote a document."""
    if isinstance(answer, ApiError):
        return THROTTLED
    why = None
    for item in answer.body["items"]:  # mostly the first one is written, and that is the answer
        ((_, details),) = item.items()
        status, kind = details["status"], details.get("error", {}).get("type", "")
        if not passes(status, kind):
            return None
        why = why or f"{status} {kind}".strip()
    return why


def outcome_of(details: dict[str, Any]) -> Outcome | None:
    """Outcome of one answered item; None to send it again.

    Raises PenstockError when the index is gone, or has a pipeline that drops or refuses what is written, or that is
    not there: that is no document's fault.
    """
    status = details["status"]
    if status < 300 or (status == 404 and "error" not in details):  # to delete what is not there is done
        if "_seq_no" not in details:
            raise PenstockError(f"a write was dropped by {PIPELINE}")
        return Written(details["_seq_no"], details["_primary_term"])
    error = details["error"]
    if status == 409:
        return Conflict()
    if passes(status, error["type"]):
        return None
    if error["type"] == INDEX_GONE:
        raise index_gone(error.get("index", "the index"))
    if error["type"] in GONE:
        raise PenstockError(f"Elasticsearch refused a write: {error['reason']}")
    if NO_SUCH_PIPELINE.match(str(error["reason"])) or "processor_type" in (error.get("header") or {}):
        raise PenstockError(f"a write was refused by {PIPELINE} ({error['type']})")
    cause = error.get("caused_by", {}).get("reason", "")
    return Refused(error["type"], f"{error['reason']}{': ' if cause else ''}{cause}"[:1000])
