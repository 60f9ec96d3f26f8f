"""aiokafka + sentence-transformers + the client's bulk helper, as most people write it.

Runs in the peers' environment. One argument: a JSON file with what to do; writes when it began and ended into `result`.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from elasticsearch import AsyncElasticsearch
from elasticsearch.helpers import async_bulk
from sentence_transformers import SentenceTransformer

job = json.loads(Path(sys.argv[1]).read_text())


async def main():
    model = SentenceTransformer(job["model"], device="cpu")
    model.encode(["warm up"])
    consumer = AIOKafkaConsumer(
        job["topic"],
        bootstrap_servers=job["broker"],
        group_id=job["group"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    client = AsyncElasticsearch(job["elasticsearch"])
    await consumer.start()
    begun, written = 0.0, 0
    while written < job["chunks"]:
        records = [
            record for rows in (await consumer.getmany(timeout_ms=500, max_records=50)).values() for record in rows
        ]
        begun = begun or (time.time() if records else 0.0)
        rows = []
        for record in records:
            document = json.loads(record.value)
            for number, chunk in enumerate(document["chunks"]):
                rows.append((f"{record.key.decode()}#{number}", chunk["text"]))
        if not rows:
            continue
        vectors = model.encode([text for _, text in rows])
        await async_bulk(
            client,
            (
                {"_index": job["index"], "_id": key, "_source": {"id": key, "text": text, "vector": vector.tolist()}}
                for (key, text), vector in zip(rows, vectors, strict=True)
            ),
        )
        written += len(rows)
        await consumer.commit()
    Path(job["result"]).write_text(json.dumps({"begun": begun, "ended": time.time()}))
    await consumer.stop()
    await client.close()


asyncio.run(main())
