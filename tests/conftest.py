"""Real servers and the real model for the tests that need them; each started once a run, stopped by pid."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from agents.local.demo import bundled_model
from agents.settings.environment import cache_dir
from models.export.exporter import ensure_model
from models.manifest import read_manifest
from models.onnx.choose import Constraints, choose
from models.onnx.embedder import OnnxEmbedder
from tests.kit import guard, shared
from tests.kit.embedders import load_at
from tests.kit.harness import Servers, World, world_on
from tests.kit.pace import sitecustomize as pace

collect_ignore = [] if os.environ.get("CHAOS") else ["chaos"]  # `make chaos`: what takes minutes
MODEL = "all-MiniLM-L6-v2"

# the first draw of a text builds unicode tables: slow once, and no fault of the test
hypothesis_settings.register_profile("penstock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("penstock")

KILLERS = ("test_servers_killed",)
"""Files that say `KILLS_SERVERS = True`: one process runs them, on one stack of its own."""
EXPORTS = "test_model"
"""The file that begins with the model, where there is none yet."""
LONG = (
    *KILLERS,
    "test_logs",
    "test_generations",
    "test_rebuilds",
    "test_salvage",
    "test_process_faults",
    "test_epochs",
    "test_security",
    "test_ordinary_life",
    "test_faults",
    "test_kinesis",
    "test_stores",
    "test_web",
    "test_serve",
    "test_source_letters",
    "test_services",
    "test_verify",
    "test_simulation",
)
"""Files of tests that take longest, the longest first."""


def pytest_configure() -> None:
    """In the process that distributes the tests, and in each that runs some."""
    guard.begin()
    if shared.FOLDER not in os.environ:  # `tests.mutate` has servers for all its runs
        shared.begin()


def pytest_unconfigure() -> None:
    """In both."""
    if shared.begun_here():
        shared.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first: eight processes share the work, and none should wait for the others at the end.

    Where servers and the model have to be fetched, which takes minutes, two begin with that, and the others with what
    needs neither.
    """
    cold = not (cache_dir() / "models" / MODEL).exists()

    def place(item: pytest.Item) -> tuple[bool, bool, int]:
        name, folder = item.path.stem, item.path.relative_to(Path(__file__).parent).parts[0]
        fetches = name in KILLERS or (cold and name == EXPORTS)
        waits = folder in ("stack", "models")
        return not fetches, waits == cold, LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # untyped
    """A file is run by one process, and so are those that take servers down; worlds of the simulation by any."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        if Path(file).stem in KILLERS:
            return KILLERS[0]
        return nodeid if Path(file).stem == "test_simulation" else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """With `--dist loadfile`, as `make test` has it."""
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported model, proved as the tests run it; exported when the cache has none (minutes, the first time)."""
    folder = cache_dir() / "models" / MODEL
    with shared.alone("model"):
        ensure_model(str(bundled_model()), name=MODEL, models=folder.parent, cache=cache_dir(), say=print)
        choose(folder, read_manifest(folder), Constraints(), say=print)  # before a test puts a model in its place
    if not pace.speed():
        return folder
    paced = tmp_path_factory.mktemp("models") / MODEL  # what is measured of a model at another speed stays here
    paced.mkdir()
    for path in folder.iterdir():
        if path.suffix == ".json":
            shutil.copy(path, paced)
        else:
            (paced / path.name).symlink_to(path)
    return paced


def speed(request: pytest.FixtureRequest) -> str:
    """Of the model in the processes under test. A module of faults has `MODEL_SPEED = "fast"`: it needs no real one."""
    return pace.speed() or getattr(request.module, "MODEL_SPEED", "")


@pytest.fixture(scope="session")
def real_embedder(model_folder: Path) -> Iterator[OnnxEmbedder]:
    loaded = load_at("", model_folder)
    yield loaded
    loaded.close()


@pytest.fixture(scope="session")
def fast_embedder(model_folder: Path) -> Iterator[OnnxEmbedder]:
    loaded = load_at("fast", model_folder)
    yield loaded
    loaded.close()


@pytest.fixture
def embedder(request: pytest.FixtureRequest) -> OnnxEmbedder:
    """The model of the workers, in this process."""
    found: OnnxEmbedder = request.getfixturevalue("fast_embedder" if speed(request) == "fast" else "real_embedder")
    return found


@pytest.fixture(scope="session")
def shared_servers() -> Servers:
    """A broker and Elasticsearch 9, of all test processes."""
    return shared.shared("9.2.4")


@pytest.fixture(scope="session")
def own_servers() -> Iterator[Servers]:
    """The same of this process alone."""
    with shared.own("9.2.4") as found:
        yield found


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Servers:
    """A broker and Elasticsearch 9. A module whose tests take them down has its own: `KILLS_SERVERS = True`."""
    own = getattr(request.module, "KILLS_SERVERS", False)
    found: Servers = request.getfixturevalue("own_servers" if own else "shared_servers")
    return found


@pytest.fixture(scope="session")
def servers8(shared_servers: Servers) -> Servers:
    """The same broker, and Elasticsearch 8, of all test processes."""
    return shared.shared("8.19.3", beside=shared_servers)


@pytest.fixture(params=["9.2.4", "8.19.3"])
def either(request: pytest.FixtureRequest) -> Servers:
    """Each supported major of Elasticsearch in turn."""
    found: Servers = request.getfixturevalue("servers" if request.param == "9.2.4" else "servers8")
    return found


@pytest.fixture
def world(request: pytest.FixtureRequest, servers: Servers, model_folder: Path, tmp_path: Path) -> Iterator[World]:
    """A topic, a group and an alias of the test's own, on Elasticsearch 9."""
    with world_on(servers, model_folder, tmp_path, speed(request)) as made:
        yield made


@pytest.fixture
def world_on_either(
    request: pytest.FixtureRequest, either: Servers, model_folder: Path, tmp_path: Path
) -> Iterator[World]:
    """The same on each major in turn."""
    with world_on(either, model_folder, tmp_path, speed(request)) as made:
        yield made
