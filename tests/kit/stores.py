"""Servers that speak like object stores, from npm and by Go, fetched once by the long tests.

The quick ones pass over what is not there yet: nobody needs Node or Go to work on this.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from agents.local.servers import free_port
from agents.settings.environment import cache_dir
from agents.sources.objects import Objects
from agents.sources.obstores import azure_sources, gcs_sources
from agents.sources.patterns import Patterns
from agents.sources.reading import Ids
from tests.kit.harness import PATIENCE_S
from tests.kit.shared import alone

AZURITE = "3.35.0"
GCS = "github.com/fsouza/fake-gcs-server@v1.54.0"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, which everybody knows."""
GATEWAY = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


class Server:
    """Where tests put objects, and what reads them."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url
        self.scheme = {"azure": "az://", "gcs": "gs://"}[kind]
        nobody = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        self.login = {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(nobody), "AZURE_STORAGE_ACCOUNT_KEY": KEY}
        self.endpoint = url if kind == "gcs" else f"{url}/{ACCOUNT}"

    def make(self, bucket: str) -> None:
        """A bucket, or a container."""
        if self.kind == "gcs":
            self._ask("POST", "/storage/v1/b?project=p", json.dumps({"name": bucket}).encode(), "application/json")
        else:
            self._ask_azure("PUT", f"/{bucket}", {"restype": "container"})

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Byte for byte, whatever the key is."""
        if self.kind == "gcs":
            where = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}"
            self._ask("POST", where, body, "text/plain")
        else:
            self._ask_azure("PUT", f"/{bucket}/{quote(key, safe='/~')}", {}, body)

    def of(self, uri: str, ids: Ids = Ids(), which: Patterns = Patterns()) -> Objects:  # noqa: B008 - frozen
        """The source."""
        uris = [f"{self.scheme}{uri}"] * 2
        if self.kind == "gcs":
            (source,) = gcs_sources(uris, ids, which, endpoint=self.endpoint)
        else:
            (source,) = azure_sources(uris, ids, which, account=ACCOUNT, endpoint=self.endpoint)
        return source

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> None:
        asked = urllib.request.Request(self.url + path, body, {"Content-Type": kind}, method=method)  # noqa: S310
        urllib.request.urlopen(asked, timeout=60).close()  # noqa: S310 - our own

    def _ask_azure(self, method: str, path: str, query: dict[str, str], body: bytes = b"") -> None:
        """Signed, as only the client itself would: it cannot write every key."""
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"x-ms-date": now, "x-ms-version": "2023-11-03"}
        headers |= {"x-ms-blob-type": "BlockBlob"} if not query else {}
        kind = "text/plain" if body else ""
        lines = [method, "", "", str(len(body)) if body else "", "", kind, "", "", "", "", "", ""]
        lines += [f"{name}:{headers[name]}" for name in sorted(headers)]
        lines += [f"/{ACCOUNT}/{ACCOUNT}{path}", *(f"{name}:{value}" for name, value in sorted(query.items()))]
        signed = hmac.new(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
        headers |= {"Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}", "Content-Type": kind}
        url = f"{self.url}/{ACCOUNT}{path}" + (f"?{urlencode(query)}" if query else "")
        asked = urllib.request.Request(url, body or None, headers, method=method)  # noqa: S310
        urllib.request.urlopen(asked, timeout=60).close()  # noqa: S310 - our own


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[Server]:
    """It runs, with a folder for its log."""
    with (gcs if kind == "gcs" else azurite)(folder) as url:
        yield Server(kind, url)


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """It runs; its URL. Nothing outlives it, and it keeps its log in a folder."""
    home = _installed(f"azurite-{AZURITE}", "npm", ["npm", "install", "--no-audit", "--no-fund", f"azurite@{AZURITE}"])
    port = free_port()
    command: list[str | Path] = ["node", home / "node_modules/azurite/dist/src/blob/main.js", "--blobHost", "127.0.0.1"]
    command += ["--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    with running(command, f"http://127.0.0.1:{port}", folder) as url:
        yield url


@contextlib.contextmanager
def gcs(folder: Path) -> Iterator[str]:
    """The same, of Google's protocol."""
    command, port = [go_binary(GCS)], free_port()
    url = f"http://127.0.0.1:{port}"
    command += ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-public-host", f"127.0.0.1:{port}", "-external-url", url, "-log-level", "error"]
    with running(command, url, folder):
        yield url


def go_binary(what: str) -> str:
    """A program of a Go module."""
    name = what.partition("@")[0].rpartition("/")[2]
    return str(_installed(what.rpartition("/")[2].replace("@v", "-"), "go", ["go", "install", what]) / name)


def _installed(name: str, tool: str, command: Sequence[str]) -> Path:
    """Its folder. The quick tests pass it over where it is not there."""
    home = cache_dir() / name
    if not (home / ".complete").exists():
        if not os.environ.get("CHAOS"):
            pytest.skip(f"{name} is not there: the long tests fetch it (`make chaos`)")
        if not shutil.which(tool):
            pytest.skip(f"{name} is not there, and neither is {tool}, which would fetch it")
        with alone(name):
            if not (home / ".complete").exists():
                home.mkdir(exist_ok=True)
                done = subprocess.run(command, cwd=home, env={**os.environ, "GOBIN": str(home)}, check=False)
                if done.returncode:
                    pytest.skip(f"{name} cannot be fetched: {tool} ended with {done.returncode}")
                (home / ".complete").touch()
    return home


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], url: str, folder: Path, environment: dict[str, str] | None = None
) -> Iterator[str]:
    """A server, until it answers there; its log is in the folder."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own
                break
            except urllib.error.HTTPError:
                break  # it answers
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()
