"""The life of a topic: what happens to one over months, in random order, in minutes.

Beside running workers the log is cut by retention, compacted, grown, made anew; claims, group offsets and indices are
lost, restored and replaced; epochs begin, generations come and go, letters are replayed and purged, rebuilds are
interrupted. After each of these either everything is settled and true, or every worker refuses with exit code 3 and
the command in its message leads back to that, in at most three commands.
"""

import asyncio
import os
import random
import re
import shlex
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.structs import TopicPartition

from agents.configured import split_rules
from agents.elastic.client import connect
from agents.kafka.connection import connection
from agents.kafka.reader import log_reader
from agents.operations.judge import ACCEPT, NOTES
from agents.operations.status import read_status
from agents.settings import Settings
from models.onnx.embedder import OnnxEmbedder
from streams.dead_letter import CONNECT
from streams.errors import PenstockError
from streams.record import Document, Record, Rejected, decode
from streams.split import chunk_document
from tests.kit.harness import COMPACTED, PENSTOCK, Servers, Worker, World, read_topic, snapshot

KEYS = 24
EPISODE = 5
"""Actions in the life of one topic; then the next one begins."""
STALL_S = 240
"""Without any progress for so long the run is stuck, on however slow a machine."""
COMMANDS = 3
"""That a way out may take."""
ASIDE = ("dlq list", "index list", "index status", "status", "config")
"""Commands that a message names for looking, not for going on."""
Letter = tuple[int, int, bytes | None]
CODECS = (None, "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A record, and the log that it is in: topics made anew begin their offsets anew."""

    log: int
    record: Record


@dataclass
class Life:
    """One topic, what was published on it, and everything that is done to it."""

    world: World
    embedder: OnnxEmbedder
    rng: random.Random
    log: int = 0
    configs: dict[str, str] = field(default_factory=dict)
    group: str = ""
    published: list[Published] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    numbers: int = 0
    purged: int = 0
    """How many records were published when letters were last purged."""

    def __post_init__(self) -> None:
        self.group = self.world.name

    # what happens

    async def publish(self) -> None:
        """Documents that come, change, shrink, stay the same, go and are bad; with any codec."""
        records = []
        for _ in range(self.rng.randint(10, 60)):
            self.numbers += 1
            key = b"doc-%d" % int(KEYS * self.rng.random() ** 2)
            kind = self.rng.random()
            value: Any = {
                "text": " ".join(f"word{self.numbers} of {i}." for i in range(self.rng.choice([1, 2, 30, 90])))
            }
            if kind < 0.12:
                value = None
            elif kind < 0.18:
                value = b"{"
            elif kind < 0.3 and (again := self.last_of(key)):
                value = again.value
            records.append((key, value))
        await self.produce(records, self.rng.choice(CODECS))

    def last_of(self, key: bytes) -> Record | None:
        """The newest record of a key."""
        return next((one.record for one in reversed(self.published) if one.record.key == key), None)

    async def produce(self, records: Iterable[tuple[bytes, Any]], codec: str | None = None) -> None:
        """One by one acknowledged in order: the order of publication is the truth that the index is held against."""
        producer = AIOKafkaProducer(
            **connection(self.world.settings), acks="all", compression_type=codec, linger_ms=2, metadata_max_age_ms=500
        )
        await producer.start()
        try:
            await producer.client.force_metadata_update()
            sent = []
            for key, value in records:
                raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
                sent.append((key, raw, await producer.send(self.world.name, raw, key)))
            for key, raw, future in sent:
                place = await future
                record = Record(
                    topic=self.world.name,
                    partition=place.partition,
                    offset=place.offset,
                    timestamp_ms=place.timestamp,
                    key=key,
                    value=raw,
                )
                self.published.append(Published(log=self.log, record=record))
        finally:
            await producer.stop()

    async def retention(self) -> None:
        """Records are deleted up to anywhere, settled or not."""
        async with self.admin() as admin, log_reader(self.world.settings) as reader:
            count = await reader.require_partitions(self.world.name)
            bounds = await reader.bounds(self.world.name, range(count))
            cut = {
                TopicPartition(self.world.name, number): RecordsToDelete(self.rng.randint(bound.begin, bound.end))
                for number, bound in bounds.items()
                if bound.begin < bound.end
            }
            if cut and self.configs.get("cleanup.policy") != "compact":  # the broker refuses it there
                await admin.delete_records(cut)

    async def grow(self) -> None:
        """Partitions are added, by any number."""
        async with self.admin() as admin, log_reader(self.world.settings) as reader:
            count = await reader.require_partitions(self.world.name)
            await admin.create_partitions({self.world.name: NewPartitions(count + self.rng.randint(1, 3))})

    async def anew(self) -> None:
        """The topic is deleted and made anew, with fewer, as many or more partitions."""
        await self.world.delete_topic(self.world.name)
        self.log += 1
        async with log_reader(self.world.settings) as reader:
            await reader.create_topic(self.world.name, self.rng.randint(1, 5), self.configs)

    async def changelog_lost(self) -> None:
        """Claims are gone."""
        await self.stop_all()
        await self.world.delete_topic(self.changelog)

    async def cluster_lost(self) -> None:
        """Topic and claims are gone together, as with another cluster under the same name."""
        await self.stop_all()
        async with log_reader(self.world.settings) as reader:
            known = await reader.partitions(self.changelog)
        if known:
            await self.world.delete_topic(self.changelog)
        await self.anew()

    async def offsets_lost(self) -> None:
        """The group's committed offsets are set back to the beginning."""
        await self.stop_all()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.world.settings.kafka.bootstrap_servers, group_id=self.group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            async with log_reader(self.world.settings) as reader:
                count = await reader.require_partitions(self.world.name)
            places = [TopicPartition(self.world.name, number) for number in range(count)]
            consumer.assign(places)
            await consumer.commit(dict.fromkeys(places, 0))
        finally:
            await consumer.stop()

    async def index_lost(self) -> None:
        """The chunks, their registry, or both are deleted."""
        index = await self.serving()
        names = self.rng.choice([index, f"{index}-registry", f"{index},{index}-registry"])
        async with connect(self.world.settings.elasticsearch) as client:
            await client.indices.delete(index=names)

    async def index_replaced(self) -> None:
        """Deleted, and made anew in load mode, under the workers."""
        index = await self.serving()
        async with connect(self.world.settings.elasticsearch) as client:
            await client.indices.delete(index=f"{index},{index}-registry")
        await self.command("index", "create", "--load", may_fail=True)

    async def index_restored(self) -> None:
        """Chunks and registry, or one of them alone, are set back to a snapshot from before some more records."""
        await self.settle()
        index = await self.serving()
        names = self.rng.choice([index, f"{index},{index}-registry", f"{index}-registry"])
        async with connect(self.world.settings.elasticsearch) as client:
            both = await snapshot(self.world, client)
            self.check(both == f"{index},{index}-registry", both)
            await self.publish()
            if self.rng.random() < 0.5:
                await self.settle()
            await client.indices.delete(index=names)
            await client.snapshot.restore(
                repository=self.world.name, snapshot="one", indices=names, wait_for_completion=True
            )
            await client.snapshot.delete(repository=self.world.name, snapshot="one")

    async def bump(self) -> None:
        """Somebody begins an epoch."""
        await self.stop_all()
        await self.command("index", "epoch", "bump", "--why", "life", may_fail=True)

    async def generation(self) -> None:
        """One of another contract is made, filled by a group of its own, promoted; the one before is dropped."""
        await self.settle()
        before, old = await self.serving(), self.group
        new = f"{self.world.name}-g{self.numbers}"
        self.world.split_at(1900 - self.world.settings.split.max_chars, 100)
        made = await self.run("index", "create", group=new)
        if made.returncode:  # one of that contract was left by an earlier one, of a log that is gone
            way = re.search(r"`PENSTOCK_SOURCE__GROUP=(\S+) penstock index epoch bump", made.stderr)
            self.check(made.returncode == 3 and way is not None, made.stderr)
            assert way
            self.counts["refusals"] += 1
            await self.command("index", "epoch", "bump", "--why", "life", group=way[1])
            await self.command("index", "create", group=new)
        worker = self.start(new)
        await self.settle(group=new)
        promoted = await self.run("index", "promote", group=new)
        if promoted.returncode:  # the topic has lost documents that readers see: as it says, they are in the old index
            said = promoted.stdout + promoted.stderr
            self.check(promoted.returncode == 3 and "`penstock index rebuild` takes them from the old" in said, said)
            self.counts["refusals"] += 1
            await self.rebuilt(new)
            return
        self.group = new
        for other in [other for other in self.workers if other is not worker]:
            await self.stop(other)
        assert old
        await self.command("index", "drop", before, "--yes", group=new, again=True)

    async def replay(self) -> None:
        """Letters are taken up again."""
        await self.command("dlq", "replay", may_fail=True)

    async def purge(self) -> None:
        """Letters that nobody needs any more go: each has a newer record."""
        await self.command("dlq", "purge", "--yes", may_fail=True)
        self.purged = len(self.published)

    async def rebuild(self) -> None:
        """An index is built again; killed on its way, begun again, promoted."""
        await self.settle()
        begun = await asyncio.create_subprocess_exec(
            *self.penstock("index", "rebuild"),
            env=self.environment(self.group),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await asyncio.wait_for(begun.wait(), self.rng.uniform(1, 6))
        except TimeoutError:
            begun.kill()
            await begun.wait()
        await self.rebuilt(self.group)

    async def rebuilt(self, group: str) -> None:
        """By the command to its end; then its own group feeds it, and it is promoted."""
        done = orjson.loads(await self.command("index", "rebuild", "--json", group=group, again=True))
        self.group = done["group"]
        for other in list(self.workers):
            await self.stop(other)
        self.start(self.group)
        await self.settle()
        await self.command("index", "promote", done["index"], again=True)

    async def killed(self) -> None:
        """kill -9."""
        for worker in self.workers:
            worker.kill()
        self.workers.clear()

    # what is done about it

    async def settle(self, group: str | None = None) -> None:
        """Until the lag is 0: workers that end are started again, and a refusal's own commands are followed."""
        group, commands = group or self.group, 0
        moved, seen = time.monotonic(), ""
        while True:
            ended = [worker for worker in self.workers if worker.process.poll() is not None]
            for worker in ended:
                self.workers.remove(worker)
                code, said = worker.process.returncode, worker.log.read_text()
                if code == 3 or "penstock: there is no index" in said:  # 1 where nothing was claimed yet
                    await self.stop_all()
                    commands += await self.follow(said[-3000:], group)
                    self.check(commands <= COMMANDS, f"{commands} commands, and still no way on: {said[-1500:]}")
                    moved = time.monotonic()
                    break
                self.check(code in (0, 1, -9), f"a worker ended with {code}: {said[-3000:]}")
                self.counts["restarts"] += 1
            if not any(worker.process.poll() is None for worker in self.workers):
                self.start(group)
            lag, problem = await self.lag(group)
            if lag == "0" and all(worker.get("/readyz")[0] == 200 for worker in self.workers):
                if not problem:
                    return
                commands += await self.follow(f"penstock: {problem}", group)  # all is settled, and readers see none
                self.check(commands <= COMMANDS, f"{commands} commands, and still no way on: {problem}")
            if lag != seen:
                moved, seen = time.monotonic(), lag
            logs = [worker.log.read_text()[-1500:] for worker in self.workers]
            self.check(time.monotonic() - moved < STALL_S, f"stuck at lag {lag}: {logs}")
            await asyncio.sleep(0.5)

    async def follow(self, said: str, group: str) -> int:
        """Run what a refusal names. Returns how many commands that took."""
        self.counts["refusals"] += 1
        message = said[said.rfind("penstock: ") :]
        took = 0
        named = [
            (env, arguments)
            for env, arguments in re.findall(r"`((?:[A-Z_]+=\S+ )*)penstock ([^`]+)`", message)
            if not arguments.startswith((*ASIDE, "worker"))
        ]
        self.check(bool(named), f"a refusal without a way on: {message}")
        for env, words in named[:1]:
            arguments = ["life" if word == "…" else word for word in shlex.split(words)]
            feeder = dict(pair.split("=", 1) for pair in env.split()).get("PENSTOCK_SOURCE__GROUP", group)
            took += 1
            refused = await self.run(*arguments, group=feeder)
            deadline = time.monotonic() + 60
            while "stop them first" in refused.stderr and not self.workers and time.monotonic() < deadline:
                await asyncio.sleep(2)  # as it says: the broker has not forgotten one that ended
                refused = await self.run(*arguments, group=feeder)
            if refused.returncode == 3:
                self.trace.append(f"  {refused.stderr.strip()}")
                took += await self.follow("penstock: " + refused.stderr, feeder)
            elif refused.returncode == 1 and f"`penstock {ACCEPT}`" in refused.stdout:
                took += 1
                await self.accept()
            else:
                self.check(refused.returncode == 0, f"{words}: {refused.stdout[-4000:]} {refused.stderr[-1000:]}")
        return took

    async def accept(self) -> None:
        """Newer content is lost with its record and the chunks that a restored index lacks: somebody says so."""
        self.counts["losses that were accepted"] += 1
        done = await self.run(*ACCEPT.split(), group=self.group)
        self.check(done.returncode == 0, f"{ACCEPT}: {done.stdout[-4000:]} {done.stderr[-1000:]}")

    async def look(self) -> None:
        """Everything that is in the log is in the index, and nothing else is wrong with it."""
        there = {(row.partition, row.offset) for row in await read_topic(self.world.settings, self.world.name)}
        letters = await self.letters()
        wanted = self.permitted(there, letters)
        found: dict[str, list[tuple[int, str]]] = {}
        for row in (await self.world.chunks()).values():
            if not row["penstock"]["stub"]:
                metadata = row["metadata"]
                found.setdefault(metadata["doc_id"], []).append((metadata["chunk"], row["text"]))
        for doc, possible in wanted.items():
            texts = tuple(text for _, text in sorted(found.get(doc, [])))
            if texts not in possible:
                self.check(False, await self.told(doc, texts, there, letters))
        newest = {
            one.record.key: turn
            for turn, one in enumerate(self.published[: self.purged])
            if not isinstance(decode(one.record), Rejected)
        }
        for turn, one in enumerate(self.published):
            place = one.record.partition, one.record.offset
            told_of = (*place, one.record.value) in letters or newest.get(one.record.key, -1) > turn
            if one.log == self.log and place in there and not told_of and isinstance(decode(one.record), Rejected):
                what = await self.told((one.record.key or b"").decode(), (), there, letters)
                self.check(False, f"{place} is bad, and has no dead letter: {what}")
        verified = await self.run("index", "verify", "--json", group=self.group)
        if self.configs and orjson.loads(verified.stdout)["kinds"].keys() - NOTES == {"deleted meanwhile"}:
            self.counts["deletions that nobody saw"] += 1
            verified = await self.run("index", "verify", "--repair", "--json", group=self.group)
        if self.counts["index_restored"] and (
            orjson.loads(verified.stdout)["kinds"].keys() - NOTES == {"content lost"}
        ):
            await self.accept()
            verified = await self.run("index", "verify", "--json", group=self.group)
        self.check(verified.returncode == 0, f"verify: {verified.stdout[-3000:]} {verified.stderr[-1000:]}")

    async def told(self, doc: str, texts: tuple[str, ...], there: set[tuple[int, int]], letters: set[Letter]) -> str:
        """All that is known of a document that is wrong."""
        lines = [f"{doc} is {[text[:20] for text in texts]}; its records:"]
        for one in self.published:
            record = one.record
            if record.key == doc.encode():
                place = record.partition, record.offset
                state = "there" if one.log == self.log and place in there else "gone"
                state += ", refused" if (*place, record.value) in letters else ""
                lines.append(f"  {one.log}: {place} {state}: {(record.value or b'')[:30]!r}")
        entries = await self.world.registry()
        lines.append(f"  {[entry for entry in entries.values() if entry['doc_id'] == doc]}")
        for worker in self.world.workers[-3:]:
            lines.append(worker.log.read_text()[-3000:])
        return "\n".join(lines)

    def permitted(self, there: set[tuple[int, int]], letters: set[Letter]) -> dict[str, set[tuple[str, ...]]]:
        """Texts that each document may have: of its newest record, or an older one where the log has lost that."""
        found: dict[str, set[tuple[str, ...]]] = {}
        over: set[str] = set()
        refused_on: set[tuple[str, int]] = set()
        """Whose newer record on that partition was refused: older ones may have given way to it in its batch."""
        for one in reversed(self.published):
            place = one.record.partition, one.record.offset
            document = decode(one.record)
            if isinstance(document, Rejected) or document.id in over:
                continue
            found.setdefault(document.id, set()).add(self.texts(document))
            here = document.id, one.record.partition
            refused = (
                here in refused_on or (*place, one.record.value) in letters
            )  # loud; served if it was taken up again
            if refused:
                refused_on.add(here)
            elif one.log == self.log and place in there:
                over.add(document.id)
        for doc in found.keys() - over:
            found[doc].add(())  # nothing of it is in the log any more
        return found

    def texts(self, document: Document) -> tuple[str, ...]:
        """What the chunks of a document say."""
        rules = split_rules(self.world.settings, self.embedder.manifest)
        chunks = chunk_document(document, rules, self.embedder.tokens.encode)
        assert not isinstance(chunks, Rejected)
        return tuple(chunk.text for chunk in chunks)

    # what it is made of

    def settings(self, group: str) -> Settings:
        """As the workers of a group have them."""
        source = self.world.settings.source.model_copy(update={"group": group})
        return self.world.settings.model_copy(update={"source": source})

    @property
    def changelog(self) -> str:
        return self.settings(self.group).changelog_topic

    def admin(self) -> "Admin":
        return Admin(self.world.settings.kafka.bootstrap_servers)

    def environment(self, group: str) -> dict[str, str]:
        return self.world.environment({"PENSTOCK_SOURCE__GROUP": group})

    def penstock(self, *arguments: str) -> list[str]:
        return [str(PENSTOCK), *arguments]

    def start(self, group: str) -> Worker:
        worker = self.world.start_worker({"PENSTOCK_SOURCE__GROUP": group, "PENSTOCK_DEAD_LETTERS__MAX_RATIO": "1"})
        self.workers.append(worker)
        return worker

    async def stop(self, worker: Worker) -> None:
        if worker.process.poll() is None:
            code = await asyncio.to_thread(worker.terminate)
            self.check(code in (0, 1, 3, -15), f"stopped, a worker ended with {code}: {worker.log.read_text()[-2000:]}")
        if worker in self.workers:
            self.workers.remove(worker)

    async def stop_all(self) -> None:
        for worker in list(self.workers):
            await self.stop(worker)

    async def run(self, *arguments: str, group: str) -> Any:
        self.trace.append("  penstock " + " ".join(arguments))
        return await asyncio.to_thread(self.world.command, *arguments, extra={"PENSTOCK_SOURCE__GROUP": group})

    async def command(
        self, *arguments: str, group: str | None = None, may_fail: bool = False, again: bool = False
    ) -> str:
        """`may_fail`: it may refuse, in words; `again`: it may have to wait until a killed worker is forgotten."""
        deadline = time.monotonic() + 60
        while True:
            done = await self.run(*arguments, group=group or self.group)
            self.check("Traceback" not in done.stderr, f"{arguments}: {done.stderr}")
            if done.returncode == 0 or may_fail:
                return str(done.stdout)
            self.check(again and time.monotonic() < deadline, f"{arguments}: {done.returncode} {done.stderr}")
            await asyncio.sleep(2)

    async def lag(self, group: str) -> tuple[str, str | None]:
        """The lag of a group, or why it cannot be told; and what else is wrong."""
        try:
            found = await read_status(self.settings(group))
        except PenstockError as exc:
            return str(exc), None
        return str(found["lag"] if found["index"] else found["problem"]), found["problem"]

    async def letters(self) -> set[Letter]:
        """Places and values that the dead letters name; a place alone may be one of another log."""
        found = set()
        for row in await read_topic(self.world.settings, self.world.settings.dead_letter_topic):
            values = dict(row.headers)
            found.add((int(values[CONNECT + "partition"]), int(values[CONNECT + "offset"]), row.value))
        return found

    async def serving(self) -> str:
        async with connect(self.world.settings.elasticsearch) as client:
            if not await client.indices.exists_alias(name=self.world.name):
                return f"{self.world.name}-none"
            return str(next(iter(await client.indices.get_alias(name=self.world.name))))

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            raise AssertionError(what)


class Admin:
    """An admin client as a context."""

    def __init__(self, servers: str) -> None:
        self._client = AIOKafkaAdminClient(bootstrap_servers=servers)

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await self._client.start()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


def actions(life: Life) -> list[Callable[[], Awaitable[None]]]:
    """What may happen; some of it more often."""
    return [
        life.publish,
        life.retention,
        life.retention,
        life.grow,
        life.anew,
        life.changelog_lost,
        life.cluster_lost,
        life.offsets_lost,
        life.index_lost,
        life.index_replaced,
        life.index_restored,
        life.bump,
        life.generation,
        life.replay,
        life.purge,
        life.rebuild,
        life.killed,
    ]


async def live(life: Life) -> None:
    """One topic, from its making to its end."""
    if life.rng.random() < 1 / 3:  # within seconds older records of a key are gone, and tombstones, too
        life.configs = COMPACTED | {"cleanup.policy": life.rng.choice(["compact", "compact,delete"])}
    await life.world.create(partitions=life.rng.randint(1, 4), configs=life.configs)
    life.start(life.group)
    if life.rng.random() < 0.5:
        life.start(life.group)
    for _ in range(EPISODE):
        await life.publish()
        if life.rng.random() < 0.5:
            await life.settle()
        action = life.rng.choice(actions(life))
        life.trace.append(action.__name__)
        await action()
        life.counts[action.__name__] += 1
        if life.rng.random() < 0.5:
            await life.publish()
        await life.settle()
        await life.look()
    await life.produce((b"doc-%d" % number, {"text": f"The last word on {number}."}) for number in range(KEYS))
    await life.settle()
    await life.look()
    await life.stop_all()


@pytest.mark.timeout(5400)
def test_the_life_of_a_topic(
    servers: Servers,
    model_folder: Path,
    tmp_path: Path,
    embedder: OnnxEmbedder,
    summary: dict[str, Any],
    minutes: float,
) -> None:
    seed = int(os.environ.get("SEED") or time.time())
    deadline = time.monotonic() + minutes * 60
    counts: Counter[str] = Counter()
    records = lives = 0
    while time.monotonic() < deadline:
        folder = tmp_path / str(lives)  # a log of its own for each worker of each life
        folder.mkdir()
        world = World(servers, model_folder, folder)
        life = Life(world, embedder, random.Random(seed + lives))
        try:
            asyncio.run(live(life))
        except BaseException as exc:
            exc.add_note("\n".join((*life.trace, f"SEED={seed + lives} repeats this life")))
            raise
        finally:
            world.close()
        lives += 1
        counts += life.counts
        records += len(life.published)
    summary["life: minutes, topics, records"] = f"{minutes:g}, {lives}, {records}"
    summary["life: actions"] = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    summary["life: lost, stale, stuck, circles"] = "0, 0, 0, 0"  # asserted above, each
