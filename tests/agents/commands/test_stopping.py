"""Commands that Ctrl-C or SIGTERM stops, at any moment: what they end with, say, and leave behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from agents.local.servers import free_port
from agents.settings.environment import CACHE_VARIABLE
from agents.stopping import exit_code

NOTHING_TAKES_S = 120
README = Path(__file__).parents[3] / "README.md"

RUN = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whatever runs the tests does
RAISED = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal({number:d})

sys.meta_path.insert(0, Finder())
from agents.main import main
main()
"""
SERVERS = """
from pathlib import Path
from agents.local import servers
from agents.sources import pydocs

def pretended(name):
    def prepare(folder, *_):
        def ready():
            print("waiting", flush=True)
            return False
        command = [sys.executable, "-c", "import time; time.sleep(600)", "--of", str(folder)]
        return servers.Launch(name=name, command=command, environment={}, user=None, log=folder / name, ready=ready)
    return prepare

servers.kafka, servers.elasticsearch = pretended("kafka"), pretended("elasticsearch")
pydocs.read_modules = list
from agents.main import main
main()
"""
EXPORT = """
import time
from models.export import exporter

def copy(*_):
    print("waiting", flush=True)
    for _ in range(60_000):  # a signal that comes just before a sleep does not end that one
        time.sleep(0.01)

exporter._copy_graph = copy
from agents.main import main
main()
"""
CUT_OFF = """
from agents.local import stack
start_time = stack._start_time

def interrupted(pid):
    stack._start_time = start_time
    print("waiting", flush=True)
    signal.raise_signal({number:d})

stack._start_time = interrupted
"""


@contextmanager
def python(code: str, arguments: list[str], **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs this, as `penstock` with these arguments; it is gone afterwards."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    with subprocess.Popen(
        [sys.executable, "-c", RUN + f"sys.argv = {['penstock', *arguments]!r}\n" + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def silent() -> Iterator[tuple[int, threading.Event]]:
    """Port of a server that takes connections and never answers, and whether it has taken one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken, asked = list[socket.socket](), threading.Event()

        def take() -> None:
            try:
                while True:
                    taken.append(server.accept()[0])
                    asked.set()
            except OSError:
                return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


@pytest.mark.parametrize(
    ("number", "code", "arguments", "module"),
    [
        (signal.SIGINT, 130, ["--help"], "click"),
        (signal.SIGTERM, 143, ["status"], "pydantic"),
        (signal.SIGINT, 130, ["search", "x"], "numpy"),
    ],
)
def test_a_command_that_is_stopped_while_it_is_imported_says_nothing(
    number: int, code: int, arguments: list[str], module: str
) -> None:
    with python(RAISED.format(module=module, number=number), arguments) as process:
        told = process.communicate(timeout=NOTHING_TAKES_S)
        assert (process.returncode, told) == (code, ("", ""))


@pytest.mark.parametrize(
    ("number", "code", "arguments"),
    [
        (signal.SIGTERM, 143, ["search", "x"]),
        (signal.SIGINT, 130, ["index", "list"]),
        (signal.SIGTERM, 143, ["ingest", "files", str(README)]),
        (signal.SIGINT, 130, ["ingest", "files", str(README)]),
    ],
)
def test_a_command_that_is_stopped_while_it_waits_has_no_traceback(
    silent: tuple[int, threading.Event], model_folder: Path, number: int, code: int, arguments: list[str]
) -> None:
    port, asked = silent
    with python(
        "from agents.main import main\nmain()\n",
        arguments,
        PENSTOCK_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{port}",
        PENSTOCK_ELASTICSEARCH__URL=f"http://127.0.0.1:{port}",
        PENSTOCK_MODEL__DIR=str(model_folder.parent),
    ) as process:
        assert asked.wait(NOTHING_TAKES_S)
        process.send_signal(number)
        out, err = process.communicate(timeout=NOTHING_TAKES_S)
        told = [line for line in err.splitlines() if line.strip() and "publishing" not in line]  # a bar stays
        assert (process.returncode, out, told) == (code, "", [])


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ["files", str(README), "--watch", "60"]),
        (0, ["kinesis", "events"]),
        (143, ["kinesis", "events", "--once"]),
    ],
)
def test_what_runs_until_it_is_stopped_ends_in_order(
    silent: tuple[int, threading.Event], code: int, arguments: list[str]
) -> None:
    port, asked = silent
    with python(
        "from agents.main import main\nmain()\n",
        ["ingest", *arguments],
        PENSTOCK_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{port}",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_DEFAULT_REGION="eu-central-1",
        AWS_ACCESS_KEY_ID="id",
        AWS_SECRET_ACCESS_KEY="key",
    ) as process:
        assert asked.wait(NOTHING_TAKES_S)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=NOTHING_TAKES_S)
        assert process.returncode == code, err
        assert "Traceback" not in err


def of(folder: Path) -> list[psutil.Process]:
    """The servers that were started for it."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize(
    ("number", "code", "command", "cut_off"),
    [
        (signal.SIGINT, 130, "demo", False),
        (signal.SIGTERM, 143, "local", False),
        (signal.SIGTERM, 143, "demo", True),
    ],
)
def test_what_starts_servers_stops_them(number: int, code: int, command: str, cut_off: bool, tmp_path: Path) -> None:
    """`cut_off`: before the first one is noted."""
    ports = ["--kafka-port", str(free_port()), "--elasticsearch-port", str(free_port())]
    arguments = ["demo"] if command == "demo" else ["local", "up", *ports]
    before = CUT_OFF.format(number=number) if cut_off else ""
    with python(before + SERVERS, arguments, **{CACHE_VARIABLE: str(tmp_path)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        folder = tmp_path / command
        if not cut_off:
            until = time.monotonic() + NOTHING_TAKES_S
            while len(of(folder)) < 2:  # one is about to become what it was started as
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(number)
        _, err = process.communicate(timeout=NOTHING_TAKES_S)
        assert process.returncode == code, err
        assert "Traceback" not in err
        assert of(folder) == []


def test_an_export_leaves_no_half_a_model(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "onnx").mkdir(parents=True)
    (source / "config.json").write_text('{"hidden_size": 4, "max_position_embeddings": 8}')
    (source / "onnx" / "model.onnx").touch()
    models = tmp_path / "models"
    arguments = ["model", "export", str(source), "--name", "m"]
    with python(EXPORT, arguments, PENSTOCK_MODEL__DIR=str(models), **{CACHE_VARIABLE: str(tmp_path)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        assert len(list(models.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=NOTHING_TAKES_S)
        assert (process.returncode, err.strip(), list(models.iterdir())) == (143, "", [])


def test_what_a_library_makes_of_an_interruption_is_one() -> None:
    def failure(reason: BaseException | None) -> BaseException:
        try:
            raise ImportError("initialization failed") from reason
        except ImportError as exc:
            return exc

    assert exit_code(failure(KeyboardInterrupt())) == 130
    assert exit_code(failure(ValueError())) is None


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As in a script's background: Ctrl-C is for what is before the user."""
    code = (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nimport agents.stopping as s\ns.end_at_once()\ns.begin()\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "try:\n    signal.raise_signal(signal.SIGTERM)\nexcept KeyboardInterrupt as exc:\n    exit(s.exit_code(exc))"
    )
    with python(code, []) as process:
        assert (process.communicate(timeout=NOTHING_TAKES_S), process.returncode) == (("", ""), 143)
