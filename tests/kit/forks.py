"""Processes of `penstock`, forked from one that has imported everything, which is most of what a start costs.

Each is a process of its own, with its own environment, output and exit code: it can be killed, stopped and limited like
any other. What it takes from the one before the fork are modules. Python's own fork server is behind it.
"""

import asyncio
import faulthandler
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_numbers = itertools.count()
_CONTEXT.set_forkserver_preload(["tests.kit.preloaded"])


class Forked:
    """Like `subprocess.Popen`, as far as tests need it."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], output: Path, errors: Path, change: str = ""
    ) -> None:
        """Start `penstock` with these arguments. `change`: code that is run first, on the modules of that process."""
        for path in (output, errors):
            path.touch()  # the process may be looked at, or killed, before it has done so
        self.args = ["penstock", *arguments]
        parts = (self.args, dict(environment), output, errors, change)
        self._process = _CONTEXT.Process(target=_run, args=parts, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of the last look; minus the signal's number for a process that was killed."""
        return self.poll()

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: int) -> None:
        """To the process, when it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def completed(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    timeout_s: float | None = None,
    change: str = "",
) -> "subprocess.CompletedProcess[str]":
    """Run `penstock` to its end, with its output in files of a folder. Raises subprocess.TimeoutExpired."""
    name = folder / f"command-{next(_numbers)}"
    output, errors = name.with_suffix(".out"), name.with_suffix(".err")
    process = Forked(arguments, environment, output, errors, change)
    try:
        code = process.wait(timeout_s)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, code, output.read_text(), errors.read_text())


def _print_where(*_: object) -> None:
    """Where every thread and every task of the loop stands: what a process that hangs is asked by SIGUSR1."""
    faulthandler.dump_traceback()
    for task in asyncio.all_tasks(asyncio.get_running_loop()):
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


def _run(arguments: list[str], environment: dict[str, str], output: Path, errors: Path, change: str) -> None:
    """In the new process."""
    from agents.main import main
    from tests.kit import memo
    from tests.kit.pace import sitecustomize as pace

    for stream, path in ((sys.stdout, output), (sys.stderr, errors)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, stream.fileno())
        os.close(file)
    signal.signal(signal.SIGUSR1, _print_where)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run in a shell's background, which ignores it
    memo.install(Path(os.environ["TEST_SERVERS"]))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    pace.install()
    exec(change, {"__name__": "change"})  # noqa: S102 - a test's own code
    main()
