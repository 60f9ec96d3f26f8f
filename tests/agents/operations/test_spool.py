"""What a verification remembers is on disk, and gone with its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys, time
from agents.operations.spool import Known, Spool
from streams.examine import Newest

spool = Spool()
for number in range(150):
    newest = Newest(partition=0, version=number, content_hash="x" * 1_000_000, hashes=(), places=(), told=(), model="m")
    spool.add_records([(str(number), Known(newest=newest, place=(0, number)))], dead_lettered=False)
assert spool.known(["3"])["3"][0].newest.version == 3
files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
mine = [file for file in files if os.path.lexists(file) and os.readlink(file).startswith(sys.argv[1])]
print(sum(os.stat(file).st_size for file in mine), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("variable", ["TMPDIR", "SQLITE_TMPDIR"])
def test_a_verification_that_is_killed_leaves_nothing_on_disk(variable: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, variable: str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 50_000_000, "it is not where it should be, or all in memory"
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
