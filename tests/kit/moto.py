"""A server that speaks like Amazon's (moto), from an environment of its own, made once in the cache."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from agents.local.servers import free_port
from tests.kit.environments import python_with

NAME, MOTO = "moto-5.2.5", "moto[server]==5.2.5"
LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def moto(program: Sequence[str | Path] = ("-m", "moto.server")) -> Iterator[str]:
    """It runs; its URL. Nothing outlives it. `program`: what starts it."""
    port = free_port()
    command = [python_with(NAME, MOTO), *program, "-H", "127.0.0.1", "-p", str(port)]
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
