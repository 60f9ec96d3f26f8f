"""Several workers on one topic, and the time from publication to a search hit under light load."""

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from agents.elastic import connect
from agents.ingest import publish
from agents.kafka import log_reader
from agents.preflight import create_index
from agents.settings import Settings
from agents.sources import Outgoing
from agents.status import partition_rows
from bench.null import NULL, generated, unindexed
from bench.servers import named
from bench.worker import Process

PARTITIONS = 8
LOOK_EVERY_S = 0.1


def scale(settings: Settings, folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """1, 2 and 4 null workers over 8 partitions: documents a second, fairness, and the gap when one joins."""
    count = 8_000 if quick else 40_000
    corpus = generated(count, 1)
    topic = "scale"
    own = named(settings, topic)
    asyncio.run(publish(own, corpus.documents, max_lag=10**9, partitions=PARTITIONS, report=lambda *_: None))
    rows = []
    for workers in (1, 2, 4):
        rows.append(asyncio.run(_workers(settings, folder, workers, count)))
        print(rows[-1], flush=True)
    result["scale"] = rows


async def _workers(settings: Settings, folder: Path, workers: int, count: int) -> dict[str, Any]:
    name = f"scale-{workers}"
    with unindexed():
        await create_index(named(settings, "scale", name))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        reader = await stack.enter_async_context(log_reader(settings))
        processes = []
        for number in range(workers):
            own = named(settings, "scale", name)
            processes.append(Process(own, folder / f"{name}-{number}.log", command=NULL))
            stack.push_async_callback(processes[-1].stop)
        begun, done, moved, gap_s = 0.0, 0, 0.0, 0.0
        while done < count:
            await asyncio.sleep(LOOK_EVERY_S)
            rows = await partition_rows(reader, own, PARTITIONS, None)
            now, settled = time.monotonic(), sum(row["settled_offset"] for row in rows)
            if settled > done:
                gap_s = max(gap_s, now - moved) if moved else 0.0
                done, moved = settled, now
                begun = begun or now
        shares = [await process.records(http) for process in processes]
    return {
        "workers": workers,
        "documents_per_s": round(count / (time.monotonic() - begun)),
        "least_over_greatest_share": round(min(shares) / max(shares), 2),
        "longest_gap_s": round(gap_s, 2),
    }


def latency(settings: Settings, folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """Seconds from publication until a search finds the document, two documents a second, with the real model."""
    own = named(settings, "latency")
    found, batch_s = asyncio.run(_latency(own, folder, 30 if quick else 120))
    es, linger_s = own.elasticsearch, own.batch.linger_ms / 1000
    assert es.refresh_interval == "1s"
    result["latency"] = {
        "documents": len(found),
        "p50_s": round(statistics.median(found), 3),
        "p95_s": round(statistics.quantiles(found, n=20)[-1], 3),
        "bound_s": round(linger_s + 1 + 3 * batch_s, 3),
        "batch_s": round(batch_s, 3),
    }
    print(result["latency"], flush=True)


async def _latency(settings: Settings, folder: Path, count: int) -> tuple[list[float], float]:
    text = "A document of a few sentences. " * 60
    documents = [
        Outgoing(key=f"l{n}".encode(), value=orjson.dumps({"text": f"{n}: {text}"}), origin="generated")
        for n in range(count)
    ]
    await publish(settings, documents[:1], max_lag=10**9, partitions=4, report=lambda *_: None)
    await create_index(settings)
    found = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(settings.elasticsearch))
        process = Process(settings, folder / "latency.log")
        stack.push_async_callback(process.stop)
        await process.until(1)
        for document in documents[1:]:
            await publish(settings, [document], max_lag=10**9, partitions=4, report=lambda *_: None)
            begun = time.monotonic()
            query = {"term": {"metadata.doc_id": (document.key or b"").decode()}}
            while not (await client.count(index=settings.elasticsearch.alias, query=query))["count"]:
                await asyncio.sleep(0.02)
            found.append(time.monotonic() - begun)
            await asyncio.sleep(max(0.0, 0.5 - found[-1]))
        metrics = (await process.until(1)).metrics
    return found, metrics["penstock_embed_seconds_sum"] / metrics["penstock_embed_seconds_count"]
