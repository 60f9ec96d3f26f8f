"""Schemas by id from a registry that speaks as Confluent's does, kept for as long as the process runs.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

import asyncio
import base64
import itertools
import logging
import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from agents.clock import Deadline
from agents.metrics import Metrics
from agents.settings.sections import SchemaRegistrySettings
from streams.backoff import full_jitter_s
from streams.errors import AwayError, PenstockError
from streams.values import Reader

TIMEOUT_S = 10.0
BACKOFF_S, BACKOFF_CAP_S = 0.1, 30.0
LARGEST_BYTES = 8 * 1024**2
"""Of an answer."""
DEEPEST = 20
"""References inside of references."""
UNKNOWN = 404
REFUSED = (401, 403)
PASSES = (408, 429)
"""Beside 5xx: what is asked again."""
OPEN = 2
"""Of `penstock_breaker_state`."""
Make = Callable[[str, Mapping[str, str]], Reader]
"""A reader of a schema, and those that it refers to by name, each after its own. Raises ValueError. May block."""

logger = logging.getLogger(__name__)


class _AwayError(Exception):
    """It did not answer, or not for now; inside this module only."""


class _NoneError(Exception):
    """There is no such schema, or none that can be read; inside this module only."""


class SchemaRegistry:
    """`streams.form.Schemas`. `readers`: by id; a text says why there is none, and is asked for again."""

    def __init__(
        self,
        settings: SchemaRegistrySettings,
        kind: str,
        make: Make,
        readers: dict[int, Reader | str],
        metrics: Metrics,
        patience_s: float = math.inf,
    ) -> None:
        """`kind`: of schemas, as the registry names it: `AVRO`, `PROTOBUF`. `patience_s`: for an answer."""
        self._url = str(settings.url).rstrip("/")
        self._kind = kind
        self._make = make
        self._readers = readers
        self._metrics = metrics
        self._patience_s = patience_s
        password = settings.password.get_secret_value() if settings.password else ""
        login = base64.b64encode(f"{settings.username}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {login}"} if settings.username else {}
        self._tls = ssl.create_default_context(cafile=settings.ca_certs) if self._url.startswith("https") else True
        self._asked = asyncio.Lock()
        self._answered = False
        self.waits = False
        """Whether it does not answer now."""

    async def know(self, numbers: Sequence[int]) -> None:
        """Waits until it answers, as long as its patience lasts.

        Raises PenstockError where it refuses the login, or is none; AwayError when it did not answer for so long.
        """
        if all(callable(self._readers.get(number)) for number in numbers):
            return
        async with self._asked:  # several ask for the same at once
            for number in numbers:
                if not callable(self._readers.get(number)):
                    self._readers[number] = await self._reader(number)

    async def _reader(self, number: int) -> Reader | str:
        patience = Deadline(self._patience_s)
        for attempt in itertools.count():
            try:
                async with ClientSession(headers=self._headers, timeout=ClientTimeout(total=TIMEOUT_S)) as session:
                    told = await self._get(session, f"/schemas/ids/{number}")
                    references = await self._references(session, told, DEEPEST)
                self._answers(None)
                return await asyncio.to_thread(self._make, self._schema(told), references)
            except _AwayError as exc:
                self._answers(str(exc))
                if not patience.left_s:
                    raise AwayError(
                        f"the schema registry at {self._url} does not answer for schema {number} ({exc}): try "
                        "again when it does, or check source.schema_registry.url"
                    ) from exc
                await asyncio.sleep(full_jitter_s(attempt, BACKOFF_S, BACKOFF_CAP_S))
            except (_NoneError, ValueError) as exc:
                self._answers(None)
                return f"schema {number} of the registry at {self._url}: {exc}"
        raise AssertionError("unreachable")

    def _answers(self, problem: str | None) -> None:
        """Says when it goes away, and when it is back."""
        if problem and not self.waits:
            told = "the schema registry does not answer: what needs a schema waits meanwhile"
            logger.warning(told, extra={"registry": self._url, "reason": problem})
        elif self.waits and problem is None:
            logger.info("the schema registry answers again", extra={"registry": self._url})
        self.waits = problem is not None
        self._metrics.breaker_state.labels("schema_registry").set(OPEN if self.waits else 0)

    def _schema(self, told: dict[str, Any]) -> str:
        kind = told.get("schemaType") or "AVRO"
        if kind != self._kind:
            raise _NoneError(f"it is {kind}, and source.format says {self._kind.lower()}")
        return str(told.get("schema"))

    async def _references(self, session: ClientSession, told: dict[str, Any], left: int) -> dict[str, str]:
        """Schemas that it refers to, by the names that it has for them, each after those that it refers to itself."""
        found: dict[str, str] = {}
        for row in told.get("references") or ():
            if not left:
                raise _NoneError(f"it refers to others more than {DEEPEST} deep")
            subject, version = row.get("subject"), row.get("version")
            path = f"/subjects/{quote(str(subject), safe='')}/versions/{version}"
            try:
                other = await self._get(session, path)
            except _NoneError as exc:
                raise _NoneError(f"it refers to version {version} of {subject}, and that: {exc}") from exc
            found |= await self._references(session, other, left - 1)
            found[str(row.get("name") or subject)] = str(other.get("schema"))
        return found

    async def _get(self, session: ClientSession, path: str) -> dict[str, Any]:
        try:
            async with session.get(URL(self._url + path, encoded=True), ssl=self._tls) as answer:
                raw = await answer.content.read(LARGEST_BYTES + 1)
                while len(raw) <= LARGEST_BYTES and (more := await answer.content.read(LARGEST_BYTES)):
                    raw += more
        except (ClientError, OSError, TimeoutError) as exc:
            raise _AwayError(f"{type(exc).__name__}: {exc}") from exc
        if answer.status in REFUSED:
            raise PenstockError(
                f"the schema registry at {self._url} refuses the login ({answer.status}): check "
                "source.schema_registry.username and .password"
            )
        if answer.status >= 500 or answer.status in PASSES:
            raise _AwayError(f"status {answer.status}")
        try:
            told = orjson.loads(raw[:LARGEST_BYTES])
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            if self._answered:  # what is before it answers in its place
                raise _AwayError(f"status {answer.status}, and no JSON object")
            raise PenstockError(f"{self._url} is no schema registry: it answers {path} with no JSON object")
        self._answered = True
        if answer.status == UNKNOWN:
            raise _NoneError("it is unknown there")
        if answer.status >= 400:
            raise _NoneError(f"it is refused with {answer.status} {str(told.get('message'))[:200]}")
        return told
