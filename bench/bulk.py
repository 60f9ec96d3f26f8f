"""How large a bulk body should be, and how many at a time: chunks a second into an index like ours."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import AsyncElasticsearch

from agents.elastic.bulk import ANSWER, encode
from agents.elastic.client import connect
from agents.elastic.store import Operation
from agents.indexing.preflight import create_index
from agents.settings import Settings
from bench.null import generated
from bench.servers import fill, named

SIZES_KIB = (256, 1024, 4096, 8192)
AT_A_TIME = (1, 2, 4)
CHUNKS = 4000


def bulk(settings: Settings, _: Path, result: dict[str, Any]) -> None:
    """Every size with every parallelism, in turn; the first pass warms the server up and does not count."""
    asyncio.run(fill(named(settings, "bulk"), generated(1, 1).documents, 1))  # an index is made for a topic
    bodies = {size: _bodies(size * 1024) for size in SIZES_KIB}
    rows: dict[tuple[int, int], list[float]] = {}
    for repetition in range(3):
        for size in SIZES_KIB:
            for parallel in AT_A_TIME:
                name = f"bulk-{repetition}-{size}-{parallel}"
                rate = asyncio.run(_write(named(settings, "bulk", name), bodies[size], parallel))
                if repetition:
                    rows.setdefault((size, parallel), []).append(rate)
    result["bulk"] = [
        {"body_kib": size, "at_a_time": parallel, "chunks_per_s": round(max(rates))}
        for (size, parallel), rates in rows.items()
    ]
    for row in result["bulk"]:
        print(row, flush=True)


async def _write(settings: Settings, bodies: list[bytes], parallel: int) -> float:
    await create_index(settings)
    waiting = asyncio.Queue[bytes]()
    for body in bodies:
        waiting.put_nowait(body)
    async with connect(settings.elasticsearch) as client:
        begun = time.monotonic()
        await asyncio.gather(*(_send(client, settings.elasticsearch.alias, waiting) for _ in range(parallel)))
        return CHUNKS / (time.monotonic() - begun)


async def _send(client: AsyncElasticsearch, index: str, waiting: "asyncio.Queue[bytes]") -> None:
    headers = {"content-type": "application/x-ndjson", "accept": "application/json"}
    while not waiting.empty():
        body = waiting.get_nowait()
        answer = await client.perform_request("POST", f"/{index}/_bulk?{ANSWER}", headers=headers, body=body)
        assert all(item["index"]["status"] == 201 for item in answer.body["items"])


def _bodies(size: int) -> list[bytes]:
    vectors = np.random.default_rng(1).standard_normal((CHUNKS, 384)).astype(np.float32)
    bodies, part = [], b""
    for number, (text, vector) in enumerate(zip(generated(CHUNKS, 1).texts.values(), vectors, strict=True)):
        meta = {"_id": f"doc-{number}#0", "version": 1, "version_type": "external"}
        source = {"text": text, "vector": vector, "metadata": {"doc_id": f"doc-{number}", "chunk": 0}}
        line = encode(Operation(action="index", meta=meta, source=source))
        if part and len(part) + len(line) > size:
            bodies.append(part)
            part = b""
        part += line
    return [*bodies, part]
