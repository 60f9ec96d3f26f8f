"""The bulk loop: operations in, an outcome for every one of them out.

The client's own bulk helper raises in mid-stream and retries 429 only.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from elasticsearch import ApiError, AsyncElasticsearch

from agents.elastic import GONE, INDEX_GONE, RETRIED, SHUT, Requests, answer_of, index_gone
from agents.fail_points import FailPoints
from agents.metrics import Metrics
from streams.errors import PenstockError
from streams.plan import Conflict, Outcome, Refused, Written

MAX_BODY_BYTES = 1024**2
"""As large as pays (`make bench`, part bulk), and well below the server's http.max_content_length of 100 MB."""
AT_A_TIME = 2
"""Bodies on their way at once, of one call of `Bulk.send`; found likewise."""
MAX_BODY_ITEMS = 1000
ANSWER = "filter_path=items.*.status,items.*._seq_no,items.*._primary_term,items.*.error"
"""What is looked at, of each item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line pair of a bulk body. `meta`: everything beside the action, `_id` included. A delete has no source."""

    action: Literal["index", "create", "delete"]
    meta: dict[str, Any]
    source: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Item:
    operation: Operation
    outcome: Outcome | None = None


_Part = list[tuple[_Item, bytes]]


class Bulk:
    """Sends operations until each has an outcome."""

    def __init__(
        self, client: AsyncElasticsearch, requests: Requests, metrics: Metrics, fail_points: FailPoints
    ) -> None:
        self._client = client
        self._requests = requests
        self._metrics = metrics
        self._fail_points = fail_points

    async def send(self, index: str, operations: Sequence[Operation], *, require_alias: bool = False) -> list[Outcome]:
        """Outcomes in the order of `operations`. May take as long as the server is away.

        All are sent once before any is repeated, and only items without an outcome are: a throttled one neither
        delays nor repeats its neighbours. With a time-out the write may have happened, and is then repeated:
        callers send versioned or compare-and-swap writes only. Raises PenstockError when the index or alias is
        gone, access is refused, or `delivery.max_retries` is used up.
        """
        items = [_Item(operation) for operation in operations]
        path = f"/{index}/_bulk?{ANSWER}" + ("&require_alias=true" if require_alias else "")
        waiting, attempt = items, 0
        while waiting:
            parts = _parts(waiting)
            senders = [asyncio.create_task(self._send_parts(path, parts, len(waiting))) for _ in range(AT_A_TIME)]
            try:
                reasons = await asyncio.gather(*senders)
            finally:  # of one that failed, the others end too
                for sender in senders:
                    sender.cancel()
            waiting = [item for item in waiting if item.outcome is None]
            if waiting:
                await self._requests.wait(attempt, max(reasons))
                attempt += 1
        return [item.outcome for item in items if item.outcome is not None]

    async def _send_parts(self, path: str, parts: Iterator[_Part], total: int) -> str:
        """Send what the others, who take from the same `parts`, leave. As `_send_part`."""
        reason = ""
        for part in parts:
            with self._metrics.bulk_seconds.time():
                reason = await self._send_part(path, part) or reason
            if len(part) < total:
                self._fail_points.passing("mid_chunks")
        return reason

    async def _send_part(self, path: str, part: _Part) -> str:
        """Set the outcomes of one request. Returns why some of its items have to be sent again, if any."""
        try:
            answer = await self._requests.until_answered(
                lambda: self._client.perform_request(
                    "POST",
                    path,
                    headers={"content-type": "application/x-ndjson", "accept": "application/json"},
                    body=b"".join(body for _, body in part),
                ),
                lambda answer: all(_refused_for_now(item) for item in answer.body["items"]),
            )
        except ApiError as exc:
            if exc.status_code == 413:
                return await self._send_halves(path, part)
            raise PenstockError(f"a bulk request failed, Elasticsearch {answer_of(exc)}") from exc
        reason = ""
        for (item, _), result in zip(part, answer.body["items"], strict=True):
            ((_, details),) = result.items()
            item.outcome = outcome_of(details)
            if item.outcome is None:
                reason = str(details["status"])
        return reason

    async def _send_halves(self, path: str, part: _Part) -> str:
        """The server takes no body of this size. A single item that is too large can never be written."""
        if len(part) == 1:
            ((item, body),) = part
            item.outcome = Refused("too_large", f"{len(body)} bytes are more than the server takes")
            return ""
        half = len(part) // 2
        first = await self._send_part(path, part[:half])
        return await self._send_part(path, part[half:]) or first


def encode(operation: Operation) -> bytes:
    """One line pair of a bulk body, newlines included."""
    header = orjson.dumps({operation.action: operation.meta}) + b"\n"
    if operation.action == "delete":
        return header
    return header + orjson.dumps(operation.source, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def _parts(items: list[_Item]) -> Iterator[_Part]:
    """Encoded one part at a time: a large document's bodies are never all in memory."""
    part: _Part = []
    size = 0
    for item in items:
        body = encode(item.operation)
        if part and (size + len(body) > MAX_BODY_BYTES or len(part) == MAX_BODY_ITEMS):
            yield part
            part, size = [], 0
        part.append((item, body))
        size += len(body)
    if part:
        yield part


def _refused_for_now(item: dict[str, Any]) -> bool:
    ((_, details),) = item.items()
    return details["status"] in RETRIED or details.get("error", {}).get("type") in SHUT


def outcome_of(details: dict[str, Any]) -> Outcome | None:
    """Outcome of one answered item; None to send it again. Raises PenstockError when the index is gone."""
    status = details["status"]
    if status < 300 or (status == 404 and "error" not in details):  # to delete what is not there is done
        return Written(details["_seq_no"], details["_primary_term"])
    error = details["error"]
    if status == 409:
        return Conflict()
    if status in RETRIED or error["type"] in SHUT:
        return None
    if error["type"] == INDEX_GONE:
        raise index_gone(error.get("index", "the index"))
    if error["type"] in GONE:
        raise PenstockError(f"Elasticsearch refused a write: {error['reason']}")
    cause = error.get("caused_by", {}).get("reason", "")
    return Refused(error["type"], f"{error['reason']}{': ' if cause else ''}{cause}"[:1000])
