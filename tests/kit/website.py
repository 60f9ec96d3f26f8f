"""A site on this machine: pages that a test edits while they are served, and whatever else servers do."""

import asyncio
import hashlib
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

Special = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Website:
    """By paths, with queries. `gone`: 410. `special`: answers of their own. `asked`: requests, by path and status."""

    url: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    special: dict[str, Special] = field(default_factory=dict)
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)
    served: int = 0
    validators: bool = True

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """As a server does that knows ETags."""
        path = request.rel_url.raw_path_qs
        self.agents.add(request.headers.get("User-Agent", ""))
        self.served += 1
        answer = await self.special[path](request) if path in self.special else self._page(path, request)
        self.asked[path, answer.status] += 1
        return answer

    def _page(self, path: str, request: web.BaseRequest) -> web.Response:
        if path in self.moved:
            return web.Response(status=301, headers={"Location": self.moved[path]})
        if path not in self.pages:
            return web.Response(status=410 if path in self.gone else 404)
        body = self.pages[path].encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if self.validators and request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        name = path.partition("?")[0]
        kinds = {".txt": "text/plain", ".xml": "application/xml", ".png": "image/png", ".md": "text/markdown"}
        kind = next((kind for suffix, kind in kinds.items() if name.endswith(suffix)), "text/html")
        headers = {"Content-Type": kind} | ({"ETag": tag} if self.validators else {}) | self.headers.get(path, {})
        return web.Response(body=body, headers=headers)

    def statuses(self) -> Counter[int]:
        """How many answers of each, robots.txt and sitemaps aside."""
        found = Counter[int]()
        for (path, status), count in self.asked.items():
            if path != "/robots.txt" and not path.endswith((".xml", ".xml.gz")):
                found[status] += count
        return found


def page(title: str, text: str, links: tuple[str, ...] = (), head: str = "") -> str:
    """HTML, with navigation that is no text of it."""
    anchors = "".join(f'<li><a href="{link}">somewhere</a></li>' for link in links)
    return (
        f"<!doctype html><html><head><title>{title}</title>{head}</head><body><nav>Navigation</nav>"
        f"<main><h1>{title}</h1><p>{text}</p><ul>{anchors}</ul></main><footer>Footer</footer></body></html>"
    )


def generated(count: int, edits: dict[int, int] | None = None, gone: set[int] | None = None) -> dict[str, str]:
    """So many pages, in a tree in which each has ten others below it, and links back and across.

    `edits`: how often a page was edited. `gone`: pages that are not there; what is below them is linked from the top.
    """
    edits, gone = edits or {}, gone or set()
    found = {}
    for number in range(count):
        if number in gone:
            continue
        below = [n for n in range(10 * number + 1, min(10 * number + 11, count)) if n not in gone]
        if number == 0:
            below += [n for one in gone for n in range(10 * one + 1, min(10 * one + 11, count)) if n not in gone]
        links = [path_of(n) for n in below] + [path_of(0), path_of(number // 2 if number // 2 not in gone else 0)]
        found[path_of(number)] = page(f"Page {number}", f"Text {number} of {edits.get(number, 0)}.", tuple(links))
    return found


def path_of(number: int) -> str:
    """Of a generated page."""
    return "/" if number == 0 else f"/p/{number % 7}/{number}.html"


def bomb(size: int) -> bytes:
    """So many bytes, in a thousandth of them."""
    made = zlib.compressobj(level=1, wbits=31)
    return b"".join(made.compress(bytes(1024**2)) for _ in range(size // 1024**2)) + made.flush()


@contextmanager
def serving() -> Iterator[Website]:
    """It runs, on a thread of its own, until the end."""
    site, loop = Website(), asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def run() -> None:
        server = web.Server(site.answer, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0)
        await runner.setup()
        at = web.TCPSite(runner, "127.0.0.1", 0)
        await at.start()
        site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name="website")
    thread.start()
    assert ready.wait(60)
    try:
        yield site
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(60)
        loop.close()
