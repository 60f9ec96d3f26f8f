"""A schema registry over HTTP, with Confluent's routes: what Penstock asks of one, on loopback, and no more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import encode_basic_auth, web

from agents.local.servers import free_port


@dataclass
class Registry:
    """`schemas`: rows as the API has them, by id. `down`: it answers with 503. `asked`: paths, in order.

    `page`: what is before it, and answers in its place.
    """

    port: int
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    subjects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    down: bool = False
    page: str = ""
    login: tuple[str, str] | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """With a path, as behind a proxy."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    async def answer(self, request: web.Request) -> web.Response:
        """Every route."""
        self.asked.append(request.path)
        if self.page:
            return web.Response(text=self.page, status=404)
        if self.down:
            return web.json_response({"error_code": 50302}, status=503)
        if self.login and request.headers.get("Authorization") != encode_basic_auth(*self.login):
            return web.json_response({"error_code": 401}, status=401)
        parts = request.rel_url.raw_path.removeprefix("/apis/ccompat/v7").strip("/").split("/")
        match [unquote(part) for part in parts]:
            case ["schemas", "ids", number] if int(number) in self.schemas:
                return web.json_response(self.schemas[int(number)])
            case ["subjects", subject, "versions", version] if (subject, version) in self.subjects:
                return web.json_response(self.subjects[subject, version])
        return web.json_response({"error_code": 40403, "message": "Schema not found"}, status=404)


@asynccontextmanager
async def registry() -> AsyncIterator[Registry]:
    """Until the context ends."""
    made = Registry(free_port())
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", made.port).start()
    try:
        yield made
    finally:
        await runner.cleanup()
