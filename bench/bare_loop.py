"""The least that reads these records and writes these chunks: `getmany`, one `_bulk`, commit.

Usage: python -m bench.bare_loop BROKER TOPIC ELASTICSEARCH INDEX DOCUMENTS; prints the seconds that it took.
"""

import sys
import time

import numpy as np
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer
from elasticsearch import AsyncElasticsearch

VECTOR = np.full(384, 384**-0.5, dtype=np.float32)
HEADERS = {"content-type": "application/x-ndjson", "accept": "application/json"}


async def main(broker: str, topic: str, url: str, index: str, documents: int) -> float:
    """Seconds from the first record to the last answer."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=broker,
        group_id=f"bare-{index}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    client = AsyncElasticsearch(url)
    await consumer.start()
    begun, done = 0.0, 0
    while done < documents:
        found = await consumer.getmany(timeout_ms=500, max_records=256)
        records = [record for rows in found.values() for record in rows]
        begun = begun or (time.monotonic() if records else 0.0)
        lines = []
        for record in records:
            doc_id = record.key.decode()
            for number, chunk in enumerate(orjson.loads(record.value)["chunks"]):
                lines.append(orjson.dumps({"index": {"_id": f"{doc_id}#{number}"}}))
                source = {"text": chunk["text"], "vector": VECTOR, "metadata": {"doc_id": doc_id, "chunk": number}}
                lines.append(orjson.dumps(source, option=orjson.OPT_SERIALIZE_NUMPY))
        if lines:
            lines.append(b"")
            answer = await client.perform_request("POST", f"/{index}/_bulk", headers=HEADERS, body=b"\n".join(lines))
            assert not answer.body["errors"]
            await consumer.commit()
        done += len(records)
    seconds = time.monotonic() - begun
    await consumer.stop()
    await client.close()
    return seconds


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(uvloop.run(main(*arguments[:4], int(arguments[4]))))  # type: ignore[call-arg, arg-type]
