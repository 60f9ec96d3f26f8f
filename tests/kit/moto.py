"""A server that speaks like Amazon's (moto), from an environment of its own, made once in the cache."""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from agents.local.servers import free_port
from agents.settings.environment import cache_dir
from models.export.exporter import find_uv
from tests.kit.shared import alone

MOTO = "moto[server]==5.2.5"
LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def moto(program: Sequence[str | Path] = ("-m", "moto.server")) -> Iterator[str]:
    """It runs; its URL. Nothing outlives it. `program`: what starts it."""
    port = free_port()
    command = [_environment(), *program, "-H", "127.0.0.1", "-p", str(port)]
    with served(command, port, "/moto-api/") as url:
        yield url


@contextmanager
def served(
    command: Sequence[str | Path], port: int, path: str, extra: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A server on loopback, until the end; its URL, once it answers at a path, whatever that is."""
    environment = {**os.environ, **(extra or {})}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                urllib.request.urlopen(f"{url}{path}", timeout=5).close()  # noqa: S310 - our own
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def _environment() -> str:
    """Its Python."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    home = cache_dir() / f"moto-5.2.5-{version}"
    with alone("moto"):
        if not (home / ".complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            uv = find_uv()
            commands: tuple[list[str | Path], ...] = (
                [uv, "venv", "--quiet", "--python", sys.executable, home],
                [uv, "pip", "install", "--quiet", "--python", home / "bin" / "python", MOTO],
            )
            for command in commands:
                subprocess.run(command, check=True, env={**os.environ, "VIRTUAL_ENV": ""})
            (home / ".complete").touch()
    return str(home / "bin" / "python")
