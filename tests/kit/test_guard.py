"""The tests' own: nothing that they start outlives them, not even when they are killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.kit.guard import NAME, left_behind

STARTED = """
import os, subprocess, sys
from tests.kit import guard
guard.begin()
subprocess.Popen(["sleep", "600"], start_new_session=True)
print(os.environ[guard.NAME], flush=True)
sys.stdin.read()
"""


def test_what_was_started_ends_with_a_process_that_is_killed() -> None:
    command = [sys.executable, "-c", STARTED]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if name != NAME},
    ) as process:
        assert process.stdout is not None
        mark = process.stdout.readline().strip()
        until(lambda: len(left_behind(mark)) == 1)  # its environment is there a moment after it has begun
        process.kill()
    until(lambda: not left_behind(mark))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
