"""`penstock backfill` as its users run it: from an environment of its own."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.kit.harness import PATIENCE_S, World, until
from tests.kit.shared import alone

ROOT = Path(__file__).parents[2]
BINARY = ROOT / ".venv-beam" / "bin" / "penstock"
REPEATED = ("--direct_runner_bundle_repeat=1",)
"""Each bundle once more: what an engine may do."""


def require_beam() -> None:
    """Make the environment where it is not there yet."""
    with alone("beam"):
        if not BINARY.exists():
            subprocess.run(["make", "--no-print-directory", "beam"], cwd=ROOT, check=True, timeout=900)


def start_backfill(world: World, *arguments: str, extra: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """In the background; the test ends it."""
    require_beam()
    return subprocess.Popen(
        [BINARY, "backfill", "--json", *arguments],
        env=world.environment(extra),
        cwd=world.tmp,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def batch_of(process: "subprocess.Popen[str]") -> psutil.Process:
    """The process that its batch runs in, as soon as there is one."""
    found = psutil.Process(process.pid)

    async def check() -> bool:
        assert process.poll() is None, "it ended before its batch began"
        return bool(found.children())

    await until(check)
    return found.children()[0]


def backfilled(world: World, *arguments: str, extra: Mapping[str, str] | None = None, code: int = 0) -> Any:
    """What it printed; of one that ends with another code than 0 what it said."""
    process = start_backfill(world, *arguments, extra=extra)
    try:
        printed, said = process.communicate(timeout=PATIENCE_S)
    except BaseException:
        process.kill()
        raise
    if process.returncode != code:
        pytest.fail(f"{printed}\n{said[-6000:]}")
    return json.loads(printed) if code == 0 else said
