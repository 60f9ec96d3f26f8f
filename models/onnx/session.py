"""The ONNX session: token ids in, pooled vectors out."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it is read at import, which would write a device id to the home
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.manifest import ONNX, Manifest
from models.onnx.bound import POOLING, Bound, Ids
from models.onnx.runtime import PROVIDERS, Setup, computes_bf16, prove_provider
from models.onnx.widths import UNIT, Widths, bounds_up_to
from streams.errors import PenstockError
from streams.plan import Vectors
from streams.runs import plan_runs
from streams.split import TokenIds

_NO_MEMORY = re.compile(r"allocat|out of memory|bad_alloc|ALLOC_FAILED", re.IGNORECASE)
_ERRORS = (ort_errors.Fail, ort_errors.RuntimeException, ort_errors.EPFail, RuntimeError)
ROWS = {"cuda": 8}
"""Texts of a run are rounded up to a multiple: buffers on a GPU are kept by shape."""
WIDTHS = {"openvino": UNIT, "cuda": 2 * UNIT}
"""Tokens of a run too, and OpenVINO prepares its kernels anew for every shape that it has not met; the plain CPU
provider takes any width."""


def available_providers() -> list[str]:
    """Execution providers of the installed runtime."""
    return list(ort.get_available_providers())


class Session:
    """One model, set up in one way. `run` may be called by as many threads at a time as the setup has lanes."""

    def __init__(self, folder: Path, manifest: Manifest, setup: Setup) -> None:
        """Raises PenstockError when the provider cannot be had or the file is no model."""
        options = ort.SessionOptions()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # waiting threads that spin would take the cores from the rest of the pipeline; not slower alone (`make bench`)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if setup.provider == "cuda":
            ort.preload_dlls()  # the CUDA libraries that come as wheels
        else:
            options.intra_op_num_threads = setup.threads
        try:
            self._session = ort.InferenceSession(
                str(folder / ONNX), options, providers=[(PROVIDERS[setup.provider], _provider_options(setup))]
            )
        except Exception as exc:
            raise PenstockError(f"onnxruntime cannot load {folder / ONNX} on {setup.provider}: {exc}") from exc
        prove_provider(setup.provider, self._session.get_providers())
        self.setup = setup
        self._manifest = manifest
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name
        self._rows = ROWS.get(setup.provider, 1)
        unit = WIDTHS.get(setup.provider)
        self.widths = Widths(bounds=bounds_up_to(manifest.max_tokens, unit or UNIT), exact=unit is None)
        self._bound = bind(self._session, manifest, "cuda") if setup.provider == "cuda" else None

    @property
    def dims(self) -> int:
        """Width of a vector."""
        return self._manifest.dims

    def pad_past(self, bounds: Iterable[int]) -> None:
        """From now on no run is made in these classes of widths: its texts are padded to the next one that is right."""
        self.widths = replace(self.widths, refused=frozenset(bounds))

    def embed(self, tokens: Sequence[TokenIds], max_tokens: int = 1024) -> Vectors:
        """Vectors of all texts, in the order given: float32 (len(tokens), dims). One run after the other.

        Raises ValueError for a text over the model's limit: nothing is ever truncated.
        """
        vectors = np.empty((len(tokens), self._manifest.dims), dtype=np.float32)
        for batch in plan_runs([len(ids) for ids in tokens], lambda _: max_tokens):
            vectors[batch] = self.run([tokens[index] for index in batch])
        return vectors

    def run(self, batch: Sequence[TokenIds]) -> Vectors:
        """One run over one batch, padded to its longest text or beyond. Blocks, and releases the GIL.

        Raises ValueError for a text over the model's limit, MemoryError when the batch does not fit.
        """
        longest = max(len(ids) for ids in batch)
        if longest > self._manifest.max_tokens:
            raise ValueError(f"{longest} tokens, the model takes {self._manifest.max_tokens}")
        shape = -(-len(batch) // self._rows) * self._rows, self.widths.of(longest)
        try:
            feeds = padded(batch, shape)
            if self._bound is not None:
                return self._normalized(self._bound.run(feeds)[: len(batch)])
            (hidden,) = self._session.run([self._output], {n: a for n, a in feeds.items() if n in self._inputs})
        except _ERRORS as exc:
            if _NO_MEMORY.search(str(exc)):
                raise MemoryError(f"{len(batch)} texts of {longest} tokens: {str(exc)[:200]}") from exc
            raise
        return self._normalized(self._pooled(hidden, feeds["attention_mask"])[: len(batch)])

    def _pooled(self, hidden: Vectors, mask: Ids) -> Vectors:
        """Pooling of sentence-transformers (`Pooling`)."""
        if hidden.ndim == 2:  # the graph pools itself
            return hidden
        if self._manifest.pooling == "cls":
            return hidden[:, 0]
        weights = mask.astype(np.float32)
        sums = np.matmul(weights[:, None, :], hidden)[:, 0]
        return np.asarray(sums / np.maximum(weights.sum(axis=1, keepdims=True), 1))

    def _normalized(self, pooled: Vectors) -> Vectors:
        """As sentence-transformers does (`Normalize`), where the model has it."""
        if self._manifest.normalize:
            pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return np.asarray(pooled, dtype=np.float32)


def padded(batch: Sequence[TokenIds], shape: tuple[int, int]) -> dict[str, Ids]:
    """What the model may ask for, int64, of this shape: a text a row, zeros behind it and in the rows left over."""
    lengths = np.zeros(shape[0], dtype=np.int64)
    lengths[: len(batch)] = [len(ids) for ids in batch]
    inside = np.arange(shape[1]) < lengths[:, None]
    ids = np.zeros(shape, dtype=np.int64)
    ids[inside] = np.concatenate(batch)
    return {"input_ids": ids, "attention_mask": inside.astype(np.int64), "token_type_ids": np.zeros_like(ids)}


def bind(session: ort.InferenceSession, manifest: Manifest, device: str) -> Bound | None:
    """The session on a device; None where it pools itself, or has other hidden states than float32."""
    output = session.get_outputs()[0]
    if output.type != "tensor(float)" or len(output.shape) != 3:
        return None
    pooling = ort.InferenceSession(str(POOLING), providers=session.get_providers()[:1])
    return Bound(session, pooling, output="cls" if manifest.pooling == "cls" else "mean", device=device)


def _mixes_bf16(setup: Setup) -> bool:
    """What an int8 graph leaves in floating point is faster in bf16, at the same quality (measured: ADR 11)."""
    return setup.precision == "int8" and computes_bf16()


def _provider_options(setup: Setup) -> dict[str, Any]:
    if setup.provider == "cuda":
        return {"arena_extend_strategy": "kSameAsRequested"}  # it would double, and be short of memory early
    if setup.provider != "openvino":
        return {}
    device = {
        "INFERENCE_PRECISION_HINT": "bf16" if setup.precision == "bf16" or _mixes_bf16(setup) else "f32",
        "INFERENCE_NUM_THREADS": str(setup.lanes * setup.threads),
        "NUM_STREAMS": str(setup.lanes),
    }
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": device})}
