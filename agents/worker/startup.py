"""A worker before it has an application: it answers probes, loads its model, and waits for servers that are away."""

import asyncio
import logging
from dataclasses import replace

from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.elastic.requests import backoff_s
from agents.indexing.embedders import close_models, load_models
from agents.indexing.preflight import Checked, check_servers
from agents.metrics import Metrics
from agents.settings import Settings
from agents.worker.health import Admin
from streams.errors import AwayError, ModelChangedError

SEEN_S = 20.0
"""That the model is not what it was is told for so long before the worker ends: Prometheus scrapes every 15 s
(`ops/prometheus/prometheus.yml`)."""
WAIT_MS = 500
"""The first wait for a server is half as long on average; later ones are up to 30 s."""

logger = logging.getLogger(__name__)


async def prepare(settings: Settings, metrics: Metrics) -> Checked:
    """All checks; then the index is noted as this group's. Meanwhile `/livez` is 200, and `/readyz` 503 with what is
    waited for.

    Kafka, Elasticsearch or an embedding service may be away, however long: a restart would change nothing. Raises as
    `agents.indexing.preflight.check` for everything else, and PenstockError when the admin port is taken.
    """
    reasons = ["the model is being loaded"]
    admin = Admin(
        settings.admin,
        metrics.registry,
        live=list,
        ready=lambda: reasons,
        status=lambda: {"group": settings.source.group, "waiting_for": reasons},
    )
    await admin.start()
    try:
        return await _checked(settings, metrics, reasons)
    except ModelChangedError as exc:
        reasons[:] = [str(exc)]
        metrics.canary_cosine.labels(settings.model.name).set(exc.cosine)
        metrics.model_changed.labels(settings.model.name).set(1)
        logger.error("refusing to start", extra={"reason": str(exc)})
        await asyncio.sleep(SEEN_S)
        raise
    finally:
        await admin.stop()


async def _checked(settings: Settings, metrics: Metrics, reasons: list[str]) -> Checked:
    """`reasons`: what is waited for, as it is now."""
    models = await asyncio.to_thread(load_models, settings, metrics)  # seconds, in which probes are answered
    reasons[:] = ["Kafka, Elasticsearch and the embedding service, if there is one, are being asked"]
    try:
        attempt = 0
        while True:
            try:
                checked = await check_servers(settings, models)
                async with connect(settings.elasticsearch) as client:  # which may be read-only
                    index = Index(client, settings)
                    await index.bind(checked.identity.index, checked.topic.log)
                    unverified = await index.watch_shards(checked.identity)
                return replace(checked, unverified=unverified)
            except AwayError as exc:
                reasons[:] = [str(exc)]
                logger.warning("waiting for a server that is away", extra={"reason": str(exc)})
            await asyncio.sleep(backoff_s(attempt, WAIT_MS))
            attempt += 1
    except BaseException:
        close_models(models)
        raise
