"""Worlds with two models, or with a service's."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.settings.environment import cache_dir
from tests.conftest import speed
from tests.kit import wordllama
from tests.kit.harness import Servers, World, world_on
from tests.kit.service import Service, added, serving
from tests.kit.two_models import SECOND, second_model


@pytest.fixture
def two(request: pytest.FixtureRequest, servers: Servers, model_folder: Path, tmp_path: Path) -> Iterator[World]:
    """A world with two models."""
    yield from _two(request, servers, model_folder, tmp_path)


@pytest.fixture
def two_on_8(request: pytest.FixtureRequest, servers8: Servers, model_folder: Path, tmp_path: Path) -> Iterator[World]:
    """The same on Elasticsearch 8."""
    yield from _two(request, servers8, model_folder, tmp_path)


def _two(request: pytest.FixtureRequest, servers: Servers, model_folder: Path, tmp_path: Path) -> Iterator[World]:
    models = tmp_path / "models"
    models.mkdir()
    (models / model_folder.name).symlink_to(model_folder)
    second_model(model_folder, models / SECOND)
    with world_on(servers, models / model_folder.name, tmp_path, speed(request)) as made:
        yield made


@pytest.fixture
def service() -> Iterator[Service]:
    """An embedding service of its own."""
    with serving() as made:
        yield made


@pytest.fixture
def served(service: Service, servers: Servers, tmp_path: Path) -> Iterator[World]:
    """A world whose model is the service's."""
    added(service, tmp_path / "models")
    with world_on(servers, tmp_path / "models" / "served", tmp_path) as made:
        made.use_model("served")
        yield made


@pytest.fixture(scope="session")
def quick_model() -> Path:
    """Of static vectors, hundreds of times as fast as the other one; fetched once."""
    try:
        return wordllama.wordllama(cache_dir() / "test-models")
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"{wordllama.REQUIREMENTS[0]} cannot be installed here: {exc}")


@pytest.fixture
def two_real(servers: Servers, model_folder: Path, quick_model: Path, tmp_path: Path) -> Iterator[World]:
    """A world with two real models, as they are."""
    models = tmp_path / "models"
    models.mkdir()
    for folder in (model_folder, quick_model):
        (models / folder.name).symlink_to(folder)
    with world_on(servers, models / model_folder.name, tmp_path) as made:
        yield made
