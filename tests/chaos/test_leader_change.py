"""Fault 5: partitions change their leader on a cluster of three brokers, again and again, under load."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.local import KAFKA_VERSION, servers
from agents.local.servers import free_port
from agents.settings.environment import cache_dir
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import Servers, World, until
from tests.kit.oracle import assert_true
from tests.stack.test_faults import text

THREE = """
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
"""


class Cluster:
    """One broker that is the controller too, and two plain ones that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(3)]
        first = servers.kafka(folder, cache_dir(), self.ports[0], KAFKA_VERSION, lambda *_: None)
        config = folder / "kafka" / "server.properties"
        config.write_text(config.read_text() + THREE)
        self.commands = [first.command]
        self.running: dict[int, subprocess.Popen[bytes]] = {0: self._start(0)}
        meta = (folder / "kafka" / "data" / "meta.properties").read_text()
        cluster = next(line.split("=")[1] for line in meta.splitlines() if line.startswith("cluster.id"))
        controller = next(
            line.split("=")[1] for line in config.read_text().splitlines() if line.startswith("controller.quorum")
        )
        for number in (1, 2):
            home = folder / f"broker-{number}"
            home.mkdir()
            plain = home / "server.properties"
            plain.write_text(
                f"process.roles=broker\nnode.id={number + 1}\ncontroller.quorum.bootstrap.servers={controller}\n"
                f"controller.listener.names=CONTROLLER\nlisteners=PLAINTEXT://127.0.0.1:{self.ports[number]}\n"
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
                f"log.dirs={home / 'data'}\nlog.cleaner.dedupe.buffer.size=16777216\n{THREE}"
            )
            java = first.command[:-2]
            subprocess.run(
                [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", plain, "--no-initial-controllers"],
                check=True,
                capture_output=True,
            )
            self.commands.append([*java, "kafka.Kafka", str(plain)])
            self.running[number] = self._start(number)

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def kill(self, number: int) -> None:
        """SIGKILL one of the plain brokers: its partitions get other leaders."""
        process = self.running.pop(number)
        process.kill()
        process.wait()

    def start(self, number: int) -> None:
        """Let it come back."""
        self.running[number] = self._start(number)

    def close(self) -> None:
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        with (self.folder / f"broker-{number}.log").open("ab") as log:
            return subprocess.Popen(self.commands[number], stdout=log, stderr=log, start_new_session=True)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers, stopped by pid at the end."""
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.mark.timeout(600)
def test_leaders_change_under_load(
    cluster: Cluster,
    servers: Servers,
    model_folder: Path,
    tmp_path: Path,
    embedder: OnnxEmbedder,
    summary: dict[str, Any],
) -> None:
    world = World(servers, model_folder, tmp_path)
    kafka = world.settings.kafka.model_copy(update={"bootstrap_servers": cluster.bootstrap})
    world.settings = world.settings.model_copy(update={"kafka": kafka})

    async def scenario() -> None:
        await until(lambda: _created(world), 60, every_s=1)
        await world.produce((f"doc-{i % 900}".encode(), {"text": text(i, 6)}) for i in range(3000))
        world.start_worker()
        for turn in range(4):
            await asyncio.sleep(10)
            number = 1 + turn % 2
            await asyncio.to_thread(cluster.kill, number)
            await asyncio.sleep(6)
            await asyncio.to_thread(cluster.start, number)
            if world.workers[-1].process.poll() is not None:  # it may end itself, never with 0
                assert world.workers[-1].process.returncode == 1
                world.start_worker()
        await world.settled(timeout_s=240)
        await assert_true(world, embedder)

    try:
        asyncio.run(scenario())
        summary["leader changes: brokers killed"] = 4
        summary["leader changes: workers started"] = len(world.workers)
    finally:
        world.close()


async def _created(world: World) -> bool:
    try:
        await world.create(partitions=6)
    except Exception:  # noqa: BLE001 - the brokers are still starting
        return False
    return True
