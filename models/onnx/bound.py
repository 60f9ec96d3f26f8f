"""Runs of the model on a device of its own memory: hidden states stay there, and one vector a text comes back.

    ids, mask ─► buffers on the device, kept by shape ─► model ─► hidden states, on the device ─► pooling ─► vectors

Without it, copying hidden states back takes a GPU about as long as the model itself: 384 numbers a token.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streams.plan import Vectors

POOLING = Path(__file__).with_name("pooling.onnx")
"""Made by `models/export/pooling_script.py`."""
KEPT = 64
"""Shapes whose buffers are kept, a thread."""

Ids = NDArray[np.int64]


class Bound:
    """A session with its inputs and outputs bound to a device (`cuda`, or `cpu` in tests). Threads may share it."""

    def __init__(
        self, session: ort.InferenceSession, pooling: ort.InferenceSession, *, output: str, device: str
    ) -> None:
        """`output`: `mean` or `cls`. The session's first output has to be float32 (texts, tokens, dims)."""
        self._session = session
        self._pooling = pooling
        self._output = output
        self._inputs = {node.name for node in session.get_inputs()}
        self._hidden = session.get_outputs()[0].name
        self._device = device
        self._thread = threading.local()

    def run(self, feeds: Mapping[str, Ids]) -> Vectors:
        """Pooled vectors, float32 (texts, dims), not normalised. Blocks; raises what the session raises.

        `feeds`: what a model may ask for, int64 (texts, tokens), `attention_mask` among it.
        """
        buffers = self._buffers(feeds["attention_mask"].shape)
        model = self._session.io_binding()
        for name, array in feeds.items():
            if name not in buffers:
                buffers[name] = ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)
            else:
                buffers[name].update_inplace(array)
            if name in self._inputs:
                model.bind_ortvalue_input(name, buffers[name])
        model.bind_output(self._hidden, self._device)
        self._session.run_with_iobinding(model)
        (hidden,) = model.get_outputs()
        pooling = self._pooling.io_binding()
        pooling.bind_ortvalue_input("hidden", hidden)
        pooling.bind_ortvalue_input("mask", buffers["attention_mask"])
        pooling.bind_output(self._output, "cpu")
        self._pooling.run_with_iobinding(pooling)
        (vectors,) = pooling.copy_outputs_to_cpu()
        return np.asarray(vectors, dtype=np.float32)

    def _buffers(self, shape: tuple[int, ...]) -> dict[str, ort.OrtValue]:
        """Of this thread and shape; the one that was used longest ago goes."""
        kept: OrderedDict[tuple[int, ...], dict[str, ort.OrtValue]] = self._thread.__dict__.setdefault(
            "kept", OrderedDict()
        )
        found = kept.setdefault(shape, {})
        kept.move_to_end(shape)
        if len(kept) > KEPT:
            kept.popitem(last=False)
        return found
