"""What Penstock itself costs: a model that costs nothing, unindexed vectors, held against the barest loops."""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import orjson

import agents.elastic.index
from agents.indexing.preflight import create_index
from agents.main import FEW_THREADS
from agents.settings import Settings
from agents.sources import Outgoing
from bench.corpus import Corpus, corpus_of
from bench.servers import fill, named
from bench.worker import Measured, measure
from streams.contract import chunk_mappings

NULL = (sys.executable, "-m", "bench.null_worker")
PARTITIONS = 4
WORDS = "offset partition broker consumer lag index shard vector document chunk window claim ledger replay"


def null_rows(settings: Settings, folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """`null_over_bare`: 5 chunks a document, and 1; interleaved. Seconds by stage beside it."""
    documents = {5: 4000 if quick else 12_000, 1: 6000 if quick else 30_000}
    repetitions = {5: 4, 1: 2} if quick else {5: 6, 1: 6}
    found: dict[str, Any] = {}
    for chunks, count in documents.items():
        corpus = generated(count, chunks)
        topic = f"null-{chunks}"
        asyncio.run(fill(named(settings, topic), corpus.documents, PARTITIONS))
        rates: dict[str, list[float]] = {"null": [], "bare": []}
        for repetition in range(repetitions[chunks]):  # the first one warms the servers up
            rates["bare"].append(len(corpus.texts) / _bare(settings, topic, f"bare-{chunks}-{repetition}", count))
            own = named(settings, topic, f"null-{chunks}-{repetition}")
            samples = folder / f"samples-{chunks}.json"
            run = asyncio.run(_null(own, folder, count, {"NULL_SAMPLES": str(samples)}))
            rates["null"].append(len(corpus.texts) / run.seconds)
            print(
                f"{chunks} chunks a document: " + ", ".join(f"{k} {v[-1]:,.0f}/s" for k, v in rates.items()), flush=True
            )
        medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
        stages = json.loads(samples.read_text())
        found[f"{chunks}_chunks_a_document"] = {
            "chunks_per_s": {name: round(value) for name, value in medians.items()},
            "documents_per_s": {name: round(value / chunks) for name, value in medians.items()},
            "null_over_bare": medians["null"] / medians["bare"],
            "cpu_us_a_document": {name: round(cpu_s / count * 1e6) for name, cpu_s in run.cpu_s.items()},
            "event_loop_us_a_document": {
                name: round(seconds / count * 1e6, 1)
                for name, seconds in sorted(stages.items(), key=lambda row: -row[1])
            },
        }
    result["null"] = found
    result["ratios"]["null_over_bare"] = found["5_chunks_a_document"]["null_over_bare"]
    result["ratios"]["null_over_bare_one_chunk"] = found["1_chunks_a_document"]["null_over_bare"]


def record_cost(settings: Settings, folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """CPU a record of Faust, admission, ledger and claims, over that of Faust's own agent loop."""
    count = 40_000 if quick else 150_000
    topic = "tiny"
    asyncio.run(fill(named(settings, topic), tiny(count), PARTITIONS))
    costs: dict[str, list[float]] = {"ours": [], "bare": []}
    for repetition in range(2 if quick else 3):
        costs["bare"].append(_bare_faust(settings, topic, count) / count * 1e6)
        own = named(settings, topic, f"tiny-{repetition}")
        cpu_s = asyncio.run(_null(own, folder, count, {"NULL_SETTLES": "1"})).cpu_s
        costs["ours"].append(cpu_s["worker"] / count * 1e6)
        print(", ".join(f"{name} {values[-1]:.1f} µs a record" for name, values in costs.items()), flush=True)
    medians = {name: statistics.median(values) for name, values in costs.items()}
    result["record_cost_us"] = {name: round(value, 1) for name, value in medians.items()}
    result["ratios"]["record_cost_over_faust"] = medians["ours"] / medians["bare"]


def memory(settings: Settings, folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """Most memory (RSS) while a backlog of 1,000,000 records is worked on, over that with 100,000."""
    at_most_s = 10 if quick else 60
    peaks = {}
    for count in (100_000, 1_000_000):
        topic = f"backlog-{count}"
        asyncio.run(fill(named(settings, topic), tiny(count), PARTITIONS))
        own = named(settings, topic)
        with unindexed():
            asyncio.run(create_index(own))
        found = asyncio.run(measure(own, count, folder, command=NULL, at_most_s=at_most_s))
        peaks[count] = found.peak_rss
        print(f"{count:,} records: {found.peak_rss / 1024**2:,.0f} MiB at most", flush=True)
    result["rss_mib"] = {str(count): round(peak / 1024**2) for count, peak in peaks.items()}
    result["ratios"]["rss_1m_over_100k"] = peaks[1_000_000] / peaks[100_000]


def generated(count: int, chunks: int) -> Corpus:
    """So many documents of so many chunks, some 600 characters each."""
    chosen, words = random.Random(3), WORDS.split()
    return corpus_of([[" ".join(chosen.choices(words, k=80)) for _ in range(chunks)] for _ in range(count)])


def tiny(count: int) -> list[Outgoing]:
    """Records of some 60 bytes."""
    return [
        Outgoing(key=b"t%d" % number, value=orjson.dumps({"text": f"record {number}"}), origin="generated")
        for number in range(count)
    ]


@contextmanager
def unindexed() -> Iterator[None]:
    """Indices that are made meanwhile store vectors without indexing them."""

    def mappings(*arguments: Any, **options: Any) -> dict[str, Any]:
        made = chunk_mappings(*arguments, **options)
        made["properties"]["vector"] = {"type": "dense_vector", "dims": 384, "index": False}
        return made

    with mock.patch.object(agents.elastic.index, "chunk_mappings", mappings):
        yield


async def _null(settings: Settings, folder: Path, count: int, variables: dict[str, str]) -> Measured:
    """One run of a null worker."""
    with unindexed():
        await create_index(settings)
    with mock.patch.dict(os.environ, {**FEW_THREADS, **variables}):
        return await measure(settings, count, folder, command=NULL)


def _bare(settings: Settings, topic: str, alias: str, count: int) -> float:
    own = named(settings, topic, alias)
    with unindexed():
        asyncio.run(create_index(own))
    url = str(own.elasticsearch.url).rstrip("/")
    command = [sys.executable, "-m", "bench.bare_loop", own.kafka.bootstrap_servers, topic, url, alias, str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _bare_faust(settings: Settings, topic: str, count: int) -> float:
    """CPU seconds."""
    command = [sys.executable, "-m", "bench.bare_faust", settings.kafka.bootstrap_servers, topic]
    done = subprocess.run([*command, str(PARTITIONS), str(count)], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])
