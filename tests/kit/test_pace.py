"""What holds the model back under test, or makes it fast: other tests rely on it."""

import asyncio
import os
from pathlib import Path
from types import MethodType, SimpleNamespace

import numpy as np
import pytest

from models.onnx.embedder import OnnxEmbedder, load_embedder
from tests.kit.harness import Gate, until
from tests.kit.pace import sitecustomize as pace


def test_batches_pass_the_gate_in_the_order_in_which_they_were_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []

    class Stages:
        async def begin(self, works: list[str]) -> None:
            await asyncio.sleep(0.05 if works == ["first"] else 0)

        async def embed(self, works: list[str]) -> None:
            passed.extend(works)

    gate = Gate(tmp_path / "gate")
    monkeypatch.setenv("MODEL_GATE", gate.environment["MODEL_GATE"])
    pace.gated(SimpleNamespace(Stages=Stages))
    held = tmp_path / f"gate.{os.getpid()}"

    async def through(works: list[str]) -> None:
        stages = Stages()
        await stages.begin(works)
        await stages.embed(works)

    async def is_held() -> bool:
        return held.exists()

    async def has_passed() -> bool:
        return bool(passed)

    async def scenario() -> None:
        tasks = [asyncio.create_task(through([name])) for name in ("first", "second", "third")]
        await until(is_held)
        assert passed == []
        gate.let(1)
        await until(has_passed)
        assert (passed, held.exists()) == (["first"], True)
        gate.open()
        await asyncio.gather(*tasks)
        assert not held.exists()

    asyncio.run(scenario())
    assert sorted(passed) == ["first", "second", "third"]


def test_fast_vectors_are_right_in_size_and_know_likeness(model_folder: Path, real_embedder: OnnxEmbedder) -> None:
    quick = load_embedder(model_folder)
    quick.session.run = MethodType(pace.fast, quick.session)  # type: ignore[method-assign]
    texts = ["a whale is an animal of the sea", "mammals of the sea", "a turbine turns power into rotation", ""]
    whale, mammals, turbine, nothing = quick.session.embed(quick.tokens.encode(texts))
    assert whale.shape == nothing.shape == (real_embedder.manifest.dims,)
    assert np.linalg.norm(whale) == pytest.approx(1, abs=1e-5)
    assert whale @ mammals > whale @ turbine
    assert np.isfinite(nothing).all()
    quick.close()
