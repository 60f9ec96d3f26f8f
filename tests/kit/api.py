"""Asks the HTTP source, and holds every answer against its OpenAPI document."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiohttp
import jsonschema
import orjson
from yarl import URL

from agents.sources.http.openapi import document

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
_DOCUMENT = document()
_ONE = re.compile(r"/documents/.+")
SEEN = set[tuple[str, str, str]]()
"""Route, method and status of every answer that was held against it."""


@dataclass(frozen=True)
class Answer:
    """`body`: JSON; of NDJSON its lines."""

    status: int
    body: Any
    headers: dict[str, str]


def require_described(method: str, path: str, status: int, content_type: str, body: Any) -> None:
    """The document has this answer of this route, and a schema that it meets."""
    route = "/documents/{id}" if _ONE.fullmatch(path) else path
    SEEN.add((route, method, str(status)))
    if (status, method.lower() in _DOCUMENT["paths"].get(route, {})) in ((404, False), (405, False)):
        return
    described = _DOCUMENT["paths"][route][method.lower()]["responses"][str(status)]["content"][content_type]
    if "$ref" in described["schema"]:
        name = described["schema"]["$ref"].rpartition("/")[2]
        schema = {"components": _DOCUMENT["components"], "$ref": f"#/components/schemas/{name}"}
        for one in body if isinstance(body, list) else [body]:
            jsonschema.Draft202012Validator(schema).validate(one)


@dataclass
class Api:
    """One server. `token`: sent with each request."""

    url: str
    session: aiohttp.ClientSession
    token: str | None = None
    results: list[dict[str, Any]] = field(default_factory=list)

    def headers(self, more: dict[str, str] | None) -> dict[str, str]:
        """With the token."""
        return ({"Authorization": f"Bearer {self.token}"} if self.token else {}) | (more or {})

    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **options: Any
    ) -> Answer:
        """`path`: percent-encoded, with its query."""
        url = URL(self.url + path, encoded=True)
        more = self.headers(headers)
        body = BytesIO(body) if isinstance(body, bytes) else body
        async with self.session.request(method, url, data=body, headers=more, **options) as answer:
            raw = await answer.read()
            content_type = answer.content_type
            found: Any = raw.decode()
            if content_type.endswith("json"):
                found = list(map(orjson.loads, raw.splitlines())) if "ndjson" in content_type else orjson.loads(raw)
            require_described(method, path.partition("?")[0], answer.status, content_type, found)
            return Answer(answer.status, found, dict(answer.headers))

    async def put(self, path: str, document: Any, query: str = "") -> Answer:
        """A document as JSON."""
        return await self.ask("PUT", f"/documents/{path}{query}", orjson.dumps(document), JSON)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator["Stream"]:
        """A stream of lines that is written to while its results are read."""
        made = Stream()
        sending = asyncio.create_task(made.open(self))
        try:
            yield made
        finally:
            made.end()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


class Stream:
    """`POST /documents`, bit by bit. `results`: so far; `over`: once the server has ended it, or was ended."""

    def __init__(self) -> None:
        self._lines = asyncio.Queue[bytes | None]()
        self._news = asyncio.Event()
        self.results: list[dict[str, Any]] = []
        self.over = asyncio.Event()

    def send(self, *documents: Any) -> None:
        """As lines; bytes as they are."""
        self._lines.put_nowait(
            b"".join(one if isinstance(one, bytes) else orjson.dumps(one) + b"\n" for one in documents)
        )

    def end(self) -> None:
        """No line more."""
        self._lines.put_nowait(None)

    async def until(self, count: int) -> None:
        """So many results are there, or it is over."""
        while len(self.results) < count and not self.over.is_set():
            self._news.clear()
            await self._news.wait()

    async def _body(self) -> AsyncIterator[bytes]:
        while (lines := await self._lines.get()) is not None:
            yield lines

    async def open(self, api: Api) -> None:
        """Until it is over."""
        try:
            headers = api.headers(LINES)
            async with api.session.post(f"{api.url}/documents", data=self._body(), headers=headers) as answer:
                async for line in answer.content:
                    result = orjson.loads(line)
                    require_described("POST", "/documents", answer.status, answer.content_type, result)
                    self.results.append(result)
                    self._news.set()
        except aiohttp.ClientError:
            pass
        finally:
            self.over.set()
            self._news.set()


@asynccontextmanager
async def asking(url: str, token: str | None = None, **options: Any) -> AsyncIterator[Api]:
    """`options`: of every connection."""
    connector = aiohttp.TCPConnector(limit=0, **options)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Api(url, session, token)
