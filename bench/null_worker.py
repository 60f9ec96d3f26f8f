"""A worker whose model and tokenizer cost nothing: what is left is Penstock, the broker and Elasticsearch.

For the benchmark only. Every vector is the same, and the index does not index them. With NULL_SETTLES=1 admitted
records are settled at once, without being decoded: what is left then is Faust, admission, ledger and claims.
NULL_SAMPLES names a file for the seconds by stage.
"""

import functools
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import agents.elastic.index
import models.onnx.embedder
from agents.commands import main
from agents.worker.pipeline import Pipeline
from bench import sampling
from models.onnx.session import Session
from models.tokens import Tokens

IDS = np.ones(8, dtype=np.int32)


def _run(self: Session, batch: Sequence[Any]) -> Any:
    return np.full((len(batch), self._manifest.dims), self._manifest.dims**-0.5, dtype=np.float32)


def _encode(_: Tokens, texts: Sequence[str], *, prefix: str | None = None) -> Any:
    return [IDS] * len(texts)


async def _accept(self: Pipeline, positions: Sequence[Any]) -> None:
    await self._assignment.settle([position for position, _ in positions])


if __name__ == "__main__":
    sys.argv = ["penstock", "worker"]
    models.onnx.embedder.golden_cosine = lambda *_: 1.0
    setattr(agents.elastic.index, "differences", lambda *_: [])  # noqa: B010 - unindexed vectors have no similarity
    Session.run = _run  # type: ignore[method-assign]
    Tokens.encode = _encode  # type: ignore[method-assign, assignment]
    if os.environ.get("NULL_SETTLES"):
        Pipeline.accept = _accept  # type: ignore[method-assign]
    if samples := os.environ.get("NULL_SAMPLES"):
        real, started = Pipeline.accept, functools.cache(sampling.start)

        async def accept(self: Pipeline, positions: Sequence[Any]) -> None:
            started(samples)  # from the first records on: imports and the start are not what is looked for
            await real(self, positions)

        Pipeline.accept = accept  # type: ignore[method-assign]
    main()
