"""What tests on real servers share: names of their own, producers, workers, and waiting with a deadline."""

import asyncio
import itertools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from elasticsearch import AsyncElasticsearch
from pydantic import AnyHttpUrl

from agents.configured import contract_of, manifests_of
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.preflight import create_index
from agents.kafka.connection import connection
from agents.kafka.lag import partition_rows
from agents.kafka.reader import log_reader
from agents.local import stack
from agents.local.servers import free_port
from agents.local.stack import StackOptions
from agents.settings import Settings
from agents.settings.environment import cache_dir
from agents.settings.loading import load_settings
from agents.settings.sections import MappingSettings, QualitySettings, RouteSettings, SchemaRegistrySettings
from streams.contract import Described
from streams.errors import PenstockError
from streams.flags import Flag
from streams.record import Record
from tests.kit import memo
from tests.kit.forks import Forked, completed
from tests.kit.pace import sitecustomize as pace

PENSTOCK = Path(sys.executable).with_name("penstock")
BLIND = """
from agents.worker.drift import Incarnations

async def see_nothing(*_, **__):
    pass

Incarnations.require_same = see_nothing
"""
"""A change: a worker that does not notice what becomes of its topic and index; others take seconds."""
HANGS = (
    "import time, models.onnx.embedder\nfrom models.onnx.session import Session\n"
    "models.onnx.embedder.golden_cosine = models.onnx.embedder.OnnxEmbedder.look = lambda *_: 1.0\n"
    "Session.run = lambda self, batch: time.sleep(600)"
)
"""A change: a model that never returns."""
SHORT_REVOKE = "import agents.worker.app\nagents.worker.app.REVOKE_S = 1.0"
"""A change: a rebalance does not wait long for batches that a test holds."""
COMPACTED = {
    "cleanup.policy": "compact",
    "delete.retention.ms": "0",
    "segment.ms": "500",
    "min.cleanable.dirty.ratio": "0.001",
}
"""A topic whose older records go within seconds, and tombstones with what they deleted."""
DOOMED = {"PENSTOCK_KAFKA__SESSION_TIMEOUT_S": "2"}
"""Environment of a worker that will be killed or stopped: its partitions go to the next one sooner."""
SHELL = frozenset("$|&;<>*?~`\\")
"""Characters that mean something to a shell, quotes aside."""
PACE = Path(__file__).with_name("pace")
"""In PYTHONPATH of every process under test, see there."""
PATIENCE_S = 300.0
"""How long a test waits for what has to happen. A machine that is slow or busy is no failure."""
_numbers = itertools.count()


@dataclass(frozen=True)
class Servers:
    """Where the test servers listen. `shared`: with other test processes."""

    options: StackOptions
    shared: bool = False

    @property
    def kafka_port(self) -> int:
        return self.options.kafka_port

    @property
    def elasticsearch_port(self) -> int:
        return self.options.elasticsearch_port

    @property
    def version(self) -> str:
        """Of Elasticsearch."""
        return self.options.elasticsearch_version

    def kill(self, name: str) -> None:
        """SIGKILL to one server; returns when it is gone."""
        assert not self.shared, "other tests need it: a module that takes servers down says KILLS_SERVERS = True"
        (server,) = (server for server in stack.status(self.options.folder) if server.name == name)
        os.killpg(server.pid, signal.SIGKILL)
        while any(other.name == name for other in stack.status(self.options.folder)):
            time.sleep(0.05)

    @asynccontextmanager
    async def away(self, name: str) -> AsyncIterator[None]:
        """One server is killed meanwhile, and is there again afterwards, whatever happens."""
        await asyncio.to_thread(self.kill, name)
        try:
            yield
        finally:
            await asyncio.to_thread(self.restart)

    def missing(self) -> list[str]:
        """Servers that do not answer; a dead one is found out at once."""
        found = []
        with socket.socket() as probe:
            probe.settimeout(PATIENCE_S)
            if probe.connect_ex(("127.0.0.1", self.kafka_port)):
                found.append("kafka")
        try:
            url = f"http://127.0.0.1:{self.elasticsearch_port}/_cluster/health?timeout=1s"
            urllib.request.urlopen(url, timeout=PATIENCE_S).close()
        except urllib.error.HTTPError:
            pass  # it answers
        except OSError:
            found.append("elasticsearch")
        return found

    def restart(self) -> None:
        """Start again what was killed, on the same port with the same data.

        A client that connects again and again to a port of the ephemeral range may be given that very port for its
        own end, and then has a connection to itself, for a moment.
        """
        for left in reversed(range(100)):
            try:
                stack.up(self.options, lambda *_: None)
                return
            except PenstockError:
                if not left:
                    raise
                time.sleep(0.2)


@dataclass
class Worker:
    """A worker process."""

    process: "Forked | subprocess.Popen[bytes]"
    log: Path
    admin_port: int

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    async def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait until it has ended by itself; returns the exit code. Fails with where it stands when it does not."""
        try:
            return await asyncio.to_thread(self.process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)
            await asyncio.sleep(2)
            raise AssertionError(f"it runs on after {timeout_s} s:\n{self.log.read_text()[-40_000:]}") from None

    async def said(self, words: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until its log has these words."""

        async def check() -> bool:
            ended, log = self.process.poll() is not None, self.log.read_text()
            assert words in log or not ended, log[-3000:]
            return words in log

        await until(check, timeout_s)

    def metrics(self) -> dict[str, float]:
        """Samples by name and labels, as Prometheus sees them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON body of an admin page; status 0 when nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as answer:
                return answer.status, orjson.loads(answer.read())
        except urllib.error.HTTPError as exc:
            return exc.code, orjson.loads(exc.read())
        except OSError:
            return 0, None


class Gate:
    """Before the model of the workers that are started with its `environment`: how many batches may pass.

    The batches of a process are counted from 0, so that `let(1)` means: its first one is indexed, the next is read,
    intended, and waits. Closed at first. What tests assert of work that is left, or in flight, holds on any machine.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.let(0)

    @property
    def environment(self) -> dict[str, str]:
        """For a worker, or a command that embeds."""
        return {"MODEL_GATE": str(self._path)}

    def let(self, batches: float) -> None:
        """So many batches of each process may pass, all in all."""
        scratch = self._path.with_suffix(".new")
        scratch.write_text(str(batches))
        scratch.rename(self._path)

    def open(self) -> None:
        """Nothing is held any more."""
        self.let(float("inf"))

    def is_held_by(self, pid: int) -> bool:
        """Whether a batch of this process stands before it."""
        return Path(f"{self._path}.{pid}").exists()

    async def holds(
        self, process: "Forked | subprocess.Popen[Any]", timeout_s: float = PATIENCE_S, child: int | None = None
    ) -> None:
        """Wait until a batch of this process, or of its child, stands before the gate."""

        async def check() -> bool:
            assert process.poll() is None, f"it ended with {process.returncode} before it came to the gate"
            return self.is_held_by(child or process.pid)

        await until(check, timeout_s)


@dataclass
class World:
    """One test's topic, group and alias, and everything that it started."""

    servers: Servers
    model_folder: Path
    tmp: Path
    speed: str = ""
    """Of the model, unless the whole run has one: `tests.kit.pace`."""
    produced: list[Record] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    _contracts: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = f"t{os.getpid()}-{next(_numbers)}"
        base = load_settings()
        self.settings: Settings = base.model_copy(
            update={
                "kafka": base.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{self.servers.kafka_port}"}),
                "source": base.source.model_copy(update={"topic": self.name, "group": self.name}),
                "model": base.model.model_copy(update={"dir": self.model_folder.parent}),
                "elasticsearch": base.elasticsearch.model_copy(
                    update={
                        "url": AnyHttpUrl(f"http://127.0.0.1:{self.servers.elasticsearch_port}"),
                        "alias": self.name,
                        "replicas": 0,
                    }
                ),
            }
        )

    def move_to_broker(self, other: Servers) -> None:
        """From here on another cluster, with the same Elasticsearch."""
        kafka = {"bootstrap_servers": f"127.0.0.1:{other.kafka_port}"}
        self.settings = self.settings.model_copy(update={"kafka": self.settings.kafka.model_copy(update=kafka)})

    def use_model(self, name: str) -> None:
        """Another one of the same folder, before `create`."""
        model = self.settings.model.model_copy(update={"name": name})
        self.model_folder = self.settings.model.dir / name
        self.settings = self.settings.model_copy(update={"model": model})

    def split_at(self, max_chars: int, overlap_chars: int) -> None:
        """Chunks of this size, before `create`: as many of them as a test needs, and a quick run of the model."""
        split = {"max_chars": max_chars, "overlap_chars": overlap_chars}
        self.settings = self.settings.model_copy(update={"split": self.settings.split.model_copy(update=split)})

    def reject(self, *flags: Flag) -> None:
        """Texts with these are not indexed; before `create`."""
        self.settings = self.settings.model_copy(update={"quality": QualitySettings(reject=flags)})

    def route(self, *routes: RouteSettings) -> None:
        """Documents go to several models, before `create`."""
        self.settings = self.settings.model_copy(update={"route": routes})

    def with_document_vectors(self) -> None:
        """Documents have vectors of their own, before `create`."""
        split = self.settings.split.model_copy(update={"document_vector": "mean"})
        self.settings = self.settings.model_copy(update={"split": split})

    def map_by(self, *, registry: str | None = None, form: str = "json", **mapping: Any) -> None:
        """Documents are made of the topic's records by these rules, before `create`. `registry`: its URL."""
        source = {"mapping": MappingSettings(**mapping), "format": form}
        if registry:
            source["schema_registry"] = SchemaRegistrySettings(url=AnyHttpUrl(registry))
        self.settings = self.settings.model_copy(update={"source": self.settings.source.model_copy(update=source)})

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The settings as environment variables, for a process."""
        es, kafka, reject = self.settings.elasticsearch, self.settings.kafka, self.settings.quality.reject
        routes = [route.model_dump(mode="json", exclude_defaults=True) for route in self.settings.route]
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
            "PYTHONPATH": str(PACE),
            "MODEL_SPEED": pace.speed() or self.speed,
            "PENSTOCK_CACHE_DIR": str(cache_dir()),
            "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "PENSTOCK_SOURCE__TOPIC": self.name,
            "PENSTOCK_SOURCE__GROUP": self.name,
            "PENSTOCK_SPLIT__MAX_CHARS": str(self.settings.split.max_chars),
            "PENSTOCK_SPLIT__OVERLAP_CHARS": str(self.settings.split.overlap_chars),
            "PENSTOCK_SPLIT__DOCUMENT_VECTOR": self.settings.split.document_vector,
            "PENSTOCK_MODEL__DIR": str(self.settings.model.dir),
            "PENSTOCK_MODEL__NAME": self.settings.model.name,
            "PENSTOCK_ELASTICSEARCH__URL": str(es.url),
            "PENSTOCK_ELASTICSEARCH__ALIAS": self.name,
            "PENSTOCK_ELASTICSEARCH__REPLICAS": "0",
            "PENSTOCK_ADMIN__PORT": "0",
            **self._mapping(),
            **({"PENSTOCK_QUALITY__REJECT": json.dumps(reject)} if reject else {}),
            **({"PENSTOCK_ROUTE": json.dumps(routes)} if routes else {}),
            **(extra or {}),
        }

    def _mapping(self) -> dict[str, str]:
        source = self.settings.source
        rules = source.mapping.model_dump(mode="json", exclude_defaults=True) if source.mapping else {}
        registry = {"PENSTOCK_SOURCE__SCHEMA_REGISTRY__URL": str(source.schema_registry.url)}
        return {
            "PENSTOCK_SOURCE__FORMAT": source.format,
            **(registry if source.schema_registry.url else {}),
            **{
                f"PENSTOCK_SOURCE__MAPPING__{name.upper()}": value if isinstance(value, str) else json.dumps(value)
                for name, value in rules.items()
            },
        }

    def start(
        self, *arguments: str, output: Path, errors: Path, extra: Mapping[str, str] | None = None, change: str = ""
    ) -> Forked:
        """Start `penstock …` in the background; the test ends it. `change`: code that is run in it first."""
        return Forked(arguments, self.environment(extra), output, errors, change)

    def command(
        self, *arguments: str, extra: Mapping[str, str] | None = None, change: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run `penstock …` as a user would."""
        return completed(arguments, self.environment(extra), self.tmp, timeout_s=PATIENCE_S, change=change)

    async def follow(self, section: str, instead: Mapping[str, str] | None = None, block: int = 0) -> list[Worker]:
        """Run the commands of a section of the runbook as they stand there. Returns the workers that it starts.

        A worker runs on until the lag is 0. `instead`: what an operator puts in the place of an example's names;
        `block`: which of the section's blocks, from 0.
        """
        text = (Path(__file__).parents[2] / "runbook.md").read_text()
        (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        workers = []
        for line in re.findall(r"```sh\n(.*?)```", body, re.DOTALL)[block].splitlines():
            for example, value in (instead or {}).items():
                line = line.replace(example, value)
            words = shlex.split(line, comments=True)
            if words[-2:] == ["penstock", "worker"]:
                extra = dict(assignment.split("=", 1) for assignment in words[:-2])
                workers.append(self.start_worker(extra))
                await self.settled_as(extra, workers[-1])
                continue
            if words[0] == "penstock" and not set("".join(words)) & SHELL:
                done = await asyncio.to_thread(self.command, *words[1:])
                assert done.returncode == 0, (line, done.stdout, done.stderr)
                continue
            path = f"{PENSTOCK.parent}:{os.environ['PATH']}"
            done = await asyncio.to_thread(
                subprocess.run,
                ["bash", "-c", line],
                env=self.environment({"PATH": path}),
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        return workers

    async def settled_as(self, extra: Mapping[str, str], worker: Worker) -> None:
        """Wait until lag is 0 for the group that `extra` names."""

        source = self.settings.source
        group = extra.get("PENSTOCK_SOURCE__GROUP", source.group)
        settings = self.settings.model_copy(update={"source": source.model_copy(update={"group": group})})
        async with log_reader(settings) as reader, connect(settings.elasticsearch) as client:
            index = Index(client, settings)

            async def check() -> bool:
                assert worker.process.poll() is None, worker.log.read_text()[-3000:]
                fed = await index.mine()
                assert fed is not None
                topic, identity = await reader.require_topic(self.name), await index.identity(fed)
                rows = await partition_rows(reader, settings, topic.partitions, identity.sink, topic.log)
                return bool(sum(row["lag"] for row in rows) == 0)

            await until(check, every_s=0.2)

    async def create(
        self, partitions: int = 4, configs: dict[str, str] | None = None, *, snapshots: bool = False
    ) -> None:
        """Topic and index. `snapshots`: with room for these."""
        async with log_reader(self.settings) as reader:
            await reader.create_topic(self.name, partitions, configs or {})
        await create_index(self.settings, snapshots=snapshots)

    async def produce(
        self,
        records: Iterable[tuple[bytes | None, object]],
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> list[Record]:
        """Publish `(key, value)`; a value that is neither bytes nor None becomes JSON. Remembers what it did."""
        producer = AIOKafkaProducer(
            **connection(self.settings),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_request_size=16 * 1024**2,
        )
        await producer.start()
        sent = []
        for key, value in records:
            raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
            sent.append((key, raw, await producer.send(self.name, raw, key, partition, timestamp_ms, [*headers])))
        made = []
        for key, raw, future in sent:
            place = await future
            made.append(
                Record(
                    topic=self.name,
                    partition=place.partition,
                    offset=place.offset,
                    timestamp_ms=place.timestamp,
                    key=key,
                    value=raw,
                    headers=tuple(headers),
                )
            )
        await producer.stop()
        self.produced += made
        return made

    def start_worker(
        self, extra: Mapping[str, str] | None = None, change: str = "", command: list[str] | None = None
    ) -> Worker:
        """Start a worker process; it is ended with the test at the latest. `command`: by another program than ours."""
        port = free_port()
        log = self.tmp / f"worker-{len(self.workers)}.log"
        extra = {"PENSTOCK_ADMIN__PORT": str(port), **(extra or {})}
        process: Forked | subprocess.Popen[bytes]
        if command:
            with log.open("wb") as output:
                process = subprocess.Popen(command, env=self.environment(extra), stdout=output, stderr=output)
        else:
            process = self.start("worker", output=log, errors=log, extra=extra, change=change)
        worker = Worker(process, log, port)
        self.workers.append(worker)
        return worker

    async def ready(self, worker: Worker, timeout_s: float = PATIENCE_S) -> None:
        """Wait for `/readyz`."""

        async def check() -> bool:
            assert worker.process.poll() is None, worker.log.read_text()[-3000:]
            return worker.get("/readyz")[0] == 200

        await until(check, timeout_s)

    def gate(self) -> Gate:
        """A new one, closed."""
        return Gate(self.tmp / f"gate-{next(_numbers)}")

    @asynccontextmanager
    async def lags(self) -> AsyncIterator[Callable[[], Awaitable[int]]]:
        """Lag as `penstock status` computes it, again and again over the same connections."""
        async with log_reader(self.settings) as reader, connect(self.settings.elasticsearch) as client:

            async def now() -> int:
                topic = await reader.require_topic(self.name)
                try:
                    sink = (await Index(client, self.settings).identify(self.contract(topic))).sink
                except PenstockError:
                    sink = None
                return sum(row["lag"] for row in await partition_rows(reader, self.settings, topic.partitions, sink))

            yield now

    def contract(self, topic: Described) -> dict[str, Any]:
        """Of the settings as they are; made once, which takes a tokenizer and its probe."""
        key = self.settings.model_dump_json(), topic.partitions, topic.log
        if key not in self._contracts:
            self._contracts[key] = contract_of(self.settings, manifests_of(self.settings), topic)
        return self._contracts[key]

    async def lag(self) -> int:
        """Lag now."""
        async with self.lags() as lag:
            return await lag()

    async def settled(self, timeout_s: float = PATIENCE_S, worker: Worker | None = None) -> None:
        """Wait until lag is 0."""
        async with self.lags() as lag:

            async def check() -> bool:
                if worker is not None:
                    assert worker.process.poll() is None, worker.log.read_text()[-3000:]
                return await lag() == 0

            await until(check, timeout_s, every_s=0.2)

    async def held_in_the_middle(self, worker: Worker, gate: Gate) -> None:
        """Wait until this worker's first batch is settled and the next one stands before the gate, closed till now.

        There have to be more than 256 chunks, the size of the first batch.
        """
        await gate.holds(worker.process)
        async with self.lags() as lag:
            total = await lag()
            gate.let(1)

            async def begun() -> bool:
                assert worker.process.poll() is None, worker.log.read_text()[-3000:]
                return await lag() < total

            await until(begun, every_s=0.05)
            await gate.holds(worker.process)
            assert await lag() > 0

    async def shrink_dead_letters(self, limit: int) -> None:
        """Make the dead-letter topic beforehand, so that it takes values up to so many bytes only."""
        async with log_reader(self.settings) as reader:
            await reader.create_topic(self.settings.dead_letter_topic, 1, {"max.message.bytes": str(limit)})

    async def delete_topic(self, topic: str) -> None:
        """Take a topic away, and wait until it is gone."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka.bootstrap_servers)
        await admin.start()
        await admin.delete_topics([topic])
        await admin.close()
        async with log_reader(self.settings) as reader:

            async def gone() -> bool:
                return await reader.partitions(topic) is None

            await until(gone)

    async def dead_letters(self) -> list[Any]:
        """Everything in the dead-letter topic."""
        return await read_topic(self.settings, self.settings.dead_letter_topic)

    async def chunks(self) -> dict[str, dict[str, Any]]:
        """Every chunk and stub by `_id`, with its source and `_version`."""
        return await scan(self.settings, self.name)

    async def registry(self) -> dict[str, dict[str, Any]]:
        """Every registry entry by `_id`."""
        return await scan(self.settings, f"{self.name}-{self.settings.model.name.lower()}-000001-registry")

    def end_workers(self) -> None:
        """SIGKILL to those that still run."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()

    def close(self) -> None:
        """End all of it."""
        self.end_workers()
        self.delete_indices()

    def delete_indices(self) -> None:
        """All that begin with its name."""
        asyncio.run(self._delete())

    async def _delete(self) -> None:
        async with connect(self.settings.elasticsearch) as client:
            found = await client.indices.get(index=f"{self.name}-*", ignore_unavailable=True)
            if names := list(found):
                await client.indices.delete(index=",".join(names))


@contextmanager
def world_on(servers: Servers, model_folder: Path, tmp: Path, speed: str = "") -> Iterator[World]:
    """A world, and servers that are up before it and after it: a test that leaves one down fails itself."""
    if not servers.shared:
        servers.restart()
    made = World(servers, model_folder, tmp, speed)
    try:
        with pytest.MonkeyPatch.context() as patch:
            memo.install(Path(os.environ["TEST_SERVERS"]), patch.setattr)
            yield made
    finally:
        made.end_workers()
        missing = servers.missing()
        if missing and not servers.shared:
            servers.restart()
        made.delete_indices()
    assert not missing, f"{' and '.join(missing)} down after this test"


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Endless work beside a test, cancelled in the end; the test fails when it ended by itself."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), task.exception()


@asynccontextmanager
async def again_and_again(step: Callable[[int], Awaitable[object]], every_s: float) -> AsyncIterator[None]:
    """A step, by its number, beside a test; the last one is let end (a producer that is cancelled stays open)."""
    over = asyncio.Event()

    async def work() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            await step(number)
            await asyncio.sleep(every_s)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        over.set()
        await task


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = PATIENCE_S, every_s: float = 0.1) -> None:
    """Wait for a condition, looking ever more seldom, up to twice a second; fails the test at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s"
        await asyncio.sleep(every_s)
        every_s = min(1.2 * every_s, max(0.5, every_s))


async def snapshot(world: World, client: AsyncElasticsearch, index: str = "") -> str:
    """Of an index, the one that serves, and its registry; named "one". Returns their names."""
    if not index:
        (index,) = await client.indices.get_alias(name=world.name)
    both = f"{index},{index}-registry"
    place = {"location": str(world.servers.options.folder / "elasticsearch" / "snapshots" / world.name)}
    await client.snapshot.create_repository(name=world.name, repository={"type": "fs", "settings": place})
    await client.snapshot.create(repository=world.name, snapshot="one", indices=both, wait_for_completion=True)
    return both


async def read_topic(settings: Settings, topic: str) -> list[Any]:
    """All records of a topic, read without a group."""
    async with log_reader(settings) as reader:
        count = await reader.require_partitions(topic)
        bounds = await reader.bounds(topic, range(count))
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers, group_id=None)
    await consumer.start()
    await asyncio.sleep(0)  # stopped before its inner task ran once, it would raise CancelledError
    try:
        found: list[Any] = []
        for partition, bound in bounds.items():
            tp = TopicPartition(topic, partition)
            consumer.assign([tp])
            consumer.seek(tp, bound.begin)
            while bound.begin < bound.end and await consumer.position(tp) < bound.end:
                found += (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
        return found
    finally:
        await consumer.stop()


async def scan(settings: Settings, index: str, fields: Sequence[str] = ("*",)) -> dict[str, dict[str, Any]]:
    """A full scan of an index: `_source`, all of it or these fields, and `_version` by `_id`."""
    async with connect(settings.elasticsearch) as client:
        await client.indices.refresh(index=index)
        rows: dict[str, dict[str, Any]] = {}
        after = None
        while True:
            page = (
                await client.search(
                    index=index,
                    size=500,
                    sort=["_doc"],
                    version=True,
                    source={"includes": list(fields)},
                    query={"match_all": {}},
                    scroll="1m",
                )
                if after is None
                else await client.scroll(scroll_id=after, scroll="1m")
            )
            if not page["hits"]["hits"]:
                await client.clear_scroll(scroll_id=page["_scroll_id"])
                return rows
            after = page["_scroll_id"]
            rows |= {hit["_id"]: {**hit["_source"], "_version": hit.get("_version")} for hit in page["hits"]["hits"]}
