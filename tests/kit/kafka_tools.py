"""Users and ACLs of a broker with logins, by Kafka's own tools from the broker's jars."""

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


class KafkaTools:
    """Of a broker of `penstock local up --secure`, as its super user."""

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
        jars = fetch(locked("kafka", KAFKA_VERSION), cache_dir(), lambda *_: None)
        self._java = [
            str(java_home() / "bin" / "java"),
            "-XX:TieredStopAtLevel=1",
            "-cp",
            os.pathsep.join(map(str, jars)),
        ]
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

    def topics_script(self, path: Path) -> None:
        """What the broker's image has as `kafka-topics.sh`."""
        command = shlex.join([*self._java, "org.apache.kafka.tools.TopicCommand"])
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)

    def _run(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._java, tool, *self._broker, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
