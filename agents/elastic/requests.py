"""Requests that are repeated until Elasticsearch has answered, behind one circuit breaker."""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from elasticsearch import ApiError, AsyncElasticsearch, ConnectionTimeout, TransportError
from elasticsearch.helpers import async_scan

from agents.elastic.errors import kind_of, passes
from agents.metrics import Metrics
from agents.settings.sections import DeliverySettings
from streams.backoff import full_jitter_s
from streams.breaker import Breaker, State
from streams.errors import PenstockError

BACKOFF_CAP_S = 30.0
RETRY_AFTER_CAP_S = 600.0
FAILURES_TO_OPEN = 3
SLOW_S = 2.0
"""A request that takes longer is Elasticsearch's time, not the worker's."""
SILENT_S = 1.0
"""How long to leave it alone after a request that it did not answer at all."""
PAGE = 500
"""Rows of a scan that are handled together."""
STATES: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}

logger = logging.getLogger(__name__)


class Requests:
    """Repeats a request until it is answered. Waits with full jitter, cap 30 s, `Retry-After` honoured.

    After three failures in a row, or one time-out, the breaker opens: nothing is asked but one probe at a time, and
    the worker stops fetching (`closed`).
    """

    def __init__(self, settings: DeliverySettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._breaker = Breaker(
            threshold=FAILURES_TO_OPEN, wait_s=lambda probes: backoff_s(probes + 3, settings.retry_backoff_ms)
        )
        self._asked: dict[object, float] = {}
        """When each request began that is not answered yet."""
        self._show()

    @property
    def closed(self) -> bool:
        """Whether Elasticsearch answers, as far as is known."""
        return self._breaker.state == "closed"

    @property
    def waits(self) -> bool:
        """Whether it is what the worker waits for: it is away, or has not answered a request for seconds."""
        return not self.closed or any(time.monotonic() - asked > SLOW_S for asked in self._asked.values())

    async def until_answered(
        self, request: Callable[[], Awaitable[Any]], refused: Callable[[Any], str | None] = lambda _: None
    ) -> Any:
        """The answer. The request may have been carried out more than once.

        `refused`: why an answer refuses everything for now, which the breaker takes for a failure; it is returned all
        the same. Raises ApiError for a status that repeating does not change, PenstockError when
        `delivery.max_retries` is used up.
        """
        for attempt in itertools.count():
            await self._permission()
            at_least_s = 0.0
            self._asked[call := object()] = time.monotonic()
            try:
                answer = await request()
            except ConnectionTimeout:  # a whole minute: it needs no second one
                reason, at_least_s = "ConnectionTimeout", SILENT_S
            except TransportError as exc:  # no answer, or half of one
                reason = type(exc).__name__
            except ApiError as exc:
                if not passes(exc.status_code, kind_of(exc)):
                    self._succeeded()
                    raise
                reason, at_least_s = str(exc.status_code), _retry_after_s(exc)
            except BaseException:
                self._breaker.abandoned()
                raise
            else:
                self._failed(why) if (why := refused(answer)) else self._succeeded()
                return answer
            finally:
                del self._asked[call]
            self._failed(reason, at_least_s)
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

    def _failed(self, reason: str, at_least_s: float = 0.0) -> None:
        was_closed = self.closed
        self._breaker.failed(time.monotonic(), at_least_s=at_least_s)
        if was_closed and not self.closed:
            told = (
                "Elasticsearch does not answer, or refuses everything, as while a shard is away, or an index closed: "
                "what needs it waits meanwhile"
            )
            logger.warning(told, extra={"reason": reason})
        self._show()

    async def _permission(self) -> None:
        while wait_s := self._breaker.ask(time.monotonic()):  # noqa: ASYNC110 - time is what it waits for
            await asyncio.sleep(wait_s)
        self._show()

    def _show(self) -> None:
        self._metrics.breaker_state.labels("elasticsearch").set(STATES[self._breaker.state])


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
    """Full jitter, at most 30 s."""
    return full_jitter_s(attempt, base_ms / 1000, BACKOFF_CAP_S)


def _retry_after_s(exc: ApiError) -> float:
    """Seconds of a `Retry-After` header; 0 without one, or where it is a date."""
    try:
        return min(RETRY_AFTER_CAP_S, max(0.0, float(exc.meta.headers.get("retry-after") or 0)))
    except ValueError:
        return 0.0
