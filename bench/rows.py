"""The rows that embed: the bare session, Penstock, and what people run today; all on the same texts."""

import asyncio
import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents.elastic.client import connect
from agents.indexing.preflight import create_index
from agents.local.demo import bundled_model
from agents.settings import Settings
from agents.settings.environment import cache_dir
from bench.ceiling import Ceiling, rate_of
from bench.corpus import Corpus
from bench.servers import fill, named
from bench.worker import Measured, measure
from models.cosines import TO_FP32, cosines
from models.export.exporter import make_environment
from models.manifest import ONNX, TOKENIZER
from models.onnx.session import Session
from streams.plan import Vectors
from streams.split import TokenIds

PEERS = Path(__file__).parent / "peers"
SAMPLE = 100


@dataclass
class Row:
    """Chunks a second by repetition, and the least cosine of a sample of its vectors to the reference."""

    name: str
    rates: list[float] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def needed(self) -> float:
        """Least cosine to fp32 that its vectors must have. Peers compute in fp32; on a GPU all rows do in fp16."""
        kind = self.name.rpartition("_")[2]
        return TO_FP32[kind] if kind in TO_FP32 else TO_FP32["fp16" if self.name.startswith("gpu_") else "fp32"]

    @property
    def wrong(self) -> str | None:
        """Why its rate counts for nothing; None when its vectors are right."""
        if (least := min(self.cosines)) >= self.needed:
            return None
        return f"{self.name}: least cosine to fp32 {least:.6f}, needed {self.needed}"

    def as_json(self) -> dict[str, Any]:
        """As the results have it."""
        return {
            "name": self.name,
            "chunks_per_s": {"median": statistics.median(self.rates), "min": min(self.rates), "max": max(self.rates)},
            "cosine_min": min(self.cosines),
            "cosine_needed": self.needed,
            "wrong": self.wrong,
            "complete": True,  # a row that is not raises
            "notes": self.notes,
        }


class Bench:
    """What the rows share. `reference`: vectors of the sampled ids by the fp32 session."""

    def __init__(self, settings: Settings, folder: Path, corpus: Corpus, tokens: Sequence[TokenIds]) -> None:
        self.settings = settings
        self.folder = folder
        self.corpus = corpus
        self.tokens = tokens
        self.sample = list(corpus.texts)[:: max(1, len(corpus.texts) // SAMPLE)]
        self.reference: Vectors = np.zeros((0, 0), dtype=np.float32)
        self._runs = 0

    async def publish(self) -> None:
        """The corpus, once: every row reads the same topic with a group of its own."""
        settings = named(self.settings, "bench")
        await fill(settings, self.corpus.documents, 4)

    def ceiling(self, row: Row, ceiling: Ceiling) -> None:
        """One repetition of the bare session."""
        row.rates.append(rate_of(ceiling, self.tokens))
        row.notes["shape"] = ceiling.shape
        row.cosines.append(self.see(ceiling.session))

    def see(self, session: Session) -> float:
        """Least cosine of the sample by this session; the first one that is seen is the reference."""
        by_id = dict(zip(self.corpus.texts, self.tokens, strict=True))
        return self._cosine(session.embed([by_id[key] for key in self.sample]))

    def penstock(self, row: Row, model: str, environment: dict[str, str]) -> Measured:
        """One repetition end to end."""
        settings = named(self.settings, "bench", self._name(row), model)
        asyncio.run(create_index(settings))
        found = asyncio.run(measure(settings, len(self.corpus.documents), self.folder, environment=environment))
        row.rates.append(len(self.corpus.texts) / found.seconds)
        row.cosines.append(self._cosine(asyncio.run(self._indexed(settings.elasticsearch.alias))))
        row.notes |= {
            "setup": found.status["setup"],
            "idle_share": round(found.idle_share, 4),
            "padding_share": round(found.padding_share, 4),
            "seconds": round(found.seconds, 2),
            "cpu_s": found.cpu_s,
        }
        return found

    def peer(self, row: Row, script: str) -> None:
        """One repetition of a peer that reads the topic and fills an index of its own."""
        name = self._name(row)
        asyncio.run(self._peer_index(name))
        times = self._script(script, name, index=name, mapping=MAPPING)
        row.rates.append(len(self.corpus.texts) / (times["ended"] - times["begun"]))
        row.cosines.append(self._cosine(asyncio.run(self._indexed(name))))

    def fastembed(self, row: Row, onnx: Path) -> None:
        """One repetition of fastembed on texts in memory."""
        name = self._name(row)
        folder = self.folder / "fastembed"
        folder.mkdir(exist_ok=True)
        for file in ("config.json", "special_tokens_map.json", "tokenizer_config.json", TOKENIZER):
            (folder / file).write_bytes((bundled_model() / file).read_bytes())
        configured = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**configured, "model_max_length": 256}))
        (folder / ONNX).write_bytes((onnx / ONNX).read_bytes())
        self._in_memory(row, self._script("fast.py", name, folder=str(folder), texts=self._texts()))

    def sentence_transformers(self, row: Row, device: str) -> None:
        """One repetition of sentence-transformers on texts in memory."""
        sizes = (32, 128, 512, 2048) if device == "cuda" else (32,)
        times = self._script("gpu.py", self._name(row), device=device, texts=self._texts(), batch_sizes=sizes)
        self._in_memory(row, times)
        row.notes["batch_size"] = times["batch_size"]

    def _texts(self) -> str:
        file = self.folder / "texts.json"
        file.write_text(json.dumps(list(self.corpus.texts.values())))
        return str(file)

    def _in_memory(self, row: Row, times: dict[str, Any]) -> None:
        row.rates.append(len(self.corpus.texts) / (times["ended"] - times["begun"]))
        by_id = dict(zip(self.corpus.texts, times["vectors"], strict=True))
        row.cosines.append(self._cosine(np.asarray([by_id[key] for key in self.sample], dtype=np.float32)))

    def _script(self, script: str, name: str, **more: Any) -> Any:
        job, result = self.folder / f"{name}.json", self.folder / f"{name}-result.json"
        python = make_environment(cache_dir(), "peers", (PEERS / "requirements.txt").read_bytes(), print)
        job.write_text(
            json.dumps(
                {
                    "broker": self.settings.kafka.bootstrap_servers,
                    "topic": "bench",
                    "group": name,
                    "elasticsearch": str(self.settings.elasticsearch.url).rstrip("/"),
                    "model": str(bundled_model()),
                    "chunks": len(self.corpus.texts),
                    "result": str(result),
                    **more,
                }
            )
        )
        with (self.folder / f"{name}.log").open("wb") as log:
            done = subprocess.run([python, PEERS / script, job], stdout=log, stderr=log, timeout=1800, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{script} failed:\n{(self.folder / f'{name}.log').read_text()[-2000:]}")
        return json.loads(result.read_text())

    def _name(self, row: Row) -> str:
        self._runs += 1
        return f"bench-{row.name.replace('_', '-')}-{self._runs}"

    def _cosine(self, vectors: Vectors) -> float:
        if not self.reference.size:
            self.reference = vectors
        return float(cosines(vectors, self.reference).min())

    async def _peer_index(self, name: str) -> None:
        async with connect(self.settings.elasticsearch) as client:
            await client.indices.create(index=name, **MAPPING)

    async def _indexed(self, index: str) -> Vectors:
        """Vectors of the sample. Raises RuntimeError when the index is not complete."""
        async with connect(self.settings.elasticsearch) as client:
            await client.indices.refresh(index=index)
            count = (await client.count(index=index))["count"]
            if count != len(self.corpus.texts):
                raise RuntimeError(f"{count} chunks in {index}, {len(self.corpus.texts)} expected")
            found = await client.search(
                index=index,
                query={"ids": {"values": self.sample}},
                size=len(self.sample),
                source={"exclude_vectors": False, "includes": ["vector"]},
            )
        by_id = {hit["_id"]: hit["_source"]["vector"] for hit in found["hits"]["hits"]}
        return np.asarray([by_id[key] for key in self.sample], dtype=np.float32)


MAPPING: dict[str, Any] = {
    "mappings": {
        "properties": {
            "id": {"type": "keyword"},
            "text": {"type": "text"},
            "vector": {
                "type": "dense_vector",
                "dims": 384,
                "similarity": "cosine",
                "index_options": {"type": "int8_hnsw", "m": 16, "ef_construction": 100},
            },
        }
    },
    "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "1s"},
}
"""The same index options as Penstock's."""
