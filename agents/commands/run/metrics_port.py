"""`--metrics-port`: how a source stands, for Prometheus, while a command goes on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents.commands.common import say
from agents.settings import Settings
from agents.sources.metrics import Metrics
from agents.worker.health import Admin


@asynccontextmanager
async def metrics_served(settings: Settings, port: int | None, metrics: Metrics) -> AsyncIterator[None]:
    """Meanwhile; None: not at all. Raises PenstockError when the port is taken."""
    if port is None:
        yield
        return
    where = settings.admin.model_copy(update={"port": port})
    admin = Admin(where, metrics.registry, live=list, ready=list, status=dict, setting="--metrics-port")
    try:
        bound = await admin.start()
        say(f"metrics: port {bound} of {where.host}, /metrics", err=True)
        yield
    finally:
        await admin.stop()
