"""`/metrics`, `/livez`, `/readyz` and `/statusz` of what goes on until stopped, on loopback unless told otherwise."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from agents.settings.sections import AdminSettings
from streams.errors import PenstockError

Reasons = Callable[[], list[str]]
"""Why not; empty when all is well."""


class Admin:
    """The HTTP server for people and machines that watch a worker, or a source. Read only."""

    def __init__(
        self,
        settings: AdminSettings,
        registry: CollectorRegistry,
        *,
        live: Reasons,
        ready: Reasons,
        status: Callable[[], dict[str, Any]],
        setting: str = "admin.port",
    ) -> None:
        """`setting`: what says which port it is."""
        self._settings = settings
        self._setting = setting
        self._registry = registry
        self._status = status
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/livez", _handler(live)),
                web.get("/readyz", _handler(ready)),
                web.get("/statusz", self._statusz),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> int:
        """Listen. Returns the port. Raises PenstockError when it is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        except OSError as exc:
            raise PenstockError(
                f"admin port {self._settings.port} on {self._settings.host} cannot be used ({exc.strerror}): "
                f"another worker has it? set {self._setting} (0 takes any free one)"
            ) from exc
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close."""
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _statusz(self, _: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self._status()), content_type="application/json")


def _handler(check: Reasons) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        reasons = check()
        body = {"status": "unavailable", "reasons": reasons} if reasons else {"status": "ok"}
        return web.Response(body=orjson.dumps(body), status=503 if reasons else 200, content_type="application/json")

    return handle
