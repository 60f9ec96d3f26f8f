"""Here the model itself is looked at."""

import pytest

from models.embedder import Embedder


@pytest.fixture(scope="session")
def embedder(real_embedder: Embedder) -> Embedder:
    """The real one, whatever the model's speed in the processes of other tests."""
    return real_embedder
