"""Kafka's own tools, from the broker's jars."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from agents.local import KAFKA_VERSION
from agents.local.downloads import fetch, locked
from agents.local.security import USER, Security
from agents.local.servers import java_home
from agents.settings import cache_dir


def password_of(user: str) -> str:
    """As `KafkaTools.user` sets it."""
    return f"secret-{user}"


def java(*options: str) -> list[str]:
    """A command that runs what is in the broker's jars; its arguments follow."""
    jars = fetch(locked("kafka", KAFKA_VERSION), cache_dir(), lambda *_: None)
    return [str(java_home() / "bin" / "java"), *options, "-cp", os.pathsep.join(map(str, jars))]


def kafka_script(path: Path, tool: str) -> None:
    """What Kafka's distribution has in its `bin`, such as `kafka-topics.sh` (`TopicCommand`)."""
    command = shlex.join([*java("-XX:TieredStopAtLevel=1"), f"org.apache.kafka.tools.{tool}"])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)


class KafkaTools:
    """Users, ACLs and partitions of a broker of `penstock local up --secure`, as its super user."""

    def __init__(self, security: Security, bootstrap: str) -> None:
        self._config = security.folder / "tools.properties"
        self._config.write_text(f"""\
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{USER}" password="{security.password}";
ssl.truststore.type=PEM
ssl.truststore.location={security.ca}
""")
        self._java = java("-XX:TieredStopAtLevel=1")
        self._broker = ["--bootstrap-server", bootstrap, "--command-config", str(self._config)]

    def user(self, name: str) -> None:
        """Make a SCRAM user."""
        login = f"SCRAM-SHA-512=[password={password_of(name)}]"
        what = ["--entity-type", "users", "--entity-name", name, "--add-config", login]
        self._run("kafka.admin.ConfigCommand", "--alter", *what)

    def allow(
        self,
        user: str,
        operations: str,
        *,
        topics: Sequence[str] = (),
        groups: Sequence[str] = (),
        prefix: bool = False,
    ) -> None:
        """`operations`, with spaces between them, on these topics and groups; `prefix`: on all that begin so."""
        what = [
            *(part for name in operations.split() for part in ("--operation", name)),
            *(part for name in topics for part in ("--topic", name)),
            *(part for name in groups for part in ("--group", name)),
            *(["--resource-pattern-type", "prefixed"] if prefix else []),
        ]
        self._run("org.apache.kafka.tools.AclCommand", "--add", "--allow-principal", f"User:{user}", *what)

    def partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions."""
        self._run("org.apache.kafka.tools.TopicCommand", "--alter", "--topic", topic, "--partitions", str(count))

    def _run(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._java, tool, *self._broker, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
