"""Quix Streams + sentence-transformers + its own Elasticsearch sink, as its documentation combines them.

Runs in the peers' environment. One argument: a JSON file with what to do; writes when it began and ended into `result`.
"""

import json
import sys
import time
from pathlib import Path

from elasticsearch import Elasticsearch
from quixstreams import Application
from quixstreams.sinks.community.elasticsearch import ElasticsearchSink
from sentence_transformers import SentenceTransformer

job = json.loads(Path(sys.argv[1]).read_text())
# the bench's server is the core of Elasticsearch, without the page that the sink asks for first
Elasticsearch.info = lambda self: {"version": {"number": "9.2.4"}}
model = SentenceTransformer(job["model"], device="cpu")
model.encode(["warm up"])
times = {"begun": 0.0}
written = 0


class CountingSink(ElasticsearchSink):
    """Ends the application when everything is written."""

    def write(self, batch):
        global written
        super().write(batch)
        written += batch.size
        if written >= job["chunks"]:
            times["ended"] = time.time()
            app.stop()


def divide(document):
    """One row a chunk."""
    times["begun"] = times["begun"] or time.time()
    doc_id = document["metadata"]["doc_id"]
    return [{"id": f"{doc_id}#{number}", "text": chunk["text"]} for number, chunk in enumerate(document["chunks"])]


def embed(row):
    """With the vector."""
    return {**row, "vector": model.encode(row["text"]).tolist()}


app = Application(
    broker_address=job["broker"], consumer_group=job["group"], auto_offset_reset="earliest", loglevel="WARNING"
)
sink = CountingSink(
    url=job["elasticsearch"],
    index=job["index"],
    document_id_setter=lambda item: item.value["id"],
    mapping=job["mapping"],
)
frame = app.dataframe(app.topic(job["topic"], value_deserializer="json"))
frame = frame.apply(divide, expand=True).apply(embed)
frame.sink(sink)
app.run()
Path(job["result"]).write_text(json.dumps(times))
