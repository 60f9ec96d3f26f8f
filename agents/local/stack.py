"""Up, down, status and wipe of a stack in one folder.

Each server is remembered by pid and start time, so that another process that got the pid later is never
touched. A server's whole process group goes down with it: Elasticsearch's launcher has a child.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agents.local import servers
from agents.local.security import FOLDER, secured
from agents.local.servers import Launch
from agents.progress import Report
from streams.errors import PenstockError

STATE = "state.json"
"""In the folder: the servers that run."""
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A started server. `started_at`: the process's own start time, seconds since the epoch."""

    name: str
    version: str
    port: int
    pid: int
    started_at: float
    log: str
    secure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What `up` needs to know."""

    folder: Path
    cache: Path
    kafka_port: int
    elasticsearch_port: int
    kafka_version: str
    elasticsearch_version: str
    secure: bool = False
    """With TLS and logins, see `agents.local.security`."""


def up(options: StackOptions, report: Report) -> dict[str, float]:
    """Start what is not running and wait until it answers. Returns seconds by server; 0 for one that ran already.

    Raises PenstockError with the reason and the log's place; what this call started is stopped again then.
    """
    running = {server.name: server for server in status(options.folder)}
    _same_place(running, options)
    for server in running.values():  # whoever started it may have been ended meanwhile
        _wait(server, partial(_is_at_its_port, server), partial(_is_gone, server), time.monotonic())
    plans = {
        "kafka": (servers.kafka, options.kafka_port, options.kafka_version, "--kafka-port"),
        "elasticsearch": (
            servers.elasticsearch,
            options.elasticsearch_port,
            options.elasticsearch_version,
            "--elasticsearch-port",
        ),
    }
    wanted = {name: plan for name, plan in plans.items() if name not in running}
    for _, port, _, option in wanted.values():
        servers.require_free(port, option)
    options.folder.mkdir(parents=True, exist_ok=True)
    security = secured(options.folder) if options.secure else None
    launches = {
        name: prepare(options.folder, options.cache, port, version, report, security)
        for name, (prepare, port, version, _) in wanted.items()
    }
    begun = time.monotonic()
    started: dict[str, subprocess.Popen[bytes]] = {}
    seconds = dict.fromkeys(running, 0.0)
    try:
        for name, launch in launches.items():
            started[name] = process = _start(launch)
            _, port, version, _ = wanted[name]
            running[name] = _noted(launch, process, port, version, secure=options.secure)
            _write(options.folder, list(running.values()))
        for name, launch in launches.items():
            _wait(running[name], partial(_is_ready, launch, running[name]), partial(_has_ended, started[name]), begun)
            seconds[name] = time.monotonic() - begun
            started[name].returncode = 0  # it outlives this object: `down` stops it, by pid
    except BaseException:
        stopped = [  # an interrupted start may have noted nothing yet
            running.pop(name) if name in running else _noted(launches[name], process, 0, "", secure=False)
            for name, process in started.items()
        ]
        for server in stopped:  # each is told first: a second signal may end the waiting
            _signal(server, signal.SIGTERM)
        for server in stopped:
            _stop(server)
        _write(options.folder, list(running.values()))
        raise
    return seconds


def down(folder: Path) -> list[str]:
    """Stop every running server of this folder, gently and then for good. Names of those that were stopped."""
    running = status(folder)
    for server in running:
        _signal(server, signal.SIGTERM)
    for server in running:
        _stop(server)
    (folder / STATE).unlink(missing_ok=True)
    return [server.name for server in running]


def status(folder: Path) -> list[Server]:
    """The servers of this folder that are alive."""
    return [server for server in noted(folder) if _group_alive(server)]


def noted(folder: Path) -> list[Server]:
    """Those that were started, and not stopped since: alive or not."""
    path = folder / STATE
    return [Server(**item) for item in json.loads(path.read_text())] if path.exists() else []


def wipe(folder: Path) -> None:
    """Stop the servers and delete their data. Only what `up` made is deleted."""
    down(folder)
    for name in ("kafka", "elasticsearch", FOLDER):
        shutil.rmtree(folder / name, ignore_errors=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _same_place(running: dict[str, Server], options: StackOptions) -> None:
    asked: dict[str, tuple[int, str, bool]] = {
        "kafka": (options.kafka_port, options.kafka_version, options.secure),
        "elasticsearch": (options.elasticsearch_port, options.elasticsearch_version, options.secure),
    }
    for name, server in running.items():
        if (server.port, server.version, server.secure) != asked[name]:
            raise PenstockError(
                f"{name} {server.version} already runs in {options.folder} on port {server.port}, "
                f"{'with' if server.secure else 'without'} --secure: give the same (--{name}-port {server.port}), or "
                f"`penstock local down --dir {options.folder}` first, or choose another --dir"
            )


def _start(launch: Launch) -> subprocess.Popen[bytes]:
    extra: dict[str, Any] = {"user": launch.user} if launch.user is not None else {}
    with launch.log.open("wb") as log:
        return subprocess.Popen(
            launch.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **launch.environment},
            start_new_session=True,
            **extra,
        )


def _noted(launch: Launch, process: "subprocess.Popen[bytes]", port: int, version: str, *, secure: bool) -> Server:
    return Server(
        name=launch.name,
        version=version,
        port=port,
        pid=process.pid,
        started_at=_start_time(process.pid) or 0.0,
        log=str(launch.log),
        secure=secure,
    )


def _is_ready(launch: Launch, server: Server) -> bool:
    return launch.ready() and _is_at_its_port(server)


def _is_gone(server: Server) -> bool:
    return not _group_alive(server)


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


def _wait(server: Server, is_ready: Callable[[], bool], has_ended: Callable[[], bool], begun: float) -> None:
    while not is_ready():
        if has_ended():
            raise PenstockError(f"{server.name} ended at once\n{_tail(Path(server.log))}")
        if time.monotonic() - begun > START_TIMEOUT_S:
            late = f"{server.name} did not answer on port {server.port} within {START_TIMEOUT_S} s"
            raise PenstockError(f"{late}\n{_tail(Path(server.log))}")
        time.sleep(0.1)


def _is_at_its_port(server: Server) -> bool:
    """Whether it is this server that listens there, and not another that was quicker. True where nobody tells."""
    psutil = _psutil()
    try:
        found = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return True
    pids = [one.pid for one in found if one.laddr and one.laddr.port == server.port]
    for pid in pids:
        with suppress(ProcessLookupError):
            if pid is None or os.getpgid(pid) == server.pid:
                return True
    return False


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith("\tat ")][-8:]
    return "\n".join([f"last lines of its log {log}:", *(f"  {line[:300]}" for line in lines)])


def _stop(server: Server) -> None:
    _signal(server, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while _group_alive(server):
        if time.monotonic() > deadline:
            _signal(server, signal.SIGKILL)
        time.sleep(0.05)


def _signal(server: Server, number: signal.Signals) -> None:
    if _group_alive(server):
        os.killpg(server.pid, number)


def _group_alive(server: Server) -> bool:
    """Any process of the server's group that is not a zombie (ours to reap, or init's)."""
    psutil = _psutil()
    if (started := _start_time(server.pid)) is not None and abs(started - server.started_at) > 1:
        return False  # another process has this pid now
    for process in psutil.process_iter(["pid", "status"]):
        try:
            if os.getpgid(process.pid) == server.pid:
                if process.info["status"] != psutil.STATUS_ZOMBIE:
                    return True
                os.waitpid(process.pid, os.WNOHANG)
        except (ProcessLookupError, ChildProcessError):
            continue
    return False


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        raise PenstockError(servers.MISSING) from None
    return psutil


def _start_time(pid: int) -> float | None:
    psutil = _psutil()
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _write(folder: Path, running: list[Server]) -> None:
    path = folder / STATE
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps([asdict(server) for server in running], indent=2) + "\n")
    scratch.replace(path)
