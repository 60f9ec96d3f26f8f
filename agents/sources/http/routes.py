"""Which function answers what."""

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from agents.sources.http.call import Call
from agents.sources.http.documents import Documents, count
from agents.sources.http.lines import Lines
from agents.sources.http.metrics import Metrics
from agents.sources.http.openapi import document
from agents.sources.http.problems import ProblemError
from agents.sources.http.server import DOCUMENT, DOCUMENTS, Handler, Routes

Reasons = Callable[[], list[str]]
"""Why not; empty when all is well."""


def routes(documents: Documents, lines: Lines, metrics: Metrics, ready: Reasons) -> Routes:
    """All of them."""

    def counted(handler: Handler) -> Handler:
        async def handle(call: Call) -> web.StreamResponse:
            try:
                response = await handler(call)
            except ProblemError as problem:
                count(metrics, call, problem)
                raise
            count(metrics, call, None)
            return response

        return handle

    async def show_metrics(call: Call) -> web.StreamResponse:
        encode, content_type = choose_encoder(call.request.headers.get("Accept", ""))
        return web.Response(body=encode(metrics.registry), headers={"Content-Type": content_type})

    return {
        DOCUMENT: {"PUT": counted(documents.put), "DELETE": counted(documents.delete)},
        DOCUMENTS: {"POST": lines.post},
        "/livez": {"GET": _health(list)},
        "/readyz": {"GET": _health(ready)},
        "/metrics": {"GET": show_metrics},
        "/openapi.json": {"GET": _describe},
    }


def _health(check: Reasons) -> Callable[[Call], Awaitable[web.StreamResponse]]:
    async def handle(_: Call) -> web.StreamResponse:
        reasons = check()
        body = {"status": "unavailable", "reasons": reasons} if reasons else {"status": "ok"}
        return web.Response(body=orjson.dumps(body), status=503 if reasons else 200, content_type="application/json")

    return handle


async def _describe(_: Call) -> web.StreamResponse:
    return web.Response(body=orjson.dumps(document()), content_type="application/json")
