"""Elasticsearch: the client, and requests that are repeated until it has answered, behind one circuit breaker.

The client's transport retries three times without backoff, so that is off, and the loop is here.
"""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from elasticsearch import ApiError, AsyncElasticsearch, ConnectionTimeout, OrjsonSerializer, SSLError, TransportError
from elasticsearch import ConnectionError as ElasticConnectionError
from elasticsearch.helpers import async_scan

from agents.metrics import Metrics
from agents.settings import DeliverySettings, ElasticsearchSettings
from streams.breaker import Breaker
from streams.errors import AwayError, ConfigError, PenstockError, RefusedError

BACKOFF_CAP_S = 30.0
RETRY_AFTER_CAP_S = 600.0
FAILURES_TO_OPEN = 3
RETRIED = frozenset({429, 500, 502, 503, 504})
INDEX_GONE = "index_not_found_exception"
GONE = frozenset({INDEX_GONE, "security_exception"})
ACCESS = {
    401: " (elasticsearch.api_key, or username and password: are they right, and not revoked?)",
    403: " (ops/elasticsearch has the privileges that are needed)",
}
SHUT = frozenset({"cluster_block_exception", "index_closed_exception"})
"""Somebody, or a full disk, shut the index for a while: that is never a document's fault."""
PAGE = 500
"""Rows of a scan that are handled together."""
REQUEST_TIMEOUT_S = 60.0
STATES = {"closed": 0, "half_open": 1, "open": 2}

logger = logging.getLogger(__name__)


def connect(settings: ElasticsearchSettings) -> AsyncElasticsearch:
    """A client without retries of its own. Opens no connection yet.

    Raises ConfigError when the credentials would be sent unencrypted, or the file of the authorities cannot be used.
    """
    login = settings.api_key or settings.password
    if login and settings.url.scheme == "http" and not settings.allow_plaintext_credentials:
        raise ConfigError(
            "elasticsearch.url is http: the credentials, and everything else, would be sent unencrypted; use https, or "
            "set elasticsearch.allow_plaintext_credentials = true"
        )
    options: dict[str, Any] = {}
    if settings.api_key:
        options["api_key"] = settings.api_key.get_secret_value()
    if settings.username and settings.password:
        options["basic_auth"] = settings.username, settings.password.get_secret_value()
    if settings.ca_certs:
        options["ca_certs"] = str(settings.ca_certs)
    if settings.ssl_fingerprint:
        options["ssl_assert_fingerprint"] = settings.ssl_fingerprint
    try:
        return AsyncElasticsearch(
            str(settings.url),
            max_retries=0,
            retry_on_timeout=False,
            request_timeout=REQUEST_TIMEOUT_S,
            serializers={"application/json": OrjsonSerializer()},
            **options,
        )
    except (OSError, ValueError) as exc:  # the only file among them
        raise ConfigError(f"elasticsearch.ca_certs = {settings.ca_certs} cannot be used: {exc}") from exc


def index_gone(alias: str) -> RefusedError:
    """What a worker says whose index was deleted, made anew or restored under its hands."""
    return RefusedError(
        f"{alias} is gone: the index, or its registry, was deleted, made anew or restored, or a new epoch began. "
        "`penstock index create`, then start again: claims about an old index are void, and its topic is processed "
        "from the start"
    )


def explain(exc: ApiError | TransportError, url: object) -> str:
    """One line about a failed request, for people."""
    if isinstance(exc, ApiError):
        return f"Elasticsearch at {url} {answer_of(exc)}"
    return f"Elasticsearch at {url} cannot be reached ({exc.message}): is it up, and is elasticsearch.url right?"


def failed(exc: ApiError | TransportError, url: object) -> PenstockError:
    """A failed request: AwayError when the same one may succeed later."""
    if isinstance(exc, ApiError):
        away = exc.status_code in RETRIED
    else:
        away = isinstance(exc, ElasticConnectionError | ConnectionTimeout) and not isinstance(exc, SSLError)
    return (AwayError if away else PenstockError)(explain(exc, url))


def answer_of(exc: ApiError) -> str:
    """The status and the server's own words, cut; with what to look at when access was refused."""
    error = exc.body.get("error", exc.body) if isinstance(exc.body, dict) else exc.body
    reason = str(error.get("reason", error) if isinstance(error, dict) else error)[:300]
    return f"answered {exc.status_code}: {reason}{ACCESS.get(exc.status_code, '')}"


class Requests:
    """Repeats a request until it is answered. Waits with full jitter, cap 30 s, `Retry-After` honoured.

    After three failures in a row the breaker opens: nothing is asked but one probe at a time, and the worker
    stops fetching (`open`).
    """

    def __init__(self, settings: DeliverySettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._breaker = Breaker(
            threshold=FAILURES_TO_OPEN, wait_s=lambda probes: backoff_s(probes + 3, settings.retry_backoff_ms)
        )
        self._show()

    @property
    def closed(self) -> bool:
        """Whether Elasticsearch answers, as far as is known."""
        return self._breaker.state == "closed"

    async def until_answered(
        self, request: Callable[[], Awaitable[Any]], refused: Callable[[Any], bool] = lambda _: False
    ) -> Any:
        """The answer. The request may have been carried out more than once.

        `refused`: whether an answer refuses everything for now, which the breaker takes for a failure; it is returned
        all the same. Raises ApiError for a status that repeating does not change, PenstockError when
        `delivery.max_retries` is used up.
        """
        for attempt in itertools.count():
            await self._permission()
            at_least_s = 0.0
            try:
                answer = await request()
            except ElasticConnectionError as exc:
                reason = type(exc).__name__
            except ApiError as exc:
                if exc.status_code not in RETRIED:
                    self._succeeded()
                    raise
                reason, at_least_s = str(exc.status_code), _retry_after_s(exc)
            except BaseException:
                self._breaker.abandoned()
                raise
            else:
                self._failed() if refused(answer) else self._succeeded()
                return answer
            self._failed(at_least_s)
            await self.wait(attempt, reason)
        raise AssertionError("unreachable")

    async def wait(self, attempt: int, reason: str) -> None:
        """Before the attempt after `attempt` (from 0). Raises PenstockError when that would be one too many.

        While the breaker is not closed, it says how long: two waits would add up.
        """
        limit = self._settings.max_retries
        if limit is not None and attempt >= limit:
            raise PenstockError(
                f"Elasticsearch did not take a request after {attempt + 1} attempts (last: {reason}); "
                f"delivery.max_retries is {limit}"
            )
        self._metrics.retries.labels("elasticsearch", reason).inc()
        if self.closed:
            await asyncio.sleep(backoff_s(attempt, self._settings.retry_backoff_ms))

    def _succeeded(self) -> None:
        if not self.closed:
            logger.info("Elasticsearch answers again")
        self._breaker.succeeded()
        self._show()

    def _failed(self, at_least_s: float = 0.0) -> None:
        was_closed = self.closed
        self._breaker.failed(time.monotonic(), at_least_s=at_least_s)
        if was_closed and not self.closed:
            logger.warning("Elasticsearch does not answer, or refuses everything: fetching stops until it does not")
        self._show()

    async def _permission(self) -> None:
        while wait_s := self._breaker.ask(time.monotonic()):  # noqa: ASYNC110 - time is what it waits for
            await asyncio.sleep(wait_s)
        self._show()

    def _show(self) -> None:
        self._metrics.breaker_state.labels("elasticsearch").set(STATES[self._breaker.state])


async def multi_get(
    client: AsyncElasticsearch, requests: Requests, index: str, ids: Sequence[str], fields: str | None = None
) -> list[Any]:
    """Rows of an index as they are now (`_mget` is realtime), in the order of `ids`.

    Waits while the server, or a shard, is away. Raises PenstockError when the index is gone or access is refused.
    """
    for attempt in itertools.count():
        try:
            answer = await requests.until_answered(
                lambda: client.mget(index=index, ids=list(ids), source_includes=fields),
                lambda answer: any("error" in row for row in answer["docs"]),
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
        await requests.wait(attempt, error["type"])
    raise AssertionError("unreachable")


async def scan(
    client: AsyncElasticsearch, index: str, query: Mapping[str, Any], source: Any = True
) -> AsyncIterator[tuple[list[Any], int]]:
    """Every row that matches, with its version, `PAGE` at a time, and how many there are in all.

    `source`: which fields. Raises ApiError, TransportError, and ScanError when shards fail on the way.
    """
    await client.indices.refresh(index=index)
    total = int((await client.count(index=index, query=query))["count"])
    body, page = {"query": query, "_source": source}, []
    async for hit in async_scan(client, index=index, query=body, size=PAGE, scroll="10m", version=True):
        page.append(hit)
        if len(page) == PAGE:
            yield page, total
            page = []
    if page:
        yield page, total


def backoff_s(attempt: int, base_ms: int) -> float:
    """Full jitter: uniform between 0 and base × 2^attempt, at most 30 s.

    M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(BACKOFF_CAP_S, base_ms / 1000 * 2 ** min(attempt, 20)))  # noqa: S311 - not a secret


def _retry_after_s(exc: ApiError) -> float:
    """Seconds of a `Retry-After` header; 0 without one, or where it is a date."""
    try:
        return min(RETRY_AFTER_CAP_S, max(0.0, float(exc.meta.headers.get("retry-after") or 0)))
    except ValueError:
        return 0.0
