"""An embedding service on OpenAI's wire format, on loopback: it limits, fails, delays, reorders and lies on purpose.

Its vectors are a function of the text, or those of a real server that it stands before. It counts what it was paid for
as a provider does: every text of an answer that it began to send. It runs on a thread of its own, so that a test may
wait for a command meanwhile.
"""

import asyncio
import base64
import hashlib
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
from aiohttp import web

from models.api.add import Added, Wanted, add_service
from models.api.embedder import ServiceOptions
from models.golden import GOLDEN_TEXTS
from models.manifest import ServiceManifest
from streams.plan import Vectors

DIMS = 32
MAX_TOKENS = 2000
"""Of the model that a service here has, unless a test says otherwise: a token is a byte."""

SERVED = ServiceManifest(
    format=1,
    kind="service",
    name="served",
    url="https://example.org/v1/embeddings",
    model="m",
    dims=DIMS,
    asks_dims=False,
    encoding="base64",
    key_header="Authorization",
    max_tokens=1000,
    document_prefix="",
    query_prefix="",
    control="",
    files={},
    added_at="",
)
"""Of a service that no test asks over HTTP."""


def vector_of(text: str, dims: int = DIMS, model: str = "") -> Vectors:
    """Of length 1, as if drawn by chance from the text."""
    seed = int.from_bytes(hashlib.sha256(f"{model}/{text}".encode()).digest()[:8])
    found = np.random.default_rng(seed).standard_normal(dims).astype(np.float32)
    return np.asarray(found / np.linalg.norm(found), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request. Nothing set: it is answered as it should be."""

    status: int = 0
    """Answered so, and not worked at."""
    headers: dict[str, str] = field(default_factory=dict)
    said: str = "the test says so"
    delay_s: float = 0.0
    cut: bool = False
    """Half of the answer is sent, then the connection is closed."""
    unanswered: bool = False
    """Worked at, and the connection is closed without an answer."""
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
    """Changes the rows of `data`."""


Rule = Callable[[list[str]], Fault | None]


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Of all that ask, in any stretch of time as long as the window."""

    requests: int = 10**9
    tokens: int = 10**9
    window_s: float = 60.0


@dataclass
class Service:
    """`rule` decides for each request by its texts. `paid`: how often each text was worked at.

    `billed`: requests and tokens of these. `taken`: moment and tokens of each request within the quota, monotonic
    seconds; `statuses`: of all.
    """

    vectors: Callable[[list[str]], Vectors] = lambda texts: np.stack([vector_of(text) for text in texts])
    tokens: Callable[[str], int] = lambda text: len(text.encode())
    upstream: str = ""
    """URL of a real server's embeddings, which is asked for the vectors."""
    model: str = "m"
    key: str = ""
    key_header: str = "Authorization"
    rule: Rule = lambda texts: None
    quota: Quota = Quota()
    most_texts: int = 10**9
    reads_base64: bool = True
    url: str = ""
    paid: Counter[str] = field(default_factory=Counter)
    billed: tuple[int, int] = 0, 0
    taken: list[tuple[float, int]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    most_at_once: int = 0
    _at_once: int = 0
    _window: deque[tuple[float, int]] = field(default_factory=deque)
    _session: aiohttp.ClientSession | None = None

    def vectors_of(self, texts: list[str]) -> Vectors:
        """As it answers, for a test: nothing is counted, and nothing fails."""
        if not self.upstream:
            return self.vectors(texts)
        body = orjson.dumps({"model": self.model, "input": texts})
        asked = urllib.request.Request(self.upstream, body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(asked, timeout=300) as answer:  # noqa: S310 - on loopback
            return _of_length_1(answer.read())

    def paid_for(self, texts: Sequence[str]) -> int:
        """How often these were worked at, all in all."""
        return sum(self.paid[text] for text in texts)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/embeddings`."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            response = await self._answer(request)
            self.statuses[response.status] += 1
            return response
        finally:
            self._at_once -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.key:
            wanted = f"Bearer {self.key}" if self.key_header == "Authorization" else self.key
            if request.headers.get(self.key_header) != wanted:
                return _error(401, "Incorrect API key provided")
        body = orjson.loads(await request.read())
        texts: list[str] = body["input"]
        if len(texts) > self.most_texts:
            return _error(422, f"batch size {len(texts)} > maximum allowed batch size {self.most_texts}")
        if not self.reads_base64 and body.get("encoding_format") == "base64":
            return _error(400, "encoding_format is unknown")
        tokens = sum(map(self.tokens, texts))
        if (wait_s := self._over(tokens)) is not None:
            return _error(429, "Rate limit reached", {"Retry-After": f"{wait_s:.2f}"})
        self.taken.append((time.monotonic(), tokens))
        fault = self.rule(texts) or Fault()
        await asyncio.sleep(fault.delay_s)
        if fault.status:
            return _error(fault.status, fault.said, fault.headers)
        self.paid.update(texts)
        self.billed = self.billed[0] + 1, self.billed[1] + tokens
        vectors = await self._forwarded(body) if self.upstream else self.vectors(texts)
        if "dimensions" in body:
            vectors = vectors[:, : body["dimensions"]]
        as_base64 = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": row, "embedding": _encoded(vector) if as_base64 else vector.tolist()}
            for row, vector in enumerate(vectors)
        ]
        if fault.change:
            data = fault.change(data)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        raw = orjson.dumps({"object": "list", "data": data, "model": body["model"], "usage": usage})
        if fault.unanswered or fault.cut:
            response = web.StreamResponse(headers={"Content-Length": str(len(raw)), "Content-Type": "application/json"})
            if fault.cut:
                await response.prepare(request)
                await response.write(raw[: len(raw) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        return web.Response(body=raw, content_type="application/json")

    def _over(self, tokens: int) -> float | None:
        """Seconds until so many fit, where they do not now; else they are taken."""
        now = time.monotonic()
        while self._window and self._window[0][0] <= now - self.quota.window_s:
            self._window.popleft()
        used = sum(count for _, count in self._window)
        if len(self._window) < self.quota.requests and used + tokens <= self.quota.tokens:
            self._window.append((now, tokens))
            return None
        return max(0.01, self._window[0][0] + self.quota.window_s - now if self._window else 0.01)

    async def _forwarded(self, body: dict[str, Any]) -> Vectors:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        async with self._session.post(self.upstream, json={"model": body["model"], "input": body["input"]}) as answer:
            return _of_length_1(await answer.read())

    async def close(self, *_: Any) -> None:
        """The way to the real server."""
        if self._session:
            await self._session.close()

    def used(self, begin: float, end: float) -> tuple[int, int]:
        """Requests and tokens that were taken between two moments."""
        rows = [tokens for moment, tokens in self.taken if begin <= moment < end]
        return len(rows), sum(rows)


@contextmanager
def serving(service: Service | None = None) -> Iterator[Service]:
    """Until the context ends, on a free port of the loopback interface and a thread of its own."""
    made, ready, over = service or Service(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/embeddings", made.answer)
        app.on_cleanup.append(made.close)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def added(
    service: Service, models: Path, name: str = "served", options: ServiceOptions | None = None, **more: Any
) -> Added:
    """Its model in a folder, as `penstock model add` makes it. `more`: of `Wanted`."""
    wanted: dict[str, Any] = {"name": name, "url": service.url, "model": "m", "dims": DIMS, "max_tokens": MAX_TOKENS}
    made = asyncio.run(add_service(Wanted(**(wanted | more)), options or ServiceOptions(), models))
    service.paid.clear()
    service.billed = 0, 0
    service.taken.clear()
    service.statuses.clear()
    return made


def is_golden(text: str) -> bool:
    """Whether it is one of those that are sent to see what the service does."""
    return text in GOLDEN_TEXTS


def shuffled(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In another order, with their `index`."""
    return data[::-1]


def mixed_up(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each has the vector of the one before."""
    return [{**row, "embedding": data[place - 1]["embedding"]} for place, row in enumerate(data)]


def cut_short(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One vector less."""
    return data[:-1]


def narrower(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Other dims."""
    return [{**row, "embedding": _encoded(_decoded(row)[:-2])} for row in data]


def not_finite(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """NaN in the last one."""
    last = _decoded(data[-1]).copy()
    last[0] = np.nan
    return [*data[:-1], {**data[-1], "embedding": _encoded(last)}]


def _of_length_1(raw: bytes) -> Vectors:
    rows = sorted(orjson.loads(raw)["data"], key=lambda row: int(row["index"]))
    found = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def _encoded(vector: Vectors) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _decoded(row: dict[str, Any]) -> Vectors:
    return np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4").astype(np.float32)


def _error(status: int, said: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": said, "type": "test"}}, status=status, headers=headers)
