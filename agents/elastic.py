"""Elasticsearch: the client, and the bulk loop with an outcome for every item.

The client's own bulk helper raises in mid-stream and retries 429 only, its transport retries without backoff;
so both are off, and the loop is here.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from elasticsearch import ApiError, AsyncElasticsearch, TransportError
from elasticsearch import ConnectionError as ElasticConnectionError

from agents.fail_points import FailPoints
from agents.metrics import Metrics
from agents.settings import DeliverySettings, ElasticsearchSettings
from streams.errors import PenstockError

MAX_BODY_BYTES = 8 * 1024**2  # well below the server's http.max_content_length of 100 MB
MAX_BODY_ITEMS = 1000
BACKOFF_CAP_S = 30.0
RETRIED = frozenset({429, 500, 502, 503, 504})
REQUEST_TIMEOUT_S = 60.0


def connect(settings: ElasticsearchSettings) -> AsyncElasticsearch:
    """A client without retries of its own. Opens no connection yet."""
    options: dict[str, Any] = {}
    if settings.api_key:
        options["api_key"] = settings.api_key.get_secret_value()
    if settings.username:
        options["basic_auth"] = (
            settings.username,
            settings.password.get_secret_value() if settings.password else "",
        )
    if settings.ca_certs:
        options["ca_certs"] = str(settings.ca_certs)
    if settings.ssl_fingerprint:
        options["ssl_assert_fingerprint"] = settings.ssl_fingerprint
    return AsyncElasticsearch(
        str(settings.url), max_retries=0, retry_on_timeout=False, request_timeout=REQUEST_TIMEOUT_S, **options
    )


def explain(exc: ApiError | TransportError, url: object) -> str:
    """One line about a failed request, for people."""
    if isinstance(exc, ApiError):
        return f"Elasticsearch at {url} answered {exc.status_code}: {_reason(exc)}"
    return f"Elasticsearch at {url} cannot be reached ({exc.message}): is it up, and is elasticsearch.url right?"


def _reason(exc: ApiError) -> str:
    error = exc.body.get("error", exc.body) if isinstance(exc.body, dict) else exc.body
    return str(error.get("reason", error) if isinstance(error, dict) else error)[:300]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line pair of a bulk body. `action`: index or create; `meta`: everything beside it, `_id` included."""

    action: Literal["index", "create"]
    meta: dict[str, Any]
    source: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """Durable, with what a later compare-and-swap needs."""

    seq_no: int
    primary_term: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """409: a newer version is there, or a compare-and-swap lost."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The item can never be written as it is."""

    error: str
    reason: str


Outcome = Written | Conflict | Refused


@dataclass(slots=True)
class _Item:
    number: int
    body: bytes
    outcome: Outcome | None = field(default=None)


class Bulk:
    """Sends operations until each has an outcome. Retries wait with full jitter, cap 30 s."""

    def __init__(
        self,
        client: AsyncElasticsearch,
        settings: DeliverySettings,
        metrics: Metrics,
        fail_points: FailPoints,
    ) -> None:
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self._fail_points = fail_points
        self.healthy = True
        """False from a failed request until the next one that succeeds."""

    async def wait_to_retry(self, attempt: int, reason: str) -> None:
        """Sleep with full jitter before a request is sent again; counts it, and marks the server unhealthy."""
        self.healthy = False
        self._metrics.retries.labels("elasticsearch", reason).inc()
        await asyncio.sleep(backoff_s(attempt, self._settings.retry_backoff_ms))

    async def send(self, index: str, operations: Sequence[Operation], *, require_alias: bool = False) -> list[Outcome]:
        """Outcomes in the order of `operations`. May take as long as the server is away.

        Only items without an outcome are sent again; with a time-out the write may have happened, and is then
        repeated: callers send versioned or compare-and-swap writes only. Raises PenstockError when the index
        or alias is gone, access is refused, or `delivery.max_retries` is used up.
        """
        items = [_Item(number, _encode(operation)) for number, operation in enumerate(operations)]
        path = f"/{index}/_bulk" + ("?require_alias=true" if require_alias else "")
        for number, part in enumerate(_parts(items)):
            if number:
                self._fail_points.passing("mid_chunks")
            with self._metrics.bulk_seconds.time():
                await self._send_part(path, part)
        return [item.outcome for item in items if item.outcome is not None]

    async def _send_part(self, path: str, part: list[_Item]) -> None:
        attempt = 0
        while waiting := [item for item in part if item.outcome is None]:
            reason = await self._try(path, waiting)
            if all(item.outcome is not None for item in waiting):
                self.healthy = True
                return
            if self._settings.max_retries is not None and attempt >= self._settings.max_retries:
                raise PenstockError(
                    f"Elasticsearch did not take {len(waiting)} writes after {attempt + 1} attempts "
                    f"(last: {reason}); delivery.max_retries is {self._settings.max_retries}"
                )
            await self.wait_to_retry(attempt, reason)
            attempt += 1

    async def _try(self, path: str, items: list[_Item]) -> str:
        """Send once; set outcomes. Returns why something has to be sent again."""
        try:
            answer = await self._client.perform_request(
                "POST",
                path,
                headers={"content-type": "application/x-ndjson", "accept": "application/json"},
                body=b"".join(item.body for item in items),
            )
        except ElasticConnectionError as exc:
            return type(exc).__name__
        except ApiError as exc:
            return await self._whole_request_failed(path, items, exc)
        reason = ""
        for item, result in zip(items, answer.body["items"], strict=True):
            ((_, details),) = result.items()
            item.outcome = _outcome(details)
            if item.outcome is None:
                reason = str(details["status"])
        return reason

    async def _whole_request_failed(self, path: str, items: list[_Item], exc: ApiError) -> str:
        if exc.status_code == 413:  # split by bytes; a single item that is too large can never be written
            if len(items) == 1:
                items[0].outcome = Refused("too_large", f"{len(items[0].body)} bytes are more than the server takes")
            else:
                half = len(items) // 2
                await self._send_part(path, items[:half])
                await self._send_part(path, items[half:])
            return "413"
        if exc.status_code in RETRIED:
            return str(exc.status_code)
        raise PenstockError(f"Elasticsearch answered {exc.status_code} to a bulk request: {_reason(exc)}") from exc


def backoff_s(attempt: int, base_ms: int) -> float:
    """Full jitter: uniform between 0 and base × 2^attempt, at most 30 s.

    M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(BACKOFF_CAP_S, base_ms / 1000 * 2 ** min(attempt, 20)))  # noqa: S311 - not a secret


def _encode(operation: Operation) -> bytes:
    header = orjson.dumps({operation.action: operation.meta})
    return header + b"\n" + orjson.dumps(operation.source, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def _parts(items: list[_Item]) -> Iterator[list[_Item]]:
    part: list[_Item] = []
    size = 0
    for item in items:
        if part and (size + len(item.body) > MAX_BODY_BYTES or len(part) == MAX_BODY_ITEMS):
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item.body)
    if part:
        yield part


def _outcome(details: dict[str, Any]) -> Outcome | None:
    """Outcome of one answered item; None to send it again. Raises PenstockError when the index is gone."""
    status = details["status"]
    if status < 300:
        return Written(details["_seq_no"], details["_primary_term"])
    error = details["error"]
    if status == 409:
        return Conflict()
    if status in RETRIED or error["type"] == "cluster_block_exception":
        return None
    if error["type"] in ("index_not_found_exception", "security_exception"):
        raise PenstockError(f"Elasticsearch refused a write: {error['reason']}")
    cause = error.get("caused_by", {}).get("reason", "")
    return Refused(error["type"], f"{error['reason']}{': ' if cause else ''}{cause}"[:1000])
