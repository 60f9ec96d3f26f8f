"""Apicurio, a schema registry with the routes of Confluent's; and records as Confluent's clients write them."""

import base64
import json
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.local.downloads import Artifact, fetch
from agents.local.servers import JAVA, free_port, java_home
from agents.settings.environment import cache_dir
from streams.errors import PenstockError
from tests.kit.environments import python_with
from tests.kit.shared import alone
from tests.kit.stores import running

SERVER = Artifact(
    coordinate="io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all",
    sha256="8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
    bytes=158_577_952,
)
CLIENT = "2.12.2"
CLIENTS = f"confluent-kafka[avro,json,protobuf]=={CLIENT}"


class Apicurio:
    """Schemas are kept in a folder: stopped and started, it knows what it knew."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.port = free_port()
        self._home = home
        self._folder = folder
        self._running = ExitStack()

    @property
    def url(self) -> str:
        """As a client is configured."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def start(self) -> None:
        """Until it answers."""
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self.port,
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": free_port(),
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self._folder}/schemas",
        }
        command: list[str | Path] = [java_home() / "bin" / "java", *JAVA]
        command += [f"-D{name}={value}" for name, value in options.items()]
        command += ["-jar", self._home / "quarkus-run.jar"]
        self._running.enter_context(running(command, f"{self.url}/subjects", self._folder))

    def stop(self) -> None:
        """At once."""
        self._running.close()

    def register(self, subject: str, **schema: Any) -> int:
        """Its id."""
        return int(self.ask(f"/apis/ccompat/v7/subjects/{subject}/versions", schema)["id"])

    def ask(self, path: str, body: object = None) -> dict[str, Any]:
        """What a route answers, of any of its APIs. Raises HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
            told: dict[str, Any] = json.loads(answer.read())
        return told

    def serialized(self, form: str, topic: str, rows: list[dict[str, Any]]) -> list[bytes]:
        """Each row as Confluent's own serializer of a form makes it, which registers the schemas that it needs."""
        script = Path(__file__).with_name("serialize.py")
        command: list[str | Path] = [_clients(), script, self.url, form, topic]
        done = subprocess.run(command, input=json.dumps(rows), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [base64.b64decode(line) for line in done.stdout.split()]


@contextmanager
def apicurio(folder: Path) -> Iterator[Apicurio]:
    """It runs. Skips the test where it cannot be fetched, or Confluent's clients cannot."""
    home = _server()
    _clients()
    made = Apicurio(home, folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _server() -> Path:
    """Its folder."""
    home = cache_dir() / "apicurio-registry-3.3.3"
    with alone("apicurio"):
        if not (home / ".complete").exists():
            try:
                (archive,) = fetch([SERVER], cache_dir(), lambda *_: None)
            except PenstockError as exc:
                pytest.skip(str(exc))
            with tarfile.open(archive) as packed:
                packed.extractall(home, filter="data")
            archive.unlink()  # as large as what was in it
            (home / ".complete").touch()
    return home


def _clients() -> str:
    try:
        return python_with(f"confluent-kafka-{CLIENT}", CLIENTS)
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"{CLIENTS} cannot be fetched: uv ended with {exc.returncode}")
