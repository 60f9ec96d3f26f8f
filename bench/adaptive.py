"""The controller of batch shapes from a cold start, over the best fixed shape that a search finds: interleaved."""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.corpus import make_corpus, mixed_texts
from models.onnx.choose import Constraints
from models.onnx.embedder import OnnxEmbedder, load_embedder
from models.onnx.runtime import usable_cores
from streams.shapes import Shapes
from streams.split import TokenIds

BUDGETS = (128, 256, 512, 768, 1024, 1536, 2048, 4096)
WINDOW = 256


def adaptive(folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """Two corpora, one thread and all; medians of cold starts. The worst of the four is the ratio."""
    runs, windows = (2, 3) if quick else (5, 8)
    rows: list[dict[str, Any]] = []
    for threads in (usable_cores(),) if quick else (1, usable_cores()):
        embedder = load_embedder(folder, wanted=Constraints(threads=threads), say=print)
        for name, tokens in _corpora(embedder).items():
            if quick and rows:
                break  # one corpus
            row = asyncio.run(_compare(embedder, tokens, runs, windows))
            rows.append({"corpus": name, "threads": threads, "setup": str(embedder.session.setup), **row})
            print(rows[-1], flush=True)
        embedder.close()
    result["adaptive"] = rows
    result["ratios"]["adaptive_over_best_fixed"] = min(row["over_best_fixed"] for row in rows)


def _corpora(embedder: OnnxEmbedder) -> dict[str, list[TokenIds]]:
    """Long chunks and short messages, in the order that a topic would have them."""
    long = list(make_corpus(embedder, 1000).texts.values())
    short = [text[:200] for text in mixed_texts(long, 200_000)]
    random.Random(1).shuffle(long)
    return {"documents": list(embedder.tokens.encode(long)), "messages": list(embedder.tokens.encode(short))}


async def _compare(embedder: OnnxEmbedder, tokens: Sequence[TokenIds], runs: int, windows: int) -> dict[str, Any]:
    """Of each window every fixed budget runs once, and every cold start runs it in its turn."""
    fixed = {budget: Shapes(fixed=budget) for budget in BUDGETS}
    rates: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    late, early = [], []
    for run in range(runs):
        cold, seconds = Shapes(), 0.0
        found = []
        for number in range(windows):
            start = (run * windows + number) * WINDOW % max(1, len(tokens) - WINDOW)
            window = tokens[start : start + WINDOW]
            adaptive_s = await _time(embedder, cold, window)
            seconds += adaptive_s
            found.append(len(window) / adaptive_s)
            if number % 3 == 2 or number == windows - 1:
                best = max(rates, key=lambda budget: statistics.median(rates[budget] or [0]))
                for budget in BUDGETS if run == 0 or number == windows - 1 else [best]:
                    rates[budget].append(len(window) / await _time(embedder, fixed[budget], window))
        late.append(statistics.median(found[len(found) // 2 :]))
        early.append(statistics.median(found[:3]))
    medians = {budget: statistics.median(values) for budget, values in rates.items()}
    best = max(medians, key=lambda budget: medians[budget])
    return {
        "best_fixed_tokens": best,
        "best_fixed_per_s": round(medians[best], 1),
        "adaptive_per_s": round(statistics.median(late), 1),
        "over_best_fixed": statistics.median(late) / medians[best],
        "first_windows_over_best_fixed": statistics.median(early) / medians[best],
        "budgets": {str(width): tokens for width, tokens in cold.budgets.items()},
    }


async def _time(embedder: OnnxEmbedder, shapes: Shapes, window: Sequence[TokenIds]) -> float:
    embedder.shapes = shapes
    begun = time.monotonic()
    await embedder.embed(window)
    return time.monotonic() - begun
