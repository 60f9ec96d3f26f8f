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
EARLY = 3
"""The first windows after a cold start."""


def adaptive(folder: Path, result: dict[str, Any], *, quick: bool) -> None:
    """Two corpora, one thread and all; medians of cold starts. The worst of the four is the ratio."""
    runs, windows = (2, 3) if quick else (4, 8)
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
    """Each cold start works through windows of its own. What it made of a window is held against a fixed budget there.

    The first run finds which fixed budget is best; in the second half of the others, window by window, each is run
    after the other: texts are not equally long everywhere, nor is the machine always equally fast.
    """
    fixed = {budget: Shapes(fixed=budget) for budget in BUDGETS}
    tried: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    early, late = list[float](), list[tuple[float, float]]()
    best = BUDGETS[0]
    for run in range(runs + 1):
        cold = Shapes()
        for number in range(windows):
            start = (run * windows + number) * WINDOW % max(1, len(tokens) - WINDOW)
            window = tokens[start : start + WINDOW]
            found = len(window) / await _time(embedder, cold, window)
            if run == 0 and (number % 3 == 2 or number == windows - 1):
                for budget in BUDGETS:
                    tried[budget].append(found * await _time(embedder, fixed[budget], window) / len(window))
            if run and (number < EARLY or number >= windows // 2):
                pair = found, len(window) / await _time(embedder, fixed[best], window)
                if number < EARLY:
                    early.append(pair[0] / pair[1])
                if number >= windows // 2:
                    late.append(pair)
        if run == 0:
            best = min(BUDGETS, key=lambda budget: statistics.median(tried[budget]))
    return {
        "best_fixed_tokens": best,
        "best_fixed_per_s": round(statistics.median(other for _, other in late), 1),
        "adaptive_per_s": round(statistics.median(own for own, _ in late), 1),
        "over_best_fixed": statistics.median(own / other for own, other in late),
        "first_windows_over_best_fixed": statistics.median(early),
        "budgets": {str(width): tokens for width, tokens in cold.budgets.items()},
    }


async def _time(embedder: OnnxEmbedder, shapes: Shapes, window: Sequence[TokenIds]) -> float:
    embedder.shapes = shapes
    begun = time.monotonic()
    await embedder.embed(window)
    return time.monotonic() - begun
