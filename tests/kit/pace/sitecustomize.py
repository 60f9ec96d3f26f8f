"""How fast the model is in a process under test. Python imports this by itself where PYTHONPATH names its folder;
a process that is forked with everything imported calls `install`.

    MODEL_GATE=file          batches wait before the model until the file lets them through: `tests.kit.harness.Gate`
    MODEL_SPEED=slow|fast    slow: every run takes three times as long. fast: there is no session, and runs take no time

Fast vectors are the mean of the model's own word embeddings: another model, but a deterministic one that has the same
size and knows likeness, so that whatever is asserted of vectors, searches and repairs is asserted of these as well.
"""

import asyncio
import importlib.machinery
import importlib.util
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

LOOK_EVERY_S = 0.02
TABLE = "embeddings.word_embeddings.weight"


def install() -> None:
    """As the environment has it: in the modules that are there, and in the others when they come."""
    if speed():
        _change("models.onnx.embedder", at_speed)
    if os.environ.get("MODEL_GATE"):
        _change("agents.indexing.stages", gated)


def _change(name: str, change: Callable[[Any], None]) -> None:
    if name in sys.modules:
        change(sys.modules[name])
    else:
        sys.meta_path.insert(0, Finder(name, change))


class Finder(MetaPathFinder):
    """Changes a module when it is imported, and costs a process that never imports it nothing."""

    def __init__(self, name: str, change: Callable[[Any], None]) -> None:
        self._name = name
        self._change = change

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def speed() -> str:
    """Of the model in this run of the tests; empty: as it is."""
    return os.environ.get("MODEL_SPEED", "")


def at_speed(embedder: Any) -> None:
    """Of `models.onnx.embedder`."""
    session = embedder.Session
    if speed() == "slow":
        session.run = slow(session.run)
    if speed() == "fast":
        without_model(embedder)


def without_model(embedder: Any, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Of `models.onnx.embedder`: there is no session, and runs take no time. `put`: such as one that can be undone."""
    put(embedder.Session, "__init__", no_session)
    put(embedder.Session, "run", fast)
    put(embedder, "golden_cosine", lambda *_: 1.0)


def gated(stages: Any) -> None:
    """Of `agents.indexing.stages`: batches wait in the order in which they were begun, though two may be under way.

    While one does, there is a file named after the gate and this process.
    """
    begin, embed = stages.Stages.begin, stages.Stages.embed
    gate = Path(os.environ["MODEL_GATE"])
    held = Path(f"{gate}.{os.getpid()}")
    numbers = itertools.count()
    begun: dict[int, int] = {}
    waiting: set[int] = set()

    def closed(number: int) -> bool:
        is_closed = number >= float(gate.read_text())
        (waiting.add if is_closed else waiting.discard)(number)
        if waiting:
            held.touch()
        else:
            held.unlink(missing_ok=True)
        return is_closed

    async def numbered(self: Any, works: Any) -> Any:
        begun[id(works)] = next(numbers)
        return await begin(self, works)

    async def let_through(self: Any, works: Any) -> Any:
        number = begun.pop(id(works))
        while closed(number):  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(LOOK_EVERY_S)
        return await embed(self, works)

    stages.Stages.begin, stages.Stages.embed = numbered, let_through


def slow(run: Callable[..., Any]) -> Callable[..., Any]:
    """`Session.run` that takes three times as long."""

    def longer(self: Any, batch: Any) -> Any:
        begun = time.monotonic()
        made = run(self, batch)
        time.sleep(2 * (time.monotonic() - begun))
        return made

    return longer


def no_session(self: Any, _: Path, manifest: Any, setup: Any) -> None:
    """`Session.__init__` that loads no model."""
    from models.onnx.widths import UNIT, Widths, bounds_up_to

    self.setup = setup
    self.widths = Widths(bounds=bounds_up_to(manifest.max_tokens, UNIT), exact=False)
    self._manifest = manifest


def fast(self: Any, batch: Sequence[Any]) -> Any:
    """`Session.run` without a model. Pooling "cls" weighs early words more: other vectors, as for a real model."""
    import numpy as np

    words, usual = _words()
    rows = []
    for ids in batch:
        inner = ids[1:-1] if len(ids) > 2 else ids
        weights = np.ones(len(inner)) if self._manifest.pooling != "cls" else 1 / np.arange(1, len(inner) + 1)
        rows.append(((words[inner] - usual) * weights[:, None]).sum(axis=0))
    found = np.asarray(rows)
    return (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)).astype(np.float32)


@cache
def _words() -> Any:
    """The model's table of word embeddings (words, dims), and about its mean."""
    import numpy as np

    from agents.local.demo import bundled_model

    path = Path(str(bundled_model())) / "model.safetensors"
    with path.open("rb") as file:  # https://github.com/huggingface/safetensors#format
        size = int.from_bytes(file.read(8), "little")
        place = json.loads(file.read(size))[TABLE]
    begin, _ = place["data_offsets"]
    table = np.memmap(path, np.dtype("<f4"), "r", 8 + size + begin, tuple(place["shape"]))
    return table, table[1000:3000].mean(axis=0)


if __name__ == "sitecustomize":
    install()
