"""How a worker ends that cannot go on: with the error's own exit code and words, whenever it comes, and in time."""

import os
from pathlib import Path

import pytest

from tests.kit.forks import completed

ENDING = """
import asyncio, contextlib, sys
from types import SimpleNamespace
from aiokafka.errors import GroupAuthorizationFailedError
from agents.worker import app as worker
from agents.metrics import Metrics
from agents.settings import Settings
from streams.errors import RefusedError

when, what = sys.argv[1:]
errors = {
    "refused": RefusedError("another topic; run this"),
    "acl": GroupAuthorizationFailedError("penstock"),
    "other": ValueError("unexpected"),
}
error = errors[what]

async def end(*_):
    if when == "in a callback":
        await app.crash(error)
        await asyncio.sleep(3600)
    raise error

async def hang(*_):
    await asyncio.sleep(3600)

@contextlib.asynccontextmanager
async def never(*_, **__):
    yield await end()

worker.assemble = never
worker.CLOSING_S = 100 if when == "in the start" else 0.5
if when == "and the stop hangs":
    worker.faust.App.on_stop = hang
checked = SimpleNamespace(
    partitions=1,
    identity=SimpleNamespace(index="index"),
    topic=SimpleNamespace(log="log"),
    embedder=SimpleNamespace(close=lambda: None),
)
app = worker.PenstockApp(Settings(), checked, Metrics())
worker.Worker(app).execute_from_commandline()
"""


@pytest.mark.parametrize("when", ["in the start", "in a callback", "and the stop hangs"])
@pytest.mark.parametrize(("what", "code"), [("refused", 3), ("other", 1)])
def test_an_error_ends_the_process_with_its_own_exit_code(when: str, what: str, code: int, tmp_path: Path) -> None:
    """`in a callback`: of Faust's, which then never comes back, and holds the stop up."""
    done = completed([when, what], os.environ, tmp_path, timeout_s=300, change=ENDING)
    assert done.returncode == code, done.stderr
    assert ("penstock: another topic; run this\n" in done.stderr) == (what == "refused")
    assert ("the stop did not finish in time" in done.stderr) == (when != "in the start")


def test_an_acl_that_is_revoked_is_one_line_that_names_it(tmp_path: Path) -> None:
    done = completed(["in a callback", "acl"], os.environ, tmp_path, timeout_s=300, change=ENDING)
    assert done.returncode == 1, done.stderr
    assert "the login lacks an ACL" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
