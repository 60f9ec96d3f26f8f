"""Environments of their own for what tests run beside the product, made once in the cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from agents.settings.environment import cache_dir
from models.export.exporter import find_uv
from tests.kit.shared import alone


def python_with(name: str, *requirements: str) -> str:
    """The Python of an environment that has these packages. Raises CalledProcessError where they cannot be had."""
    home = cache_dir() / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = home / "bin" / "python"
    with alone(name):
        if not (home / ".complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            uv = find_uv()
            commands: tuple[list[str | Path], ...] = (
                [uv, "venv", "--quiet", "--python", sys.executable, home],
                [uv, "pip", "install", "--quiet", "--python", python, *requirements],
            )
            for command in commands:
                subprocess.run(command, check=True, env={**os.environ, "VIRTUAL_ENV": ""})
            (home / ".complete").touch()
    return str(python)
