"""What `penstock local up --secure` makes, under test: API keys and ACLs by role, commands and workers with them."""

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from elasticsearch import AsyncElasticsearch

from agents.elastic.client import connect
from agents.kafka.connection import connection
from agents.local import stack
from agents.local.security import Security, secured
from agents.local.servers import free_port
from agents.settings.loading import load_settings
from tests.kit.forks import Forked, completed
from tests.kit.harness import PACE, PATIENCE_S, PENSTOCK
from tests.kit.kafka_tools import KafkaTools, password_of
from tests.kit.pace import sitecustomize as pace

T = TypeVar("T")
ROLES = Path(__file__).parents[2] / "ops" / "elasticsearch"


class SecureStack:
    """Both servers with TLS and logins. Settings of NAME are in `folder`/NAME.toml, logs of its workers in NAME.log."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def start(self, cache: Path) -> None:
        """Start them. `cache`: a cache folder in which Elasticsearch can store API keys."""
        command = [str(PENSTOCK), "local", "up", "--secure", "--dir", str(self._home)]
        done = subprocess.run(
            [*command, "--kafka-port", str(free_port()), "--elasticsearch-port", str(free_port())],
            env={**os.environ, "PENSTOCK_CACHE_DIR": str(cache)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.security: Security = secured(self._home)
        self.folder = self.security.folder
        self._superuser = load_settings(self.folder / "penstock.toml")
        self.kafka = KafkaTools(self.security, self._superuser)

    def close(self) -> None:
        """Stop what runs of them."""
        stack.down(self._home)

    def settings(self, name: str, role: str | None = None, *, user: str = "", base: str = "penstock.toml") -> None:
        """As `base`, but with a new API key of a role on Elasticsearch, and the login of a user on Kafka."""
        text = (self.folder / base).read_text()
        if user:
            text = re.sub(r"^sasl_username.*$", f'sasl_username = "{user}"', text, flags=re.MULTILINE)
            text = re.sub(r"^sasl_password.*$", f'sasl_password = "{password_of(user)}"', text, flags=re.MULTILINE)
        if role:
            text = re.sub(r"^username.*\n", "", text, flags=re.MULTILINE)
            text = re.sub(r"^password.*$", f'api_key = "{self._api_key(role)}"', text, flags=re.MULTILINE)
        (self.folder / f"{name}.toml").write_text(text)

    def _api_key(self, role: str) -> str:
        """With the privileges of ops/elasticsearch."""

        async def made(client: AsyncElasticsearch) -> str:
            privileges = json.loads((ROLES / f"{role}.json").read_text())
            answer = await client.security.create_api_key(name=role, role_descriptors={role: privileges})
            return str(answer["encoded"])

        return asyncio.run(self._as_superuser(made))

    def revoke_keys(self, role: str) -> None:
        """All that this role has."""

        async def revoked(client: AsyncElasticsearch) -> None:
            await client.security.invalidate_api_key(name=role)

        asyncio.run(self._as_superuser(revoked))

    async def _as_superuser(self, work: Callable[[AsyncElasticsearch], Awaitable[T]]) -> T:
        async with connect(self._superuser.elasticsearch) as client:
            return await work(client)

    def publish(self, topic: str, key: bytes, value: bytes) -> None:
        """A record, by the superuser."""

        async def publish() -> None:
            async with AIOKafkaProducer(**connection(self._superuser)) as producer:
                await producer.send_and_wait(topic, value, key)

        asyncio.run(publish())

    def penstock(
        self, settings: str, *arguments: str, extra: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """A command with the settings of that name."""
        config = ["--config", str(self.folder / f"{settings}.toml")]
        return completed([*arguments, *config], {**_environment(), **(extra or {})}, self.folder, timeout_s=PATIENCE_S)

    def done(self, settings: str, *arguments: str) -> Any:
        """What a command that has to succeed prints: its JSON where it is that."""
        found = self.penstock(settings, *arguments)
        assert found.returncode == 0, found.stdout + found.stderr
        return json.loads(found.stdout) if "--json" in arguments else found.stdout

    @contextmanager
    def worker(self, settings: str) -> Iterator[Forked]:
        """A worker with the settings of that name."""
        log = self.log(settings)
        log.unlink(missing_ok=True)
        process = Forked(["worker", "--config", str(self.folder / f"{settings}.toml")], _environment(), log, log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def serving(self, settings: str) -> Iterator[str]:
        """`penstock ingest serve` with the settings of that name, once it takes documents: its address."""
        log = self.folder / "serve.log"
        log.unlink(missing_ok=True)
        arguments = ["ingest", "serve", "--port", "0", "--config", str(self.folder / f"{settings}.toml")]
        process = Forked(arguments, _environment(), log, log)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while "documents are taken" not in (said := log.read_text()):
                assert (process.poll(), time.monotonic() < deadline) == (None, True), said[-3000:]
                time.sleep(0.1)
            yield re.findall(r"taking documents at (\S+)/documents", said)[0]
        finally:
            process.kill()
            process.wait()

    def log(self, settings: str) -> Path:
        """Of the worker with these settings."""
        return self.folder / f"{settings}.log"

    def work_off(self, settings: str, says: str = "partitions assigned") -> str:
        """Run a worker until the lag is 0 and its log has these words; its log."""
        log = self.log(settings)
        with self.worker(settings) as worker:
            deadline = time.monotonic() + PATIENCE_S
            while says not in log.read_text() or self.done(settings, "status", "--json")["lag"]:
                assert worker.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(1)
            worker.terminate()
            assert worker.wait(PATIENCE_S) == 0, log.read_text()[-3000:]
        return log.read_text()


def _environment() -> dict[str, str]:
    usual = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_") or "CACHE" in name}
    return {**usual, "PYTHONPATH": str(PACE), "MODEL_SPEED": pace.speed() or "fast", "PENSTOCK_ADMIN__PORT": "0"}
