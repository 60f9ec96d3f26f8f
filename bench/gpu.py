"""The rows of a GPU, texts in memory: bare session, our embedder, sentence-transformers; interleaved."""

import asyncio
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.settings import Settings
from bench.ceiling import find_ceiling
from bench.corpus import make_corpus
from bench.rows import Bench, Row
from models.manifest import read_manifest
from models.onnx.choose import Constraints
from models.onnx.embedder import OnnxEmbedder, load_embedder
from models.onnx.runtime import ProviderName
from streams.split import TokenIds

BUDGETS = (4096, 8192, 16384, 32768, 65536)
WINDOW = 2048
WARM_UP = 20
"""Windows before the first repetition: the shapes are found in them."""


def gpu(
    settings: Settings,
    folder: Path,
    result: dict[str, Any],
    *,
    fp32: str,
    fp16: str,
    quick: bool,
    provider: ProviderName = "cuda",
) -> None:
    """`gpu_end_to_end_over_raw`, `gpu_raw_over_sentence_transformers`. `fp32`, `fp16`: names of the models.

    `provider`: another one than a GPU's tells nothing of speed, only that this code runs.
    """
    reference = load_embedder(settings.model.dir / fp32, wanted=Constraints(precision="fp32"), say=print)
    corpus = make_corpus(reference, 200 if provider == "cpu" else 8000 if quick else 30_000)
    tokens = reference.tokens.encode(list(corpus.texts.values()))
    bench = Bench(settings, folder, corpus, tokens)
    bench.see(reference.session)
    reference.close()
    model = settings.model.dir / fp16
    ceiling = find_ceiling(model, read_manifest(model), "auto", tokens[:4000], provider=provider, budgets=BUDGETS)
    embedder = load_embedder(model, wanted=Constraints(provider=provider), say=print)
    asyncio.run(_embed(embedder, (tokens * WARM_UP)[: WARM_UP * WINDOW]))
    raw, ours, peer = Row("gpu_raw"), Row("gpu_embedder"), Row("gpu_sentence_transformers")
    for _ in range(2 if quick else 3):
        bench.ceiling(raw, ceiling)
        with _utilization(ours.notes, provider):
            seconds = asyncio.run(_embed(embedder, tokens))
        ours.rates.append(len(tokens) / seconds)
        ours.notes |= {"setup": str(embedder.session.setup), "budgets": embedder.shapes.budgets}
        ours.cosines.append(bench.see(embedder.session))
        bench.sentence_transformers(peer, device="cuda" if provider == "cuda" else "cpu")
    embedder.close()
    per_chunk = sum(map(len, tokens)) / len(tokens)
    for row in (raw, ours, peer):
        row.notes["tokens_per_s"] = round(statistics.median(row.rates) * per_chunk)
        result["rows"].append(row.as_json())
        print(result["rows"][-1], flush=True)
    medians = [statistics.median(row.rates) for row in (raw, ours, peer)]
    result["ratios"]["gpu_end_to_end_over_raw"] = medians[1] / medians[0]
    result["ratios"]["gpu_raw_over_sentence_transformers"] = medians[0] / medians[2]


async def _embed(embedder: OnnxEmbedder, tokens: Sequence[TokenIds]) -> float:
    """Seconds; two windows at a time, as the pipeline does."""
    windows = iter([tokens[start : start + WINDOW] for start in range(0, len(tokens), WINDOW)])

    async def work() -> None:
        for window in windows:
            await embedder.embed(window)

    begun = time.monotonic()
    await asyncio.gather(work(), work())
    return time.monotonic() - begun


@contextmanager
def _utilization(notes: dict[str, Any], provider: ProviderName) -> Iterator[None]:
    """Share of the GPU's time in which it computed, as its driver says ten times a second."""
    if provider != "cuda":
        yield
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
        finally:
            process.terminate()
            said = process.communicate()[0].split()
    notes["gpu_busy_share"] = round(statistics.mean(map(float, said)) / 100, 3) if said else None
