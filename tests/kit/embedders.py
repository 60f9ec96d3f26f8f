"""The workers' model, in the process of a test."""

from pathlib import Path
from types import MethodType

import pytest

from models.onnx import embedder as embedder_module
from models.onnx.embedder import OnnxEmbedder, load_embedder
from tests.kit.pace import sitecustomize as pace


def load_at(speed: str, folder: Path) -> OnnxEmbedder:
    """A model as workers have it whose MODEL_SPEED is this."""
    if speed != "fast":
        return load_embedder(folder)
    with pytest.MonkeyPatch.context() as patch:
        pace.without_model(embedder_module, patch.setattr)
        loaded = load_embedder(folder)
    loaded.session.run = MethodType(pace.fast, loaded.session)  # type: ignore[method-assign]
    return loaded
