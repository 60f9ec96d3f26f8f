"""Here the model itself is looked at."""

import pytest

from models.onnx.embedder import OnnxEmbedder


@pytest.fixture(scope="session")
def embedder(real_embedder: OnnxEmbedder) -> OnnxEmbedder:
    """The real one, whatever the model's speed in the processes of other tests."""
    return real_embedder
