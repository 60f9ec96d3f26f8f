"""The benchmark: end to end against the model's session alone, on the same chunks, interleaved.

    make bench

Rows: `session` (the ceiling: the raw ONNX session on all chunks, sorted by length, nothing else running but
the idle servers), `end_to_end` (records in Kafka until the last claim: a worker process, a real broker, a
real Elasticsearch on the same machine) and `without_protocol` (the same worker without the registry). Repetitions
alternate; medians with least and greatest. Every repetition's index is checked complete and a sample of its vectors
compared with the session's: a fast wrong row is no row.

Then 10,000 short documents, and the same topic once more from its start with the claims gone (`replay`).
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
from pydantic import AnyHttpUrl

from agents.demo import bundled_model
from agents.elastic import connect
from agents.ingest import publish
from agents.local import ELASTICSEARCH_VERSION, KAFKA_VERSION, stack
from agents.local.servers import free_port
from agents.preflight import create_index, load_model
from agents.settings import Settings, cache_dir, load_settings
from agents.sources import Outgoing
from agents.sources.pydocs import read_modules
from models.embedder import Embedder
from models.export import export_model
from models.manifest import MANIFEST
from streams.record import Document, Record, decode
from streams.split import Chunk, SplitRules, chunk_document

REPETITIONS = 3
DOCUMENTS_CHARS = 600_000  # of the demo's documents: some 1,000 chunks, about 20 s a repetition on two cores
REPLAYED = 10_000
SAMPLE = 50
COMMANDS = {
    "end_to_end": [str(Path(sys.executable).with_name("penstock")), "worker"],
    "without_protocol": [sys.executable, "-m", "bench.without_protocol"],
}
RESULTS = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True, slots=True)
class Corpus:
    """The same documents for every row, and the chunks that a worker makes of them."""

    documents: list[Outgoing]
    chunks: dict[str, Chunk]


def main() -> None:
    """Run all repetitions, print the table, write the JSON."""
    folder = cache_dir() / "bench"
    settings = _settings(load_settings())
    stack.wipe(folder)
    options = stack.StackOptions(
        folder=folder,
        cache=cache_dir(),
        kafka_port=int(settings.kafka.bootstrap_servers.rpartition(":")[2]),
        elasticsearch_port=settings.elasticsearch.url.port or 0,
        kafka_version=KAFKA_VERSION,
        elasticsearch_version=ELASTICSEARCH_VERSION,
    )
    try:
        stack.up(options, lambda *_: None)
        _ensure_model(settings)
        result = measure(settings, folder)
    finally:
        stack.wipe(folder)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{'row':<18} {'chunks/s':>9} {'least':>7} {'greatest':>9}  complete  least cosine")
    for row in result["rows"]:
        print(
            f"{row['name']:<18} {row['chunks_per_s']['median']:>9.1f} {row['chunks_per_s']['min']:>7.1f} "
            f"{row['chunks_per_s']['max']:>9.1f}  {row['complete']!s:<8}  {row['cosine_min']:.6f}"
        )
    for name, ratio in result["ratios"].items():
        print(f"{name} = {ratio:.3f}")
    print(f"written to {RESULTS}")


def measure(settings: Settings, folder: Path) -> dict[str, Any]:
    """Alternate the two rows."""
    embedder = load_model(settings)
    corpus = _corpus(embedder, settings)
    print(f"{len(corpus.documents)} documents, {len(corpus.chunks)} chunks, {REPETITIONS} repetitions")
    session: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cosines: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for repetition in range(REPETITIONS):
        session.append(_session_rate(embedder, corpus, settings))
        print(f"{'session':<18} {session[-1]:8.1f} chunks/s")
        for row, command in COMMANDS.items():
            name = f"bench-{row.replace('_', '-')}-{repetition}"
            rate, cosine = asyncio.run(_end_to_end(settings, embedder, corpus, name, command, folder))
            rates[row].append(rate)
            cosines[row].append(cosine)
            print(f"{row:<18} {rate:8.1f} chunks/s")
    first, again, embedded = asyncio.run(_replay(settings, folder))
    print(
        f"replay of {REPLAYED} unchanged documents: {first:.1f} s, then {again:.1f} s, {embedded:.0f} chunks embedded"
    )
    embedder.close()
    medians = {row: statistics.median(values) for row, values in rates.items()}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
        "corpus": {"documents": len(corpus.documents), "chunks": len(corpus.chunks)},
        "rows": [
            _row("session", session, 1.0),
            *(_row(row, values, min(cosines[row])) for row, values in rates.items()),
        ],
        "replay": {
            "documents": REPLAYED,
            "first_s": round(first, 1),
            "again_s": round(again, 1),
            "chunks_embedded_again": embedded,
        },
        "ratios": {
            "end_to_end_over_ceiling": medians["end_to_end"] / statistics.median(session),
            "end_to_end_over_without_protocol": medians["end_to_end"] / medians["without_protocol"],
            "replay_over_first_pass": first / again,
        },
    }


def _session_rate(embedder: Embedder, corpus: Corpus, settings: Settings) -> float:
    tokens = embedder.tokens.encode([chunk.text for chunk in corpus.chunks.values()])
    begun = time.monotonic()
    embedder.session.embed(tokens, settings.batch.max_tokens)
    return len(tokens) / (time.monotonic() - begun)


async def _end_to_end(
    settings: Settings, embedder: Embedder, corpus: Corpus, name: str, command: list[str], folder: Path
) -> tuple[float, float]:
    """Chunks a second from the first admitted record to the last claim, and the least cosine of a sample."""
    own = _named(settings, topic=name, group=name)
    await publish(own, corpus.documents, max_lag=1_000_000, partitions=4, report=lambda *_: None)
    await create_index(own)
    seconds, _ = await _run(own, command, len(corpus.documents), folder / f"{name}.log")
    cosine = await _check(own, embedder, corpus)
    return len(corpus.chunks) / seconds, cosine


async def _replay(settings: Settings, folder: Path) -> tuple[float, float, float]:
    """Seconds of a first pass over short documents, of a second one without claims, and chunks embedded in that."""
    documents = []
    for number in range(REPLAYED):
        words = " ".join(f"word{(number * i) % 97}" for i in range(30))
        value = orjson.dumps({"text": f"Document {number}: {words}"})
        documents.append(Outgoing(key=f"doc-{number}".encode(), value=value, origin="generated"))
    first = _named(settings, topic="bench-replay", group="bench-replay-1")
    await publish(first, documents, max_lag=1_000_000, partitions=4, report=lambda *_: None)
    await create_index(first)
    command = COMMANDS["end_to_end"]
    seconds, _ = await _run(first, command, REPLAYED, folder / "replay-1.log")
    second = _named(settings, topic="bench-replay", group="bench-replay-2")
    again, embedded = await _run(second, command, REPLAYED, folder / "replay-2.log")
    return seconds, again, embedded


def _named(settings: Settings, *, topic: str, group: str) -> Settings:
    return settings.model_copy(
        update={
            "source": settings.source.model_copy(update={"topic": topic, "group": group}),
            "elasticsearch": settings.elasticsearch.model_copy(update={"alias": topic}),
            "admin": settings.admin.model_copy(update={"port": free_port()}),
        }
    )


async def _run(settings: Settings, command: list[str], documents: int, log: Path) -> tuple[float, float]:
    """Seconds from the first admitted record until all are settled, and chunks embedded."""
    environment = {
        **os.environ,
        "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "PENSTOCK_SOURCE__TOPIC": settings.source.topic,
        "PENSTOCK_SOURCE__GROUP": settings.source.group,
        "PENSTOCK_ELASTICSEARCH__URL": str(settings.elasticsearch.url),
        "PENSTOCK_ELASTICSEARCH__ALIAS": settings.elasticsearch.alias,
        "PENSTOCK_ADMIN__PORT": str(settings.admin.port),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)  # noqa: ASYNC220
    try:
        return await _until_settled(settings, process, documents)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 60)


async def _until_settled(settings: Settings, process: "subprocess.Popen[bytes]", documents: int) -> tuple[float, float]:
    base = f"http://127.0.0.1:{settings.admin.port}"
    begun = None
    async with aiohttp.ClientSession() as http:
        while process.poll() is None:
            await asyncio.sleep(0.05)
            try:
                async with http.get(f"{base}/statusz") as answer:
                    rows = (await answer.json())["partitions"]
                now = time.monotonic()
                if begun is None and any(row["open"] or row["settled_offset"] for row in rows):
                    begun = now
                if begun is not None and sum(row["settled_offset"] for row in rows) == documents:
                    async with http.get(f"{base}/metrics") as answer:
                        lines = (await answer.text()).splitlines()
                    embedded = next(line for line in lines if line.startswith("penstock_chunks_embedded_total "))
                    return now - begun, float(embedded.split()[1])
            except aiohttp.ClientConnectionError:
                continue
    raise RuntimeError("the worker ended early")


async def _check(settings: Settings, embedder: Embedder, corpus: Corpus) -> float:
    async with connect(settings.elasticsearch) as client:
        alias = settings.elasticsearch.alias
        await client.indices.refresh(index=alias)
        count = (await client.count(index=alias, query={"term": {"penstock.stub": False}}))["count"]
        if count != len(corpus.chunks):
            raise RuntimeError(f"{count} chunks in the index, {len(corpus.chunks)} expected")
    ids = list(corpus.chunks)[:: max(1, len(corpus.chunks) // SAMPLE)]
    found = await _vectors(settings, ids)
    expected = embedder.session.embed(embedder.tokens.encode([corpus.chunks[i].text for i in ids]), 1024)
    return float((np.asarray(found, np.float32) * expected).sum(axis=1).min())


async def _vectors(settings: Settings, ids: list[str]) -> list[list[float]]:
    async with connect(settings.elasticsearch) as client:
        answer = await client.search(
            index=settings.elasticsearch.alias,
            query={"ids": {"values": ids}},
            size=len(ids),
            source={"exclude_vectors": False, "includes": ["vector"]},
        )
        by_id = {hit["_id"]: hit["_source"]["vector"] for hit in answer["hits"]["hits"]}
        return [by_id[i] for i in ids]


def _corpus(embedder: Embedder, settings: Settings) -> Corpus:
    rules = SplitRules(
        max_chars=settings.split.max_chars,
        overlap_chars=settings.split.overlap_chars,
        max_tokens=embedder.manifest.max_tokens,
    )
    documents, chunks, size = [], dict[str, Chunk](), 0
    for outgoing in read_modules():
        if size > DOCUMENTS_CHARS:
            break
        record = Record(topic="", partition=0, offset=0, timestamp_ms=0, key=outgoing.key, value=outgoing.value)
        document = decode(record)
        assert isinstance(document, Document)
        made = chunk_document(document, rules, embedder.tokens.count)
        assert isinstance(made, list)
        documents.append(outgoing)
        chunks |= {f"{document.id}#{number}": chunk for number, chunk in enumerate(made)}
        size += len(orjson.loads(outgoing.value or b"")["text"])
    return Corpus(documents, chunks)


def _ensure_model(settings: Settings) -> None:
    if not (settings.model_folder / MANIFEST).exists():
        export_model(
            str(bundled_model()), name=settings.model.name, models=settings.model.dir, cache=cache_dir(), say=print
        ).close()


def _settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}"}),
            "elasticsearch": settings.elasticsearch.model_copy(
                update={"url": AnyHttpUrl(f"http://127.0.0.1:{free_port()}"), "replicas": 0}
            ),
        }
    )


def _row(name: str, rates: list[float], cosine: float) -> dict[str, Any]:
    return {
        "name": name,
        "chunks_per_s": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "cosine_min": cosine,
        "complete": True,
    }


def _machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "python": sys.version.split()[0]}


def _versions() -> dict[str, str]:
    names = ("penstock", "faust-streaming", "aiokafka", "elasticsearch", "onnxruntime", "tokenizers", "numpy")
    return {name: version(name) for name in names} | {
        "kafka": KAFKA_VERSION,
        "elasticsearch-server": ELASTICSEARCH_VERSION,
    }


if __name__ == "__main__":
    main()
