"""What an administrator of a broker does: by Kafka's own tools, from its jars, where aiokafka cannot."""

import asyncio
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from agents.kafka.connection import connection
from agents.kafka.reader import log_reader
from agents.local import KAFKA_VERSION
from agents.local.downloads import fetch, locked
from agents.local.security import USER, Security
from agents.local.servers import java_home
from agents.settings import Settings
from agents.settings.environment import cache_dir

TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
LITERAL, PREFIXED = 3, 4
CODES = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7}
ALLOW = 3
"""Numbers of Kafka's protocol: kinds of resources and patterns, operations, permissions."""


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

    def __init__(self, security: Security, settings: Settings) -> None:
        """`settings`: the super user's."""
        self._settings = settings
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
        self._broker = ["--bootstrap-server", settings.kafka.bootstrap_servers, "--command-config", str(self._config)]

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
        transactions: Sequence[str] = (),
        prefix: bool = False,
    ) -> None:
        """`operations`, with spaces between them, on these topics, groups and transactional ids; `prefix`: on all that
        begin so."""
        patterns = [(TOPIC, name) for name in topics] + [(GROUP, name) for name in groups]
        patterns += [(TRANSACTIONAL_ID, name) for name in transactions]

        async def create() -> None:
            admin = AIOKafkaAdminClient(**connection(self._settings))
            await admin.start()
            try:
                for kind, name in patterns:
                    for operation in operations.split():
                        what = kind, name, PREFIXED if prefix else LITERAL, f"User:{user}", "*", CODES[operation], ALLOW
                        answer = await admin._send_request(CreateAclsRequest(*what))  # it has no public way for it
                        assert not answer.creation_responses[0][0], answer
            finally:
                await admin.close()

        asyncio.run(create())

    def partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions."""

        async def grow() -> None:
            async with log_reader(self._settings) as reader:
                await reader.grow_topic(topic, count)

        asyncio.run(grow())

    def _run(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._java, tool, *self._broker, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
