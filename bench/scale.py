"""Several workers on one topic, and the time from publication to a search hit under light load."""

import asyncio
import itertools
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from agents.elastic.client import connect
from agents.indexing.preflight import create_index
from agents.kafka.lag import partition_rows
from agents.kafka.reader import log_reader
from agents.settings import Settings
from agents.sources import Outgoing
from bench.null import NULL, generated, unindexed
from bench.servers import fill, named
from bench.worker import Process

PARTITIONS = 8
LOOK_EVERY_S = 0.1


def scale(settings: Settings, folder: Path, result: dict[str, Any]) -> None:
    """1, 2 and 4 null workers over 8 partitions: documents a second, fairness, and the gap when one joins."""
    documents = generated(40_000, 1).documents
    rows = []
    for workers in (1, 2, 4):
        rows.append(asyncio.run(_together(settings, folder, workers, documents)))
        print(rows[-1], flush=True)
    gap_s = asyncio.run(_join(settings, folder, documents))
    print(f"a second worker joins: nothing settled for {gap_s:.2f} s", flush=True)
    result["scale"] = {"partitions": PARTITIONS, "rows": rows, "join_gap_s": round(gap_s, 2)}


async def _together(settings: Settings, folder: Path, workers: int, documents: list[Outgoing]) -> dict[str, Any]:
    """All of them have their partitions before anything is published."""
    name = f"scale-{workers}"
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await _prepare(named(settings, name))
        processes = [_start(stack, named(settings, name), folder) for _ in range(workers)]
        for process in processes:
            await process.until(0)
        own = named(settings, name)
        await fill(own, documents, PARTITIONS)
        begun, moves = await _follow(own, len(documents))
        shares = [await process.records(http) for process in processes]
    return {
        "workers": workers,
        "documents_per_s": round(len(documents) / (moves[-1] - begun)),
        "least_over_greatest_share": round(min(shares) / max(shares), 2),
    }


async def _join(settings: Settings, folder: Path, documents: list[Outgoing]) -> float:
    """Longest time without progress after a second worker joins the first, over a backlog."""
    own = named(settings, "scale-join")
    async with AsyncExitStack() as stack:
        await fill(own, documents, PARTITIONS)
        await _prepare(own)
        _start(stack, own, folder)
        await _follow(own, len(documents) // 5)
        joined = time.monotonic()
        _start(stack, named(settings, "scale-join"), folder)
        _, moves = await _follow(own, len(documents))
    moves = [joined, *moves]
    return max(after - before for before, after in itertools.pairwise(moves))


async def _prepare(settings: Settings) -> None:
    async with log_reader(settings) as reader:
        if await reader.partitions(settings.source.topic) is None:
            await reader.create_topic(settings.source.topic, PARTITIONS, {})
    with unindexed():
        await create_index(settings)


def _start(stack: AsyncExitStack, settings: Settings, folder: Path) -> Process:
    process = Process(settings, folder, command=NULL)
    stack.push_async_callback(process.stop)
    return process


async def _follow(settings: Settings, count: int) -> tuple[float, list[float]]:
    """Until so many are settled: when that began, and when it went on."""
    begun, done, moves = time.monotonic(), 0, list[float]()
    async with log_reader(settings) as reader:
        while done < count:
            await asyncio.sleep(LOOK_EVERY_S)
            rows = await partition_rows(reader, settings, PARTITIONS, None)
            settled = sum(row["settled_offset"] for row in rows)
            if settled > done:
                done = settled
                moves.append(time.monotonic())
    return begun, moves


def latency(settings: Settings, folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """Seconds from publication until a search finds the document, two documents a second, with the real model."""
    own = named(settings, "latency")
    found, batch_s = asyncio.run(_latency(own, folder, 20 if quick else 120))
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
    await fill(settings, documents[:1], 4)
    await create_index(settings)
    found = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(settings.elasticsearch))
        process = Process(settings, folder)
        stack.push_async_callback(process.stop)
        await process.until(1)
        for document in documents[1:]:
            await fill(settings, [document], 4)
            begun = time.monotonic()
            query = {"term": {"metadata.doc_id": (document.key or b"").decode()}}
            while not (await client.count(index=settings.elasticsearch.alias, query=query))["count"]:
                await asyncio.sleep(0.02)
            found.append(time.monotonic() - begun)
            await asyncio.sleep(max(0.0, 0.5 - found[-1]))
        metrics = (await process.until(1)).metrics
    return found, metrics["penstock_embed_seconds_sum"] / metrics["penstock_embed_seconds_count"]
