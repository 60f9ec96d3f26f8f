"""The ONNX session: token ids in, pooled vectors out."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it is read at import, which would write a device id to the home
import onnxruntime as ort

from models.manifest import ONNX, Manifest
from models.runtime import (
    ProviderName,
    choose_provider,
    installed_runtimes,
    prove_provider,
    require_one_runtime,
)
from models.tokens import TokenIds
from streams.batch import plan_batches
from streams.errors import PenstockError
from streams.plan import Vectors


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Session:
    """One model on one execution provider. `embed` blocks and releases the GIL: call it from an owned thread."""

    def __init__(self, folder: Path, manifest: Manifest, *, provider: ProviderName, threads: int | None) -> None:
        """Raises PenstockError when the provider cannot be had or the file is no model."""
        require_one_runtime(installed_runtimes())
        if provider in ("auto", "cuda") and hasattr(ort, "preload_dlls") and "CUDAExecutionProvider" in _available():
            ort.preload_dlls()  # the CUDA libraries that come as wheels
        asked = choose_provider(provider, _available())
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # waiting threads that spin would take the cores from the rest of the pipeline; not slower alone (`make bench`)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(folder / ONNX), options, providers=[asked])
        except Exception as exc:
            raise PenstockError(f"onnxruntime cannot load {folder / ONNX}: {exc}") from exc
        self.provider = prove_provider(asked, self._session.get_providers(), allow_fallback=provider == "auto")
        self._manifest = manifest
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name

    def embed(self, tokens: Sequence[TokenIds], max_tokens: int) -> Vectors:
        """Vectors of all texts, in the order given: float32 (len(tokens), dims).

        Runs length-sorted batches of at most `max_tokens` tokens, padding included.
        Raises ValueError for a text over the model's limit: nothing is ever truncated.
        """
        lengths = [len(ids) for ids in tokens]
        if lengths and max(lengths) > self._manifest.max_tokens:
            raise ValueError(f"{max(lengths)} tokens, the model takes {self._manifest.max_tokens}")
        vectors = np.empty((len(tokens), self._manifest.dims), dtype=np.float32)
        for batch in plan_batches(lengths, max_tokens):
            vectors[batch] = self.run([tokens[index] for index in batch])
        return vectors

    def run(self, batch: Sequence[TokenIds]) -> Vectors:
        """One run of the session over one batch, padded to its longest text."""
        width = max(len(ids) for ids in batch)
        ids = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for row, text in enumerate(batch):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run([self._output], {n: a for n, a in feeds.items() if n in self._inputs})
        return self._pool(hidden, mask)

    def _pool(self, hidden: Vectors, mask: np.ndarray) -> Vectors:
        """Pooling and normalisation of sentence-transformers (`Pooling`, `Normalize`)."""
        if hidden.ndim == 2:  # the graph pools itself
            pooled = hidden
        elif self._manifest.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = mask.astype(np.float32)
            pooled = np.matmul(weights[:, None, :], hidden)[:, 0] / weights.sum(axis=1, keepdims=True)
        if self._manifest.normalize:
            norms = np.linalg.norm(pooled, axis=1, keepdims=True)
            pooled = pooled / np.maximum(norms, 1e-12)
        return np.asarray(pooled, dtype=np.float32)


def _available() -> list[str]:
    return list(ort.get_available_providers())
