"""The broker and the Elasticsearch that all rows share, and names of a row's own on them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import AnyHttpUrl

from agents.ingest import publish
from agents.local import ELASTICSEARCH_VERSION, KAFKA_VERSION, stack
from agents.local.servers import free_port
from agents.settings import Settings, cache_dir, load_settings
from agents.sources import Outgoing


@contextmanager
def servers(folder: Path) -> Iterator[Settings]:
    """Settings for servers that run while the context does."""
    base = load_settings()
    settings = base.model_copy(
        update={
            "kafka": base.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}"}),
            "elasticsearch": base.elasticsearch.model_copy(
                update={"url": AnyHttpUrl(f"http://127.0.0.1:{free_port()}"), "replicas": 0}
            ),
        }
    )
    options = stack.StackOptions(
        folder=folder,
        cache=cache_dir(),
        kafka_port=int(settings.kafka.bootstrap_servers.rpartition(":")[2]),
        elasticsearch_port=settings.elasticsearch.url.port or 0,
        kafka_version=KAFKA_VERSION,
        elasticsearch_version=ELASTICSEARCH_VERSION,
    )
    stack.wipe(folder)
    try:
        stack.up(options, lambda *_: None)
        yield settings
    finally:
        stack.wipe(folder)


async def fill(settings: Settings, documents: Iterable[Outgoing], partitions: int) -> None:
    """Publish all of them, however far behind the workers are."""
    await publish(settings, documents, max_lag=10**9, partitions=partitions, report=lambda *_: None)


def cpu_s(folder: Path) -> dict[str, float]:
    """CPU seconds that the servers in this folder have taken so far."""
    found = {}
    for server in stack.status(folder):
        leader = psutil.Process(server.pid)
        times = [process.cpu_times() for process in (leader, *leader.children(recursive=True))]
        found[server.name] = sum(time.user + time.system for time in times)
    return found


def named(settings: Settings, topic: str, group: str | None = None, model: str | None = None) -> Settings:
    """The same servers, with a topic, a group and an alias of a row's own."""
    return settings.model_copy(
        update={
            "source": settings.source.model_copy(update={"topic": topic, "group": group or topic}),
            "elasticsearch": settings.elasticsearch.model_copy(update={"alias": group or topic}),
            "admin": settings.admin.model_copy(update={"port": free_port()}),
            "model": settings.model.model_copy(update={"name": model} if model else {}),
        }
    )
