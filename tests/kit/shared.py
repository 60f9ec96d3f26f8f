"""Servers that all test processes of a run share: started by the first that needs them, stopped by the run's own end.

What starts them gives them the mark of the process that distributes the tests (`tests.kit.guard`): they outlive the one
that happened to come first, and end with the run, however it ends. A test that takes a server down has its own.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from agents.local import KAFKA_VERSION, stack
from agents.local.servers import free_port
from agents.settings.environment import cache_dir
from tests.kit import guard
from tests.kit.harness import Servers

FOLDER = "TEST_SERVERS"
MARK = "TEST_SERVERS_MARK"


def begin() -> None:
    """In the process that distributes the tests, after its `guard.begin`, before there are others."""
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="penstock-test-")
    os.environ[MARK] = os.environ[guard.NAME]


def begun_here() -> bool:
    """Whether it was this process that did, which has to `end` it."""
    return FOLDER in os.environ and os.environ[MARK] == os.environ[guard.NAME]


def end() -> None:
    """In the same process, when the others are gone."""
    folder = Path(os.environ.pop(FOLDER))
    for place in folder.iterdir():
        if place.is_dir():
            stack.down(place)
    shutil.rmtree(folder, ignore_errors=True)


def keep_logs() -> Path:
    """Those of the servers that are there now, in a folder that stays."""
    kept, folder = Path(tempfile.mkdtemp(prefix="penstock-logs-")), Path(os.environ[FOLDER])
    for log in folder.rglob("*.log"):
        if "data" in log.parts:  # a segment of a topic
            continue
        target = kept / log.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # rolled meanwhile
            shutil.copy(log, target)
    return kept


@contextmanager
def alone(what: str) -> Iterator[None]:
    """One test process at a time makes what is not there yet: the `model`, or `servers`."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / f".tests-{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shared(version: str, beside: Servers | None = None) -> Servers:
    """A broker, and Elasticsearch of this version; started when they are not there yet. `beside`: with its broker."""
    folder = Path(os.environ[FOLDER]) / version
    ports = folder / "ports.json"
    with alone("servers"):
        if not ports.exists():
            folder.mkdir()
            options = options_in(folder, version)
            if beside:
                options = replace(options, kafka_port=beside.kafka_port)
                rows = json.loads((beside.options.folder / stack.STATE).read_text())
                (folder / stack.STATE).write_text(json.dumps([row for row in rows if row["name"] == "kafka"]))
            mark, os.environ[guard.NAME] = os.environ[guard.NAME], os.environ[MARK]
            try:
                stack.up(options, lambda *_: None)
            finally:
                os.environ[guard.NAME] = mark
            ports.write_text(json.dumps([options.kafka_port, options.elasticsearch_port]))
    options = options_in(folder, version, *json.loads(ports.read_text()))
    return Servers(options=options, shared="PYTEST_XDIST_WORKER" in os.environ)


@contextmanager
def own(version: str) -> Iterator[Servers]:
    """The same, for this process alone."""
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as name:
        options = options_in(Path(name), version)
        try:
            with alone("servers"):
                stack.up(options, lambda *_: None)
            yield Servers(options=options)
        finally:
            stack.down(options.folder)


def options_in(folder: Path, version: str, *ports: int) -> stack.StackOptions:
    """`ports`: of Kafka and Elasticsearch; free ones, else."""
    kafka, elasticsearch = ports or (free_port(), free_port())
    return stack.StackOptions(
        folder=folder,
        cache=cache_dir(),
        kafka_port=kafka,
        elasticsearch_port=elasticsearch,
        kafka_version=KAFKA_VERSION,
        elasticsearch_version=version,
    )
