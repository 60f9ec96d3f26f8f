"""Ends what a test process has started when that process is gone: killed, or interrupted, it cannot do so itself.

Whatever it starts inherits a mark in its environment, by which a process of its own finds it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

NAME = "STARTED_BY_TESTS"


def begin() -> None:
    """From now on, for as long as this process lives."""
    mark = os.environ[NAME] = str(uuid4())
    command = [sys.executable, "-I", "-S", __file__, mark]
    end, _ = os.pipe()  # the other end is closed with this process
    guard = subprocess.Popen(command, stdin=end, start_new_session=True, env={})
    guard.returncode = 0  # it outlives this object
    os.close(end)


def left_behind(mark: str) -> list[int]:
    """Processes with this mark. Looks into `/proc`, where there is one."""
    wanted, found = f"{NAME}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()  # ends with the process at its other end
    for pid in left_behind(sys.argv[1]):
        os.kill(pid, signal.SIGKILL)
