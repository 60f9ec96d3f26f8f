"""What a batch costs: `penstock backfill` by Beam's own runner, in one process, over the bare session; and once more.

CPU seconds of the batch with all that it starts, whatever else the machine does: model loading, tokenizing, Kafka and
Elasticsearch's client among them; the servers' own not. The session runs the same texts, tokenised and sorted before.
"""

import asyncio
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

from agents.operations.rewind import rewind
from agents.settings import Settings
from bench.ceiling import BUDGETS, find_ceiling, rate_of
from bench.corpus import make_corpus
from bench.servers import environment_of, fill, named
from models.manifest import read_manifest
from models.onnx.choose import Constraints
from models.onnx.embedder import load_embedder
from models.onnx.runtime import ProviderName

CHUNKS = 20_000
PARTITIONS = 4
BINARY = Path(__file__).parents[1] / ".venv-beam" / "bin" / "penstock"
PROVIDER: ProviderName = "cpu"
"""What Beam's environment has."""


def batch(settings: Settings, result: dict[str, Any]) -> None:
    """`batch_over_session`: CPU seconds; `rerun_over_first`: how much faster, over a topic that is settled."""
    folder = settings.model.dir / settings.model.name
    embedder = load_embedder(folder, wanted=Constraints(provider=PROVIDER, precision="fp32"), say=print)
    corpus = make_corpus(embedder, CHUNKS)
    tokens = embedder.tokens.encode(list(corpus.texts.values()))
    embedder.close()
    some = tokens[:: max(1, len(tokens) // 200)]
    ceiling = find_ceiling(folder, read_manifest(folder), "fp32", some, provider=PROVIDER, budgets=BUDGETS[:4])
    begun = time.process_time()
    rate = rate_of(ceiling, tokens)
    session_s = time.process_time() - begun
    print(f"session: {ceiling.shape}, {rate:.0f} chunks/s, {session_s:.0f} CPU s", flush=True)
    own = named(settings, "batch")
    asyncio.run(fill(own, corpus.documents, PARTITIONS))
    first = _backfill(own)
    asyncio.run(rewind(own, offset=0))
    again = _backfill(own, "--in-place")
    found = {
        "documents": len(corpus.documents),
        "chunks": len(tokens),
        "session": {"shape": ceiling.shape, "chunks_per_s": round(rate), "cpu_s": round(session_s, 1)},
        "first": first,
        "again": again,
    }
    result["batch"] = found
    result["ratios"]["batch_over_session"] = first["cpu_s"] / session_s
    result["ratios"]["rerun_over_first"] = first["seconds"] / again["seconds"]
    print(found, result["ratios"], flush=True)


def _backfill(settings: Settings, *options: str) -> dict[str, Any]:
    more = {"ELASTICSEARCH__REPLICAS": "0", "MODEL__PROVIDER": PROVIDER, "MODEL__PRECISION": "fp32"}
    environment = environment_of(settings, more)
    before, begun = _children_s(), time.monotonic()
    done = subprocess.run([BINARY, "backfill", "--json", *options], env=environment, check=True, capture_output=True)
    seconds, cpu_s = time.monotonic() - begun, _children_s() - before
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(done.stdout.decode(), f"{seconds:.1f} s, {cpu_s:.1f} CPU s", flush=True)
    return {"seconds": round(seconds, 1), "cpu_s": round(cpu_s, 1), "peak_rss_mib": round(peak)}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
