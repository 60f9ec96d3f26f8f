"""A worker before it works: stopped at any moment, and waiting for servers that are away."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents.local.servers import free_port
from tests.kit.harness import PENSTOCK

FAUST = [str(Path(sys.executable).with_name("faust")), "-A", "agents", "worker", "-l", "info"]
NOTHING_WORKS_S = 120
"""No test here takes so long: a worker that hangs fails it."""


@pytest.fixture
def silent() -> Iterator[int]:
    """Port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    taken.append(server.accept()[0])
            except OSError:
                return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


@contextmanager
def starting(
    command: list[str], kafka_port: int, models: Path, tmp: Path
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A worker process and its admin port."""
    admin = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
        "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka_port}",
        "PENSTOCK_ELASTICSEARCH__URL": "http://127.0.0.1:1",
        "PENSTOCK_MODEL__DIR": str(models),
        "PENSTOCK_ADMIN__PORT": str(admin),
    }
    with (tmp / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process, admin
    finally:
        process.kill()
        process.wait()


def answer(port: int, path: str) -> tuple[int, list[str]]:
    """Status and reasons of an admin page; status 0 when nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=NOTHING_WORKS_S) as got:
            return got.status, json.loads(got.read()).get("reasons", [])
    except urllib.error.HTTPError as exc:
        return exc.code, json.loads(exc.read())["reasons"]
    except OSError:
        return 0, []


@pytest.mark.parametrize(
    ("command", "number", "doing"),
    [
        ([str(PENSTOCK), "worker"], signal.SIGTERM, ""),
        (FAUST, signal.SIGINT, "Kafka, Elasticsearch and the embedding service, if there is one, are being asked"),
    ],
    ids=["penstock", "faust"],
)
def test_a_worker_that_is_stopped_before_it_begins_ends_with_0_at_once(
    silent: int, model_folder: Path, tmp_path: Path, command: list[str], number: int, doing: str
) -> None:
    """As the first process of a container it would not even be ended by a signal that it has no handler for.

    While it loads the model, or whatever it does; and while the broker takes its time to answer.
    """
    with starting(command, silent, model_folder.parent, tmp_path) as (process, admin):
        deadline = time.monotonic() + NOTHING_WORKS_S
        while True:
            code, reasons = answer(admin, "/readyz")
            if code and doing in reasons[0]:
                break
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (code, answer(admin, "/livez")[0]) == (503, 200)
        process.send_signal(number)
        assert process.wait(20) == 0
    assert (tmp_path / "log").read_text().endswith("penstock: stopped before it began\n")


def test_signals_are_handled_before_anything_is_imported() -> None:
    """Imports take seconds on a busy machine: the handler comes before them."""
    code = (
        "import signal, sys\nsys.argv = ['penstock', 'worker']\n"
        "import agents.main\n"
        "assert not any(name in sys.modules for name in ('click', 'pydantic', 'aiokafka', 'agents.commands'))\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'agents.commands':\n"
        "            signal.raise_signal(signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "agents.main.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "penstock: stopped before it began\n")
