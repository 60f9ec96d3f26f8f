"""One run: workers, a log, an index, faults at any step, and what must be true after each of them.

A worker here is the real `Pipeline`, `Assignment`, `Ledger`, planner and adapters. Simulated are Faust (delivers from
where the group committed, may skip), the changelog, Elasticsearch, and the model (a vector is a function of the text).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache, partial
from itertools import chain
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import orjson

from agents.beam.ranges import Range
from agents.beam.taking import Some, Taking, log_pages
from agents.clock import Deadline
from agents.elastic.bulk import outcome_of
from agents.elastic.chunks import ChunkIndex
from agents.elastic.entries import Registry
from agents.elastic.store import Operation
from agents.fail_points import FailPoints
from agents.indexing.budget import Budget
from agents.indexing.meter import Meter
from agents.indexing.stages import Parts, Stages, Way
from agents.metrics import Metrics
from agents.operations import repair
from agents.operations.filling import Filling
from agents.settings import Settings
from agents.settings.sections import BudgetSettings, CostSettings, RouteSettings
from agents.worker.assignment import Assignment, Subject
from agents.worker.pipeline import EMBEDDING, Pipeline
from agents.worker.spending import Spending
from models.embedder import Embedding
from models.memory import MemoryEmbedder, vector_of
from streams import contract
from streams.batch_size import BatchSize
from streams.claim import Claim, from_bytes, to_bytes
from streams.cost import DAY_S, NANO, NOTHING_SPENT, Price, day_of
from streams.dead_letter import Home, Letter, headers_of, placed, read_letter
from streams.document_vector import FIELD, document_vector, field_beside
from streams.epochs import Cut, Epochs, History, epoch_of_version, for_snapshots, offset_of_version
from streams.errors import PenstockError, RefusedError
from streams.examine import row_of
from streams.ids import version
from streams.memory import MemoryLog, Partition
from streams.plan import FieldNames, Outcome, Space
from streams.protocol import Target
from streams.record import Document, Record, Rejected, decode
from streams.recover import record_from_chunks
from streams.registry import from_source, is_of_older_snapshot, may_go
from streams.routes import Conditions, Route, Routing
from streams.salvage import what_is_left
from streams.snapshot import EPOCH, is_row, origin_of, record_of
from streams.split import SplitRules, TokenIds
from tests.simulation.elastic import REFUSED, MemoryIndex, Row
from tests.simulation.explore import Choices
from tests.simulation.loop import SimulatedLoop, Step
from tests.simulation.service import AT_FAULT, CONTROL, MOST_TEXTS, Server, SimulatedService
from tests.simulation.service import vector_of as served_vector_of

TOPIC = "t"
NAMES = FieldNames(document=FIELD)
OTHER_NAMES = FieldNames(vector="vector_s", document=field_beside("vector_s"))
VECTORS = [str(name) for names in (NAMES, OTHER_NAMES) for name in (names.vector, names.document)]
SHORT = 1
"""Characters of a document that goes to the other model, where there is one."""
ROUTE = Route(name="short", model="s", vector="vector_s", when=Conditions(max_chars=SHORT))
RULES = SplitRules(max_chars=1000, overlap_chars=0, max_tokens=10**6)
METRICS = Metrics()
BUDGET = Budget(10**9)
SAFE_STEPS = 3000
MOST_CHUNKS = 4
"""That any document here has."""
A_TOKEN = {"m": Price(million_tokens=10**6)}
"""What a token costs: one nano."""


decoded = cache(decode)


class Violated(AssertionError):  # noqa: N818 - an assertion
    """Something that must always be true is not; the message ends with the trace."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A small world and what may go wrong in it, each fault at most so often."""

    records: tuple[tuple[str, tuple[str, ...] | None], ...]
    """(document, texts of its chunks; None: a tombstone; ("bad",): not the wire format)."""
    holes: frozenset[int] = frozenset()
    windows: tuple[int, ...] = (1, 2)
    batch_chunks: int = 2
    workers: int = 2
    zombies: bool = True
    """Whether a worker may start while another one lives."""
    anew: tuple[tuple[str, tuple[str, ...] | None], ...] = ()
    """Records of the topic that is made anew."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """crash, rebalance, gap, lost, late, order, reopen, mend, replace, retention, restore, anew, replaced, renew, swap,
    day: `World`."""
    snapshots: tuple[tuple[tuple[str, tuple[str, ...] | None], ...], ...] = ()
    """Rows of each, oldest first; a document may have two. Each may be loaded again and again, in any order."""
    epoch: int = 0
    """Of the index at the beginning; 1 where there are snapshots."""
    topic_ids: bool = True
    """Whether the broker gives topics ids; without, only what is beyond the log's end tells it from another one."""
    unverified: bool = False
    """Whether workers know that chunks may be missing, or others than their entries say."""
    routed: bool = False
    """Whether documents of one letter go to another model."""
    service: bool = False
    """Whether the model is a service: faults busy, unanswered, wrong. No text is in two of the records."""
    costs: bool = False
    """Whether it is counted what embedding costs, a nano a token. No text is in two of the records, and no two workers
    live at a time."""
    per_day: int = 0
    """Tokens that may be spent a day; 0: as many as it takes."""
    refuge: bool = False
    """Whether documents go to the other model, which is free, once they are spent; else they wait."""


class World:
    """Runs one scenario along one line of choices."""

    def __init__(self, scenario: Scenario, choices: Choices) -> None:
        self.scenario = scenario
        self.choices = choices
        self.left = dict(scenario.faults)
        self.loop = SimulatedLoop()  # type: ignore[abstract]  # as much of a loop as is needed
        self.topic = MemoryLog()
        self.topic.partitions[0] = _partition(scenario.records, scenario.holes)
        self.epoch = max(scenario.epoch, 1 if scenario.snapshots else 0)
        self.logs = [scenario.records] * (self.epoch + 1)
        """Of each epoch of this index; the last one is there now, unless `another_log`."""
        self.log_id = "cluster/1" if scenario.topic_ids else "cluster/"
        self.indexed_log = self.log_id
        """As the contract has it."""
        self.old_letters: list[Letter] = []
        """About an earlier incarnation of the index, or of the topic."""
        self.gone: dict[int, Record] = {}
        """What retention took since the first claim."""
        self.counted = lost_total()
        self.keys = sorted({key for key, _ in (*scenario.records, *scenario.anew, *chain(*scenario.snapshots))})
        self.loaded: set[int] = set()
        """Snapshots that are in the index, each as a whole."""
        self.whole = -1
        """The newest that the index is told of."""
        self.half: list[int] = []
        """Those that somebody began, and did not end: late requests of these are in no order with anything."""
        self.refused_rows: set[str] = set()
        """Origins of rows that are dead letters."""
        self.service = Server(self)
        self.now = 0.0
        """Epoch seconds."""
        self.paid: Counter[str] = Counter()
        self.in_no_claim: Counter[str] = Counter()
        """Tokens by day: all; and those of which no claim tells, nor a worker knows."""
        self.homes: dict[tuple[str, int], str] = {}
        """Content hashes by document and version."""
        self.in_vain = 0
        """Texts that were paid for and whose vectors went with a worker."""
        self.registry = MemoryIndex("registry", "r0")
        self.chunks = MemoryIndex("chunks", "c0")
        self.changelog: Claim | None = None
        self.ever_claimed = -1
        self.committed = 0
        self.dead: dict[int, int] = {}
        """Attempts by offset."""
        self.vacuumed: set[str] = set()
        self.damaged: dict[str, int] = {}
        """Version that was damaged, by document."""
        self.damages: Counter[str] = Counter()
        """How often, by document: what is damaged while it is repaired may stay so."""
        self.written: dict[tuple[str, int], Any] = {}
        """Sources of chunks, by id and version: what a snapshot of the chunk index may have."""
        self.loose: set[str] = set()
        """Documents with chunks that their entries say never were: `verify` finds them."""
        self.accepted: dict[str, tuple[int, tuple[str, ...]]] = {}
        """Version whose content is lost, by document, and the texts that are kept instead."""
        self.redriven: dict[int, str] = {}
        """Outcome by offset; empty while it is under way."""
        self.filling = False
        """Since a backfill began that has not ended."""
        self.late: list[tuple[str, Operation]] = []
        self.workers: list[Process] = []
        self.pending: list[Step] = []
        self.newest: dict[str, int] = {}
        self.entries: dict[str, tuple[Row, Any]] = {}
        """As read from these rows."""
        self.checked: dict[str, list[object]] = {}
        """What each document was when it was looked at last: a write puts another row in its place."""
        self.changed = False
        self.broken: Exception | None = None
        self.steps = 0
        self.trace: list[str] = []

    @property
    def log(self) -> dict[int, Record]:
        """What the topic holds, by offset."""
        return self.topic.partitions[0].records

    @property
    def begin(self) -> int:
        """The log's start."""
        return self.topic.partitions[0].begin

    @property
    def end(self) -> int:
        """The log's end."""
        return self.topic.partitions[0].end

    def run(self) -> int:
        """The whole run, then a last worker without faults, then the oracle. Returns the number of steps."""
        try:
            self.explore()
            self.finish()
        finally:
            for worker in self.workers:
                for task in worker.tasks:
                    task.cancel()
            self.loop.run_ready()
        return self.steps

    def explore(self) -> None:
        """Until nothing more can happen, or the end is chosen."""
        self.start()
        while True:
            self.loop.run_ready()
            self.choices.visit(self.state)
            actions = list(self.actions())
            if not actions:
                break
            _, label, act = actions[self.choices.pick_action([actor for actor, _, _ in actions])]
            if act is None:
                break
            self.happen(label, act)

    def actions(self) -> Iterator[tuple[str | None, str, Callable[[], object] | None]]:
        """What may happen next. Faults come last, so that the first choice is always progress."""
        steps = [step for step in self.pending if self.enabled(step)]
        for step in steps:
            yield step.actor, f"{step.actor} {step.label}", lambda step=step: self.take(step)  # type: ignore[misc]
        if not steps:
            yield "", "end", None
        workers = [worker for worker in self.workers if isinstance(worker, Worker)]
        alone = self.scenario.zombies or not any(worker.alive for worker in workers)
        if self.indexed_log != self.log_id:  # every tool refuses, and so does a worker until somebody begins an epoch
            yield None, "another worker starts", self.start
            return
        if len(workers) < self.scenario.workers and alone:
            yield None, "another worker starts", self.start
        for worker in self.workers:
            if worker.alive and steps:
                if self.left.get("crash"):
                    yield None, f"kill -9 {worker.name}", lambda worker=worker: self.crash(worker)  # type: ignore[misc]
                if self.left.get("swap") and isinstance(worker, Worker):
                    yield None, f"the model of {worker.name} is swapped", lambda worker=worker: self.swap(worker)  # type: ignore[misc]
                if self.left.get("rebalance") and worker.assigned:
                    yield None, f"rebalance {worker.name}", lambda worker=worker: self.rebalance(worker)  # type: ignore[misc]
        if any(not timer.cancelled() for timer in self.loop.timers):
            yield None, "the drain's deadline comes", self.loop.fire_timers
        for number, (alias, operation) in enumerate(self.late):
            yield (
                None,
                f"a late copy of {operation.meta['_id']}@{operation.meta.get('version')} arrives",
                lambda number=number, alias=alias: self.arrive_late(number, alias),  # type: ignore[misc]
            )
        if self.left.get("redrive") and not any(
            isinstance(worker, Redriver) and worker.alive for worker in self.workers
        ):
            for offset in sorted(self.dead):
                if REFUSED in self.texts(offset) and not self.chunks.mended:
                    continue  # a mapping that is mended while two write the same refused record: see ADR 6
                yield None, f"redrive {offset}", lambda offset=offset: self.redrive(offset)  # type: ignore[misc]
        idle = not any(worker.alive for worker in self.workers)
        if self.left.get("rewind") and idle and self.changelog:
            yield None, "the claims are set back", self.rewind
        if self.left.get("anew") and not any(isinstance(worker, Worker) and worker.alive for worker in self.workers):
            yield None, "the topic is made anew, and a new epoch begins", self.anew
        quiet = idle or not steps
        if self.left.get("replaced") and quiet and self.may_be_replaced():
            yield None, "topic and claims are deleted and made anew", self.replaced
        if self.left.get("renew") and quiet:
            yield None, "index and registry are deleted and made anew", self.renew
        if self.left.get("redrive") and idle:
            for number, letter in enumerate(self.old_letters):
                label = f"redrive the old letter {letter.record.offset}"
                yield None, label, lambda number=number: self.redrive_old(number)  # type: ignore[misc]
        if self.left.get("snapshot"):
            for number in range(len(self.scenario.snapshots)):
                yield None, f"snapshot {number} is loaded", lambda number=number: self.load(number)  # type: ignore[misc]
        if self.left.get("backfill") and not any(isinstance(one, Backfill) and one.alive for one in self.workers):
            yield None, "a backfill begins", self.backfill
        still = not any(worker.alive for worker in self.workers if not isinstance(worker, Backfill))
        if self.left.get("vacuum") and still and not self.late and self.may_vacuum():
            yield None, "stubs and entries of deleted documents are vacuumed", self.vacuum
        for key, entry in [(key, self.entry(key)) for key in self.keys]:
            if entry is None or entry.state != "done" or not entry.n or entry.version > self.ever_claimed + 1:
                continue
            if self.left.get("damage"):
                yield None, f"{key} is damaged", lambda key=key: self.damage(key)  # type: ignore[misc]
            if self.left.get("restore"):
                yield None, f"{key} is set back, its record gone", lambda key=key: self.restore(key)  # type: ignore[misc]
            repairing = any(isinstance(worker, Repairer | Keeper) and worker.alive for worker in self.workers)
            if self.left.get("repair") and self.damaged.get(key) == entry.version and not repairing:
                yield None, f"repair {key}", lambda key=key: self.repair(key)  # type: ignore[misc]
        if self.left.get("day"):
            yield None, "the next day begins", self.next_day
        if self.left.get("reopen"):
            yield None, "the shards reopen", self.reopen
        if self.left.get("mend"):
            yield None, "the mapping is mended", self.mend
        if self.left.get("retention"):
            for offset in [*sorted(self.log)[1:], self.end]:
                yield None, f"retention up to {offset}", lambda offset=offset: self.retention(offset)  # type: ignore[misc]
        if self.left.get("replace"):
            yield None, "the chunk index is deleted and made anew", self.replace

    def happen(self, label: str, act: Callable[[], object]) -> None:
        """One step, and the invariants after it."""
        self.steps += 1
        self.trace.append(label)
        if self.steps > SAFE_STEPS:
            self.fail("no end is in sight")
        act()
        self.loop.run_ready()
        if self.broken:
            raise self.broken
        if self.changed:
            self.changed = False
            self.check_documents()

    def take(self, step: Step) -> None:
        """A worker's step: its result goes into the worker's history, which is its state."""
        self.pending.remove(step)
        worker = next(worker for worker in self.workers if worker.name == step.actor)
        try:
            result, key = step.run()
        except PenstockError as exc:
            self.crash(worker, str(exc))
            return
        worker.history = hash((worker.history, step.label, key))
        if not step.future.done():
            step.future.set_result(result)

    def enabled(self, step: Step) -> bool:
        """A fetch waits until there is something to fetch."""
        if step.label != "fetch":
            return True
        worker = next(worker for worker in self.workers if worker.name == step.actor)
        return worker.position < self.end

    # what may go wrong

    def spend(self, fault: str) -> bool:
        """Whether a fault happens here, as long as some are left of it."""
        if not self.left.get(fault) or not self.choices.pick(2):
            return False
        self.left[fault] -= 1
        return True

    def start(self) -> None:
        """Another worker gets the partition; the ones before it go on as zombies.

        It refuses to start on another log; `penstock index epoch bump` is the way on.
        """
        if self.is_another_log():
            self.bump()
        self.workers.append(Worker(self, f"w{len(self.workers)}"))

    def crash(self, worker: "Process", why: str = "") -> None:
        """SIGKILL, or an error that ends the process (`why`)."""
        if not why:
            self.left["crash"] -= 1
        worker.alive = False
        if isinstance(worker, Worker) and isinstance(worker.parts.ways[0].embedder, SimulatedService):
            self.check_in_flight(worker.parts.ways[0].embedder.paid)
        if self.scenario.costs and isinstance(worker, Worker) and not self.scenario.service:
            self.in_no_claim += worker.paid_by_day - worker.claimed
        self.pending = [step for step in self.pending if step.actor != worker.name]
        for task in worker.tasks:
            task.cancel()

    def rebalance(self, worker: "Worker") -> None:
        """The partition is revoked and assigned again, to the same process."""
        self.left["rebalance"] -= 1
        worker.spawn(worker.reassign())

    def next_day(self) -> None:
        """At midnight, UTC: who waits for it looks again."""
        self.left["day"] = self.left.get("day", 0) - 1
        self.now += DAY_S
        self.loop.fire_timers()

    def swap(self, worker: "Process") -> None:
        """From here on the model of this worker is another one, and nobody says so."""
        self.left["swap"] -= 1
        worker.embedder.model = swapped
        worker.history = hash((worker.history, "swapped"))

    def redrive(self, offset: int) -> None:
        """Somebody replays a dead letter."""
        self.left["redrive"] = self.left.get("redrive", 0) - 1
        self.told(offset, "")
        self.workers.append(Redriver(self, self.letter(offset)))

    def redrive_old(self, number: int) -> None:
        """Somebody replays everything that is open, letters from before among it."""
        letter = placed(self.old_letters.pop(number), self.home)
        if letter.origin == "foreign":
            return
        self.left["redrive"] -= 1
        if letter.log == self.log_id:
            self.told(letter.record.offset, "")
        self.workers.append(Redriver(self, letter))

    def told(self, offset: int, outcome: str) -> None:
        """What came of a replay; of a second one nothing does."""
        if self.redriven.get(offset) not in ("stored", "unchanged"):
            self.redriven[offset] = outcome

    def letter(self, offset: int) -> Letter:
        """The dead letter of a record of this log, about this index."""
        rejected = Rejected(record=self.log[offset], stage="decode", error="E", message="")
        headers = headers_of(rejected, home=self.home, attempt=self.dead[offset], epoch=self.epoch)
        return read_letter(self.log[offset].key, self.log[offset].value, headers, offset)

    @property
    def home(self) -> Home:
        """What letters are about."""
        return Home(group="g", index=self.chunks.uuid, log=self.indexed_log, epochs=self.epochs)

    @property
    def epochs(self) -> Epochs:
        """Of the index, as a process reads them at its start: each began with another log, or behind snapshots."""
        cuts = [Cut(at="", why="", offsets={}) for _ in range(self.epoch)]
        return Epochs((for_snapshots(""), *cuts[1:]) if self.scenario.snapshots else tuple(cuts))

    def rewind(self) -> None:
        """`penstock index rebuild --in-place`."""
        self.left["rewind"] -= 1
        self.changelog = None

    def anew(self) -> None:
        """The topic is deleted and made anew, its claims stay; `penstock index epoch bump`."""
        self.left["anew"] -= 1
        self.another_topic()
        self.bump()

    def stop(self) -> None:
        """All workers, which have nothing to do just now."""
        for worker in self.workers:
            if worker.alive:
                self.crash(worker, "stopped")

    def replaced(self) -> None:
        """The cluster is lost, or topic and claims are made anew; Elasticsearch is kept, and nobody knows."""
        self.left["replaced"] -= 1
        self.stop()
        self.another_topic()
        self.changelog = None

    def may_be_replaced(self) -> bool:
        """Without topic ids a replaced log that is not shorter than what is indexed cannot be told."""
        return self.scenario.topic_ids or self.ever_claimed >= len(self.scenario.anew)

    def another_topic(self) -> None:
        """Offsets begin at 0 again."""
        self.keep_letters()
        self.topic.partitions[0] = _partition(self.scenario.anew)
        self.gone = {}
        if self.scenario.topic_ids:
            self.log_id += "'"
        self.committed, self.ever_claimed = 0, -1

    def keep_letters(self) -> None:
        """They stay in their topic."""
        self.old_letters += [self.letter(offset) for offset in self.dead if offset in self.log]
        self.dead, self.redriven, self.damaged = {}, {}, {}

    def is_another_log(self) -> bool:
        """As a worker looks at its start."""
        versions = [row.source["version"] for row in self.registry.rows.values() if row.source]
        newest = {0: max(versions, default=0)}
        return not contract.same_log(self.indexed_log, self.log_id) or bool(
            self.home.epochs.beyond(newest, {0: self.end})
        )

    def bump(self) -> None:
        """A new epoch: claims about the log before are void by it."""
        self.epoch += 1
        self.indexed_log = self.log_id
        self.logs.append(self.scenario.anew)

    def renew(self) -> None:
        """Index and registry are deleted, and made anew for the topic that is there; their epochs begin at 0."""
        self.left["renew"] -= 1
        self.stop()
        self.keep_letters()
        self.chunks = MemoryIndex("chunks", self.chunks.uuid + "'")
        self.registry = MemoryIndex("registry", self.registry.uuid + "'")
        self.newest, self.epoch, self.logs, self.late = {}, 0, self.logs[-1:], []
        self.indexed_log, self.ever_claimed = self.log_id, -1
        self.vacuumed = set()
        self.changed = True

    def backfill(self) -> None:
        """`penstock backfill --in-place`: by an engine that goes on, and zombies that nobody knows of."""
        self.left["backfill"] -= 1
        self.filling = True
        self.workers.append(Backfill(self, f"backfill {self.left['backfill']}"))

    def load(self, number: int) -> None:
        """`penstock backfill --from … --sync`: workers, and other snapshots, may be under way."""
        self.left["snapshot"] -= 1
        self.half.append(number)
        self.workers.append(Loader(self, f"loader {self.left['snapshot']}", number))

    def may_vacuum(self) -> bool:
        """Not before a backfill that was begun has ended, though it was killed."""
        return not self.filling

    def vacuum(self) -> None:
        """`penstock index vacuum`, with everything that is under way beyond the horizon."""
        self.left["vacuum"] -= 1
        named = {(self.log[offset].key or b"").decode() for offset in self.dead}
        for key, row in list(self.chunks.rows.items()):
            doc, _, number = key.rpartition("#")
            if row.source and row.source["penstock"]["stub"] and may_go(self.entry(doc), int(number)):
                del self.chunks.rows[key]
                del self.newest[key]
        for key in self.keys:
            entry = self.entry(key)
            if entry and entry.state == "done" and not entry.n and key not in named:
                del self.registry.rows[key]
                self.vacuumed.add(key)

    def damage(self, key: str) -> None:
        """Somebody changes the first chunk, behind Penstock's back."""
        self.left["damage"] -= 1
        row = self.chunks.rows[f"{key}#0"]
        assert row.source is not None
        self.damaged[key] = self.entry(key).version
        self.damages[key] += 1
        row.source = {**row.source, "text": "damaged"}  # a wrong vector with the right hash would be read back

    def restore(self, key: str) -> None:
        """Retention takes the record of a document, and its chunks are set back to a snapshot from before it."""
        self.left["restore"] -= 1
        entry = self.entry(key)
        self.retain(max(self.begin, offset_of_version(entry.version) + 1))
        self.damaged[key] = entry.version
        self.damages[key] += 1
        ids = [chunk for chunk in self.chunks.rows if chunk.rpartition("#")[0] == key]
        for chunk in ids:
            del self.chunks.rows[chunk]
            self.newest.pop(chunk, None)
        made = [made for chunk, made in self.written if chunk in ids and made < (entry.content_version or 0)]
        for chunk in ids:  # in a snapshot each shard is of a moment of its own
            if made and (source := self.written.get((chunk, max(made)))) and self.choices.pick(4):
                self.chunks.seq_no += 1
                self.chunks.rows[chunk] = Row(max(made), self.chunks.seq_no, self.chunks.primary_term, source)
                self.loose |= {key} if int(chunk.rpartition("#")[2]) >= entry.hi else set()
        self.changed = True

    def repair(self, key: str) -> None:
        """`penstock index verify --repair` has found it; with `--accept-data-loss` where its record is gone."""
        self.left["repair"] = self.left.get("repair", 0) - 1
        gone = offset_of_version(self.damaged[key]) not in self.log
        self.workers.append(Keeper(self, key) if gone else Repairer(self, key))

    def arrive_late(self, number: int, alias: str) -> None:
        """A request whose sender gave up waiting is carried out after all."""
        _, operation = self.late.pop(number)
        index = self.resolve(alias)
        if index is not None:
            index.apply(operation.action, operation.meta, operation.source)
            self.changed = True

    def reopen(self) -> None:
        """Shards reopen: versions of deleted documents are forgotten."""
        self.left["reopen"] -= 1
        self.chunks.reopen()
        self.registry.reopen()

    def mend(self) -> None:
        """From here on the server takes what it refused."""
        self.left["mend"] -= 1
        self.chunks.mended = True

    def retention(self, begin: int) -> None:
        """It goes on."""
        self.left["retention"] -= 1
        self.retain(begin)

    def retain(self, begin: int) -> None:
        """Retention takes what is below an offset, read or not."""
        if self.changelog is not None:  # before the first claim nothing was promised
            self.gone |= {offset: record for offset, record in self.log.items() if offset < begin}
        self.topic.partitions[0].delete_before(begin)

    def replace(self) -> None:
        """The chunk index is deleted and made anew, the registry stays; claims about the old one are void."""
        self.left["replace"] -= 1
        self.chunks = MemoryIndex("chunks", self.chunks.uuid + "'")
        self.newest = {}
        self.changed = True

    @property
    def sink(self) -> str:
        """What a claim is about."""
        return f"{self.chunks.uuid}/{self.registry.uuid}/{self.epoch}"  # of cuts that begin another log, and no others

    @property
    def incarnation(self) -> str:
        """What the write aliases name."""
        return self.sink

    def resolve(self, alias: str) -> MemoryIndex | None:
        """The index behind a write alias, which names both indices' uuids, and the epoch."""
        kind, _, incarnation = alias.partition(":")
        if incarnation != self.incarnation:
            return None
        return self.chunks if kind == "chunks" else self.registry

    # what must be true

    def check_documents(self) -> None:
        """Done means: exactly these chunks, always, and the document's own vector their mean. No chunk's version goes
        back."""
        held: dict[str, list[tuple[int, Row]]] = {key: [] for key in self.keys}
        for key, row in self.chunks.rows.items():
            best = self.newest.get(key, 0)
            if row.version < best or row.source is None:
                if row.version < best:
                    self.fail(f"chunk {key} went back from version {best} to {row.version}")
                continue
            self.newest[key] = row.version
            if not row.source["penstock"]["stub"]:
                self.written[key, row.version] = row.source
                if "swap" in self.scenario.faults and tuple(row.source["vector"]) != vector_of(row.source["text"]):
                    self.fail(f"chunk {key} has a vector of another model")
            doc, _, number = key.rpartition("#")
            held[doc].append((int(number), row))
        for key in self.keys:
            rows = [row for _, row in held[key]]
            told = self.damaged.get(key), key in self.loose
            now: list[object] = [self.epoch, self.chunks, self.registry.rows.get(key), *told, *rows]
            if _is_same(now, self.checked.get(key, ())):
                continue
            self.checked[key] = now
            entry = self.entry(key)
            if entry is None or entry.state == "writing" or self.damaged.get(key) == entry.version:
                continue
            texts = self.texts_of(entry.version, entry) if entry.state == "done" else ()
            if self.accepted.get(key, (0,))[0] == entry.version:
                texts = self.accepted[key][1]
            self.check_recoverable(entry, texts)
            names, made_of = NAMES, served_vector_of if self.scenario.service else vector_of
            short = self.scenario.routed and sum(map(len, texts)) <= SHORT
            if self.scenario.refuge and texts:
                short = self.check_home(entry, texts)
            if short:
                names, made_of = OTHER_NAMES, other_vector_of
            wanted = {
                number: (
                    text,
                    {
                        names.vector: made_of(text),
                        **({} if number else {str(names.document): mean_of(tuple(texts), made_of)}),
                    },
                )
                for number, text in enumerate(texts)
            }
            found = {
                number: (source["text"], {name: _tuple(source[name]) for name in VECTORS if name in source})
                for number, source in ((number, row.source) for number, row in held[key])
                if source is not None and not source["penstock"]["stub"]
                if key not in self.loose or number < len(texts)
            }
            if found != wanted:
                self.fail(f"{key} is {entry.state} at version {entry.version} and holds {found}, not {wanted}")

    def check_home(self, entry: Any, texts: Sequence[str]) -> bool:
        """Whether a document is with the other model, as its entry says; no record goes from one to the other."""
        (record,) = _partition([(entry.doc_id, tuple(texts))], frozenset()).records.values()
        document = decode(record)
        assert isinstance(document, Document)
        spaces = [Space(model=name, dims=2, names=names) for name, names in (("m", NAMES), ("s", OTHER_NAMES))]
        routing = Routing(routes=[ROUTE], spaces=spaces, refuge=ROUTE.name)
        homes = {
            placed.document.content_hash: placed
            for placed in (routing.place(document, spent=spent) for spent in (False, True))
        }
        if entry.content_hash not in homes:
            self.fail(f"{entry.doc_id} has a content hash of neither model")
        if self.homes.setdefault((entry.doc_id, entry.version), entry.content_hash) != entry.content_hash:
            self.fail(f"{entry.doc_id} went to another model at version {entry.version}")
        return homes[entry.content_hash].space.model == "s"

    def check_recoverable(self, entry: Any, texts: Sequence[str]) -> None:
        """A document that is done can be made again from its chunks: the topic may have lost its record."""
        if entry.state != "done" or not entry.n:
            return
        rows = [self.chunks.rows.get(f"{entry.doc_id}#{number}") for number in range(entry.n)]
        made = record_from_chunks(entry, TOPIC, [row.source if row else None for row in rows], text_field=NAMES.text)
        document = made and decode(made)
        if not isinstance(document, Document) or [chunk.text for chunk in document.chunks or ()] != list(texts):
            self.fail(f"{entry.doc_id} is done at version {entry.version} and cannot be made again from its chunks")

    def check_in_flight(self, paid: Sequence[str]) -> None:
        """What a worker has paid for in vain is of two batches at most, when it is killed."""
        unsettled = {
            text
            for offset, record in self.log.items()
            if not self.is_settled(offset, record)
            for text in self.texts(offset)
        }
        durable = {row.source.get("text") for row in self.chunks.rows.values() if row.source is not None}
        lost = Counter(text for text in paid if text in unsettled - durable)
        self.in_vain += lost.total()
        most = 2 * max(self.scenario.batch_chunks, MOST_CHUNKS)
        if len(lost) > most:
            self.fail(f"{len(lost)} texts were paid for in vain, and {most} may be in flight")

    def check_paid(self) -> None:
        """Each text is paid for once, and again only where its vector went with a worker, or its answer was no good."""
        paid = {text: count for text, count in self.service.paid.items() if text != CONTROL}
        again = sum(count - 1 for count in paid.values())
        no_good = sum(self.scenario.faults.get(fault, 0) for fault in ("unanswered", "wrong")) * MOST_TEXTS
        if again > self.in_vain + no_good:
            self.fail(f"{again} texts were paid for again, and {self.in_vain} went with workers: {paid}")

    def check_spend(self, worker: "Worker", claim: Claim) -> None:
        """A claim adds what its worker paid for the records that are claimed by it, no less, and nothing twice."""
        before, since = (self.changelog.spend, self.changelog.offset) if self.changelog else (NOTHING_SPENT, -1)
        texts = [text for offset in range(since + 1, claim.offset + 1) for text in self.texts(offset)]
        paid, grown = sum(worker.paid[text] for text in texts), claim.spend.cost - before.cost
        if worker.drained and grown != paid:  # else what was in flight at a rebalance may be in no claim
            self.fail(f"claim {claim.offset} adds {grown} to what was spent, and {paid} was paid for its records")
        if claim.spend.cost > self.paid.total():
            self.fail(f"claim {claim.offset} has {claim.spend.cost} spent of {self.paid.total()} that were paid")
        for day in self.paid:
            more = claim.spend.on(day) - before.on(day)
            (worker.claimed if more > 0 else self.in_no_claim)[day] += abs(more)

    def check_budget(self) -> None:
        """No more is spent a day than may be, and what went with workers before a claim had it; where documents go to
        another model, also what was in flight: a document, and two of each worker before, which stay what they are."""
        day, per_day = day_of(self.now), self.scenario.per_day
        dearest = max(sum(map(len, self.texts(offset))) for offset in self.log)
        in_flight = dearest * (2 * len(self.workers) - 1) if self.scenario.refuge else 0
        if per_day and self.paid[day] > per_day + self.in_no_claim[day] + in_flight:
            self.fail(
                f"{self.paid[day]} tokens are paid for today, {self.in_no_claim[day]} of them in no claim any more: "
                f"{per_day} may be, and {in_flight} in flight"
            )

    def check_books(self) -> None:
        """What the last worker claimed is what the service has had it pay for."""
        last = self.workers[-1]
        assert isinstance(last, Worker)
        if isinstance(service := last.parts.ways[0].embedder, SimulatedService):
            claimed, rest = last.assignment.claimed.total(), service.asking._between.tokens
            if claimed + rest != service.paid_tokens:
                self.fail(f"{claimed} tokens are in claims, and {service.paid_tokens} were paid for")

    def check_claim(self, claim: Claim) -> None:
        """Every record up to a claim is settled in the index that the claim is about."""
        if claim.sink != self.sink:
            return
        for offset, record in self.log.items():
            if offset <= claim.offset and not self.is_settled(offset, record):
                self.fail(f"claimed up to {claim.offset}, but {offset} ({record.key!r}) is not settled")

    def is_settled(self, offset: int, record: Record) -> bool:
        """Stored, superseded or dead-lettered."""
        if offset in self.dead:
            return True
        entry = self.entry((record.key or b"").decode())
        if entry is None:
            return (record.key or b"").decode() in self.vacuumed
        if isinstance(decoded(record), Rejected):
            return False
        mine = version(self.epoch, offset)
        if self.damaged.get(entry.doc_id) == entry.version:
            return True  # it was, and is being repaired
        return bool(entry.version > mine or (entry.version == mine and entry.state == "done"))

    def check_ack(self, offset: int) -> None:
        """What is acknowledged was claimed before, durably."""
        if offset > self.ever_claimed:
            self.fail(f"offset {offset} is acknowledged and not claimed")
        self.committed = max(self.committed, offset + 1)

    def entry(self, key: str) -> Any:
        """The registry entry of a document about the present chunk index."""
        row = self.registry.rows.get(key)
        if row is None or row.source is None or row.source["chunk_index_uuid"] != self.chunks.uuid:
            return None
        known = self.entries.get(key)
        if known is None or known[0] is not row:
            known = self.entries[key] = row, from_source(row.source)
        return known[1]

    def texts(self, offset: int) -> tuple[str, ...]:
        """Chunks of the record at an offset."""
        return self.logs[self.epoch][offset][1] or ()

    def texts_of(self, made: int, entry: Any = None) -> tuple[str, ...]:
        """Chunks of the record that a version was made for. `entry`: of the document, where it may be a row's."""
        if self.scenario.snapshots and epoch_of_version(made) == EPOCH:
            rows = [
                texts or () for key, texts in self.scenario.snapshots[offset_of_version(made)] if key == entry.doc_id
            ]
            said = {_content_hash(entry.doc_id, texts): texts for texts in rows or [()]}
            if entry.content_hash not in said:
                self.fail(f"{entry.doc_id} is what no row of snapshot {offset_of_version(made)} says")
            return said[entry.content_hash]
        if epoch_of_version(made) > self.epoch:
            self.fail(f"version {made} is of an epoch that this index does not have")
        records = self.logs[epoch_of_version(made)]
        offset = offset_of_version(made)
        return (records[offset][1] or ()) if offset < len(records) else ("of no record",)

    def finish(self) -> None:
        """A last worker replays what is not claimed; late requests arrive; then everything must be as it should."""
        self.left = {}
        self.trace.append("-- the last worker --")
        if self.is_another_log():
            self.bump()
        if self.scenario.costs:
            self.stop()
        last = Worker(self, "last")
        self.workers.append(last)
        for _ in range(60):
            self.loop.run_ready()
            while steps := [step for step in self.pending if self.enabled(step)]:
                self.happen(f"{steps[0].actor} {steps[0].label}", lambda steps=steps: self.take(steps[0]))  # type: ignore[misc]
            if not last.alive:
                self.fail("the last worker ended")
            if last.assigned and last.assignment.snapshot()[0]["lag"] == 0:
                break
            last.spawn(last.assignment.watch())
            if self.scenario.per_day:
                self.happen("the next day begins", self.next_day)
        else:
            self.fail(f"the lag does not reach 0: {self.changelog}")
        for offset in [offset for offset, outcome in self.redriven.items() if outcome in ("", "busy")]:
            if offset in self.dead:
                self.redrive(offset)  # whoever began it, and saw it end badly, does it again
            self.run_alone()
        for key, damaged in list(self.damaged.items()):
            if self.entry(key).version == damaged:
                self.repair(key)
                self.run_alone()
        while self.late:
            self.happen("a late copy arrives", lambda: self.arrive_late(0, self.late[0][0]))
        if self.scenario.costs and self.workers[-1] is last:
            self.check_books()
        self.check_end()

    def run_alone(self) -> None:
        """The process that came last, to its end."""
        self.loop.run_ready()
        while steps := [step for step in self.pending if step.actor == self.workers[-1].name]:
            self.happen(f"{steps[0].actor} {steps[0].label}", lambda steps=steps: self.take(steps[0]))  # type: ignore[misc]

    def check_end(self) -> None:
        """The oracle: each document's newest valid record, and nothing else. What retention took unread is counted."""
        self.check_documents()
        if self.scenario.service:
            self.check_paid()
        lost = {offset for offset, record in self.gone.items() if not self.is_settled(offset, record)}
        if lost_total() - self.counted < len(lost):
            self.fail(f"{lost} were lost, and {lost_total() - self.counted} are counted")
        for key in self.keys:
            valid = [
                offset
                for offset, record in self.log.items()
                if record.key == key.encode() and not isinstance(decode(record), Rejected)
            ]
            valid += [
                offset
                for offset, outcome in self.redriven.items()
                if outcome in ("stored", "unchanged") and self.log[offset].key == key.encode()
            ]
            if not valid:
                self.check_snapshots(key)
                continue
            entry, last = self.entry(key), max(valid)
            states = ["rejected"] if {REFUSED, AT_FAULT} & set(self.texts(last)) else ["done"]
            if self.chunks.mended and states == ["rejected"]:
                states.append("done")
            if entry is None and key in self.vacuumed and not self.texts(last):
                continue
            if entry is None or entry.version != version(self.epoch, last) or entry.state not in states:
                self.fail(f"{key}: {entry} is not {' or '.join(states)} at offset {last}")
            if entry.state != "done" and self.redriven.get(last) == "stored":
                self.fail(f"{key}: {last} was redriven, and is {entry.state}")
            if entry.state == "rejected" and last not in self.dead:
                self.fail(f"{key}: {last} was refused and is not in the dead letters")

    def check_snapshots(self, key: str) -> None:
        """A document that the log says nothing of is as in the newest snapshot that is loaded, or gone with it."""
        entry, newest = self.entry(key), max(self.loaded, default=None)
        if newest is None or (entry and entry.version > version(EPOCH, newest)):
            return
        rows = [texts for one, texts in self.scenario.snapshots[newest] if one == key]
        if not rows:
            if entry and entry.n and not any(one < newest for one in self.half):
                self.fail(f"{key} is in the index, and snapshot {newest} does not have it")
        elif entry is None or entry.version != version(EPOCH, newest) or entry.state != "done":
            self.fail(f"{key}: {entry} is not as in snapshot {newest}")
        if len(set(rows)) > 1 and not any(row.startswith(f"{newest} {key} ") for row in self.refused_rows):
            self.fail(f"{key} is in snapshot {newest} twice, and no row of it is a dead letter")

    def fail(self, what: str) -> None:
        """Raise Violated with the trace."""
        raise Violated(what + "\n  " + "\n  ".join(self.trace))

    def state(self) -> Hashable:
        """All that decides what can happen from here on."""
        return (
            tuple((worker.alive, worker.history, worker.position, worker.rebalances) for worker in self.workers),
            tuple((step.actor, step.label) for step in self.pending),
            (self.chunks.uuid, self.chunks.mended),
            frozenset((key, row.version, _text(row.source)) for key, row in self.chunks.rows.items()),
            frozenset((key, row.seq_no, row.version) for key, row in self.registry.rows.items()),
            frozenset(_entry(row.source) for row in self.registry.rows.values()),
            self.changelog,
            (self.committed, self.epoch, self.begin, self.log_id, self.indexed_log),
            tuple((one.index, one.log, one.epoch, one.place, one.attempt) for one in self.old_letters),
            tuple(sorted(self.dead.items())),
            tuple(sorted(self.redriven.items())),
            (frozenset(self.vacuumed), frozenset(self.loaded), self.whole, frozenset(self.refused_rows)),
            tuple(sorted(self.damaged.items())),
            (tuple(sorted(self.accepted.items())), frozenset(self.loose)),
            tuple((alias, _told(operation)) for alias, operation in self.late),
            tuple(self.left.items()),
            any(not timer.cancelled() for timer in self.loop.timers),
        )


class Process:
    """One process, and what the product calls in it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.assigned = False
        self.history = 0
        self.rebalances = 0
        self.position = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.paid: Counter[str] = Counter()
        """Tokens that were paid for, by text; since the last assignment."""
        self.paid_by_day: Counter[str] = Counter()
        self.embedder = SimulatedEmbedder(self)
        self.other = MemoryEmbedder(other_vector_of)

    def make_parts(self) -> Parts:
        """The real adapters over the simulated server, with what a process reads of the index at its start."""
        points, incarnation = FailPoints(), self.world.incarnation
        size = self.world.scenario.batch_chunks
        store = SimulatedStore(self)
        unverified = self.world.scenario.unverified
        target = Target(chunk_index_uuid=self.world.chunks.uuid, unverified=unverified)
        routed = self.world.scenario.routed
        model = SimulatedService(self) if self.world.scenario.service else self.embedder
        return Parts(
            ways=[
                Way(
                    space=Space(model=name, dims=embedder.dims, names=names),
                    rules=RULES,
                    embedder=embedder,
                    batch=BatchSize(start=size, least=size, most=size),
                )
                for name, embedder, names in (("m", model, NAMES), ("s", self.other, OTHER_NAMES))
            ][: 2 if routed else 1],
            routes=[ROUTE] if routed else [],
            refuge=ROUTE.name if self.world.scenario.refuge else None,
            epochs=self.world.epochs,
            target=target,
            registry=Registry(store, f"registry:{incarnation}"),
            chunks=ChunkIndex(store, METRICS, points, write_alias=f"chunks:{incarnation}"),
            dead_letters=SimulatedLetters(self),
            budget=BUDGET,
            metrics=METRICS,
            fail_points=points,
            meter=Meter(A_TOKEN, METRICS, self.clock_of_the_world) if self.world.scenario.costs else None,
        )

    def clock_of_the_world(self) -> float:
        return self.world.now

    def spawn(self, coroutine: Any) -> None:
        """A task of this worker; an error of the product's own kind ends the worker."""

        async def supervised() -> None:
            try:
                await coroutine
            except PenstockError as exc:
                self.world.crash(self, str(exc))
            except Exception as exc:  # noqa: BLE001 - a broken invariant, or a bug: the run ends with it
                self.world.broken = exc

        self.tasks.append(self.world.loop.create_task(supervised()))

    def step(self, label: str, run: Callable[[], tuple[Any, Any]]) -> Awaitable[Any]:
        """Wait for this step's turn."""
        future = self.world.loop.create_future()
        if self.alive:
            self.world.pending.append(Step(self.name, label, run, future))
        return future


class SimulatedEmbedder(MemoryEmbedder):
    """The model of a process. Where it may be swapped, each text is a step, and so is the canary behind them."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process

    async def embed(self, tokens: Sequence[TokenIds]) -> Embedding:
        if self.process.world.scenario.costs:
            await self.process.step("embed", lambda: self.pay(tokens))
        if "swap" not in self.process.world.scenario.faults:
            return await super().embed(tokens)
        rows = [await self.one(bytes(ids).decode()) for ids in tokens]
        await self.process.step("canary", lambda: (None, self.model is vector_of))
        return Embedding(vectors=np.asarray(rows, dtype=np.float32), runs=[], canary=await self.prove())

    def pay(self, tokens: Sequence[TokenIds]) -> tuple[Any, Any]:
        """Whatever becomes of the vectors."""
        world, process = self.process.world, self.process
        for ids in tokens:
            process.paid[bytes(ids).decode()] += len(ids)
            process.paid_by_day[day_of(world.now)] += len(ids)
            world.paid[day_of(world.now)] += len(ids)
        world.check_budget()
        return None, None

    async def one(self, text: str) -> Any:
        def run() -> tuple[Any, Any]:
            return (vector := self.model(text)), vector

        return await self.process.step(f"embed {text}", run)


class SimulatedStore:
    """Registry and chunk index of the world, as one process reaches them: each request and each item is a step."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world

    async def get(self, index: str, ids: Sequence[str], fields: str | None = None) -> list[Any]:
        def run() -> tuple[Any, Any]:
            found = self.world.resolve(index)
            if found is None:
                raise PenstockError("index gone")
            docs = [found.get(key) for key in ids]
            return docs, tuple((doc.get("_seq_no"), doc.get("_primary_term")) for doc in docs)

        rows: list[Any] = await self.process.step(f"read {index.partition(':')[0]} {' '.join(ids)}", run)
        return rows

    async def send(self, index: str, operations: Iterable[Operation], *, require_alias: bool = False) -> list[Outcome]:
        """Items one by one, in any order; an answer may be lost, and a copy of the request may arrive later."""
        world, drawn = self.world, list(operations)
        # of a redrive that is refused once more, a late copy may do harm: see ADR 9
        if (isinstance(self.process, Worker) or world.chunks.mended) and world.spend("late"):
            world.late += [(index, operation) for operation in drawn]
        outcomes: dict[int, Outcome] = {}
        order = list(range(len(drawn)))
        if len(order) > 1 and world.spend("order"):
            order.reverse()
        sends = 2 if world.spend("lost") else 1
        for again in range(sends):
            for number in order:
                operation = drawn[number]
                label = f"{operation.action} {_told(operation)}{' again' if again else ''}"
                outcomes[number] = await self.process.step(label, partial(self.apply, index, operation))
        return [outcomes[number] for number in range(len(drawn))]

    def apply(self, alias: str, operation: Operation) -> tuple[Any, Any]:
        """One item at the server."""
        index = self.world.resolve(alias)
        if index is None:
            raise PenstockError("index gone")
        answer = index.apply(operation.action, operation.meta, _stored(operation.source))
        self.world.changed = True
        kept = answer.get("_seq_no") if index is self.world.registry else None  # of chunks nobody looks at it
        return outcome_of(answer), (answer["status"], kept)


class SimulatedLetters:
    """The dead-letter topic: the attempts by offset."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def send(self, rejected: Rejected, *, attempt: int, epoch: int) -> None:
        offset = rejected.record.offset

        def run() -> tuple[Any, Any]:
            if is_row(rejected.record):
                self.process.world.refused_rows.add(origin_of(rejected.record))
            else:
                self.process.world.dead[offset] = attempt
            return None, None

        await self.process.step(f"dead letter {offset}", run)


class Worker(Process):
    """A worker: pipeline, admission and claims."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.position = world.committed  # Faust starts where the group committed
        self.now = 0.0
        sink = world.sink
        self.assignment = Assignment(
            Subject(topic=TOPIC, sink=sink),
            claims=SimulatedClaims(self),
            log=world.topic,
            patient=world.topic,
            seek=self.seek,
            passed=lambda *_: None,
            fetched=self.fetched,
            metrics=METRICS,
            budget=BUDGET,
            now=self.clock,
        )
        self.parts = self.make_parts()
        self.drained = True
        """Whether nothing was in flight at any assignment."""
        self.claimed: Counter[str] = Counter()
        """Tokens that its claims have added, by day."""
        spending = self.make_spending() if world.scenario.per_day else None
        self.pipeline = Pipeline(self.parts, self.assignment, spending)
        embedding = [self.pipeline.run_embedding() for _ in range(EMBEDDING)]
        for stage in (self.deliver(), *embedding, self.pipeline.run_writing(), *([spending.run()] if spending else [])):
            self.spawn(stage)

    def make_spending(self) -> Spending:
        """The real one; it reads the claims as a tool does."""
        assert self.parts.meter is not None
        self.parts.meter.gate = spending = Spending(
            budget_of(self.world.scenario.per_day, refuge=self.world.scenario.refuge),
            reader=cast(Any, SimulatedReader(self)),
            assignment=self.assignment,
            meter=self.parts.meter,
            metrics=METRICS,
            partitions=1,
            now=self.clock_of_the_world,
        )
        return spending

    async def deliver(self) -> None:
        """The agent: Faust's windows into the pipeline."""
        await self.assignment.assign([0])
        self.assigned = True
        self.pipeline.resume()
        while True:
            events = await self.step("fetch", self.fetch)
            admitted = await self.assignment.admit(events)
            if admitted:
                await self.pipeline.accept(admitted)

    def fetch(self) -> tuple[Any, Any]:
        """The next window; Faust may skip records before it."""
        world = self.world
        if world.spend("gap"):
            self.position += 1
        wanted = world.scenario.windows[world.choices.pick(len(world.scenario.windows))]
        found = [offset for offset in world.log if offset >= self.position][:wanted]
        after, events = max(self.position, world.begin), []
        for offset in found:
            event = SimpleNamespace(ack=lambda offset=offset: world.check_ack(offset))
            events.append((world.log[offset], after, event))
            after = offset + 1
        self.position = found[-1] + 1 if found else world.end
        return events, tuple(found)

    async def reassign(self) -> None:
        """As the worker does at a rebalance."""
        self.rebalances += 1
        self.drained &= await self.pipeline.drain(Deadline(10))
        self.assignment.revoke()
        self.paid.clear()
        await self.assignment.assign([0])
        self.pipeline.resume()
        self.position = self.world.committed

    def clock(self) -> float:
        self.now += 10
        return self.now

    async def fetched(self, _: int) -> int:
        return self.position

    async def seek(self, offsets: Mapping[int, int]) -> None:
        def run() -> tuple[Any, Any]:
            self.position = offsets[0]
            return None, offsets[0]

        await self.step("seek", run)


class SimulatedClaims:
    """The changelog, as one worker reaches it: a write is a step."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def read(self, _: int) -> Claim | None:
        changelog = self.process.world.changelog
        self.process.history = hash((self.process.history, changelog))
        return changelog

    async def write(self, _: int, claim: Claim) -> None:
        world = self.process.world

        def run() -> tuple[Any, Any]:
            world.check_claim(claim)
            if world.scenario.costs and not world.scenario.service and isinstance(self.process, Worker):
                world.check_spend(self.process, claim)
            world.changelog = claim
            world.ever_claimed = max(world.ever_claimed, claim.offset)
            return None, claim.offset

        await self.process.step(f"claim {claim.offset}", run)


class SimulatedReader:
    """The changelog, as whoever reads all claims reaches it."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def last(self, _: str) -> dict[int, Record]:
        def run() -> tuple[Any, Any]:
            claim = self.process.world.changelog
            value = to_bytes(claim) if claim else None
            record = Record(topic="claims", partition=0, offset=0, timestamp_ms=0, key=b"0", value=value)
            return {0: record} if claim else {}, hash(value)

        found: dict[int, Record] = await self.process.step("look at the claims", run)
        return found


class Redriver(Process):
    """`penstock dlq replay` of one dead letter."""

    def __init__(self, world: World, letter: Letter) -> None:
        super().__init__(world, f"redrive {letter.record.offset}{' of before' if letter.origin != 'own' else ''}")
        self.letter = letter
        self.spawn(self.run())

    async def run(self) -> None:
        """The record through the stages. One that was not the wire format is read by a mended parser."""
        world, record = self.world, self.letter.record
        if isinstance(decode(record), Rejected):
            record = replace(record, value=orjson.dumps({"chunks": [{"text": "bad"}]}))
        stages = Stages(self.make_parts())
        mended = world.chunks.mended
        works = [stages.work_of(record, self.letter.attempt + 1, epoch=self.letter.epoch)]
        await stages.prepare(works)
        await stages.begin(works)
        await stages.embed(works)
        await stages.write(works)
        (work,) = works
        if work.rejected and (mended or REFUSED not in (record.value or b"").decode()):
            world.fail(f"{self.name} was refused: {work.rejected.message}")
        if self.letter.log == world.log_id:
            world.told(record.offset, work.outcome)
        self.alive = False


class Backfill(Process):
    """`penstock backfill`: ranges of two records, of which an engine takes two at a time, the last ones first."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.spawn(self.run())

    async def run(self) -> None:
        """The whole log, then a claim, unless a worker runs by then."""
        world, sink, stages = self.world, self.world.sink, Stages(self.make_parts())
        taking = Taking(stages, log_pages(stages, world.topic, TOPIC), most=2)

        async def claims() -> Mapping[int, Claim]:
            found = await SimulatedReader(self).last("")
            return {number: claim for number, row in found.items() if (claim := from_bytes(row.value))}

        async def require_true(_: float) -> None:
            if world.sink != sink or any(isinstance(one, Worker) and one.alive for one in world.workers):
                raise RefusedError("a worker runs, or the index is another one")

        async def fill(ranges: Mapping[int, range]) -> Counter[str]:
            (one,) = ranges.values()
            parts = [Range(0, start, min(start + 2, one.stop)) for start in reversed(range(one.start, one.stop, 2))]

            async def process() -> None:
                while parts:
                    await taking.take(parts.pop(0))

            await asyncio.gather(process(), process())
            return Counter()

        filling = Filling(
            TOPIC,
            sink,
            History(log=world.log_id, partitions=1, cuts=cast(Any, ())),
            log=world.topic,
            claims=claims,
            write=SimulatedClaims(self).write,
            require_true=require_true,
            now=self.clock_of_the_world,
        )
        await filling.run({0: world.begin}, fill)
        self.alive = world.filling = False


class Loader(Process):
    """`penstock backfill --from … --sync`: pieces of two rows, of which an engine takes two at a time."""

    def __init__(self, world: World, name: str, number: int) -> None:
        super().__init__(world, name)
        self.number = number
        self.spawn(self.run())

    async def run(self) -> None:
        """All rows; then what older snapshots alone have is deleted."""
        world, at, stages = self.world, self.number, Stages(self.make_parts())
        records = [
            record_of(TOPIC, at, f"{at} {key} {number}", key.encode(), _value(texts))
            for number, (key, texts) in enumerate(world.scenario.snapshots[at])
        ]

        async def pages(part: range) -> AsyncIterator[Some]:
            yield Some([stages.work_of(record) for record in records[part.start : part.stop]], len(part))

        taking, parts = Taking(stages, pages, most=2), [range(start, start + 2) for start in range(0, len(records), 2)]

        async def process() -> None:
            while parts:
                await taking.take(parts.pop())

        await asyncio.gather(process(), process())
        whole = await self.step("tell that it is whole", self.tell)
        missing = await self.step("look for what is gone", partial(self.missing, whole))
        works = [stages.work_of(record_of(TOPIC, whole, "--sync", key.encode(), None)) for key in missing]
        await stages.prepare(works)
        await stages.through(works)
        world.loaded.add(at)
        world.half.remove(at)
        self.alive = False

    def tell(self) -> tuple[int, Hashable]:
        """The index, unless a newer one is; returns which one."""
        self.world.whole = max(self.world.whole, self.number)
        return self.world.whole, self.world.whole

    def missing(self, whole: int) -> tuple[list[str], Hashable]:
        """As `agents.operations.snapshots` finds them."""
        entries = [entry for key in self.world.keys if (entry := self.world.entry(key))]
        found = [one.doc_id for one in entries if is_of_older_snapshot(one, version(EPOCH, whole))]
        return found, tuple(found)


class Repairer(Process):
    """`penstock index verify --repair` of one document."""

    def __init__(self, world: World, key: str) -> None:
        super().__init__(world, f"repair {key}")
        self.key = key
        self.spawn(self.run())

    async def run(self) -> None:
        """The record that the entry is about, once more."""
        world, damaged, damages = self.world, self.world.damaged[self.key], self.world.damages[self.key]
        stages = Stages(self.make_parts())
        works = [stages.work_of(world.log[damaged - 1], 2, repair=True)]
        await stages.prepare(works)
        await stages.begin(works)
        await stages.embed(works)
        await stages.write(works)
        if works[0].intent and (world.damaged.get(self.key), world.damages[self.key]) == (damaged, damages):
            del world.damaged[self.key]
        self.alive = False


class Keeper(Process):
    """`penstock index verify --repair --accept-data-loss` of one document, whose record is gone."""

    def __init__(self, world: World, key: str) -> None:
        super().__init__(world, f"keep {key}")
        self.key = key
        self.spawn(self.run())

    async def run(self) -> None:
        """What is whole of an older record becomes all that there is."""
        world, key, damaged = self.world, self.key, self.world.damaged[self.key]
        damages, parts = world.damages[key], self.make_parts()
        stored = (await parts.registry.read([key])).get(key)
        ids = [f"{key}#{number}" for number in range(MOST_CHUNKS)]
        found = await SimulatedStore(self).get(f"chunks:{world.incarnation}", ids)
        rows = {k: row_of(row["_source"], row["_version"]) for k, row in enumerate(found) if row["found"]}
        entry = stored.entry if stored else None
        left = what_is_left(key, entry, rows, chunk_index_uuid=parts.target.chunk_index_uuid, registry_set_back=False)
        if stored and left and stored.entry.version == damaged:
            await repair.keep(left, stored, rows, parts.chunks, parts.registry, TOPIC)
            if world.entry(key) == left.entry and (world.damaged.get(key), world.damages[key]) == (damaged, damages):
                content = left.entry.content_version or 0
                world.accepted[key] = damaged, world.texts_of(content) if left.entry.n else ()
                del world.damaged[key]
                world.loose.discard(key)
        self.alive = False


@cache
def budget_of(tokens: int, *, refuge: bool) -> Settings:
    """As `A_TOKEN` has prices."""
    then: dict[str, Any] = {"then": f"route:{ROUTE.name}"} if refuge else {}
    return Settings(
        route=(RouteSettings(name=ROUTE.name, model=ROUTE.model, max_chars=SHORT),),
        cost=CostSettings.model_validate({"models": {"m": {"million_tokens": "0.001"}}}),
        budget=BudgetSettings(per_day=Decimal(tokens) / NANO, **then),
    )


def _is_same(now: Sequence[object], before: Sequence[object]) -> bool:
    return len(now) == len(before) and all(one is other for one, other in zip(now, before, strict=True))


def lost_total() -> float:
    """Records counted as lost, in all runs so far."""
    (metric,) = METRICS.records_lost.labels(TOPIC, "0").collect()  # the whole registry would take a fifth of a run
    return next(float(sample.value) for sample in metric.samples if sample.name.endswith("_total"))


def _record(offset: int, key: str, texts: tuple[str, ...] | None) -> Record:
    value = _value(texts)
    return Record(topic=TOPIC, partition=0, offset=offset, timestamp_ms=offset, key=key.encode(), value=value)


def _value(texts: tuple[str, ...] | None) -> bytes | None:
    if texts is None:
        return None
    if texts == ("bad",):
        return b"bad"
    return orjson.dumps({"chunks": [{"text": text} for text in texts]} if texts else {"text": ""})


@cache
def _content_hash(key: str, texts: tuple[str, ...]) -> str:
    """Of a row, or of the deletion of what has none."""
    document = decode(_record(0, key, texts or None))
    assert isinstance(document, Document)
    return document.content_hash


def _partition(records: Sequence[tuple[str, tuple[str, ...] | None]], holes: frozenset[int] = frozenset()) -> Partition:
    partition = Partition()
    for offset, (key, texts) in enumerate(records):
        if offset not in holes:
            partition.append(_record(offset, key, texts))
    partition.end = len(records)
    return partition


def _stored(source: dict[str, Any]) -> dict[str, Any]:
    """As the server keeps it: vectors are lists."""
    return {**source, **{name: [float(x) for x in source[name]] for name in VECTORS if name in source}}


def _tuple(vector: Iterable[float] | None) -> tuple[float, ...] | None:
    return None if vector is None else tuple(map(float, vector))


@cache
def mean_of(texts: tuple[str, ...], made_of: Callable[[str], tuple[float, ...]]) -> tuple[float, ...] | None:
    """A document's own vector, of its chunks'. A token is a byte."""
    vectors = np.asarray([made_of(text) for text in texts], dtype=np.float32)
    return _tuple(document_vector(vectors, [len(text.encode()) for text in texts]))


def other_vector_of(text: str) -> tuple[float, ...]:
    """Of the model of short documents."""
    return vector_of(text)[1], 2.0


def swapped(text: str) -> tuple[float, ...]:
    """What another model gives."""
    return vector_of(text)[::-1]


def _text(source: dict[str, Any] | None) -> str | None:
    return None if source is None else source.get("text")


def _entry(source: dict[str, Any] | None) -> Hashable:
    return tuple((name, value) for name, value in (source or {}).items() if name != "updated_at")


def _told(operation: Operation) -> str:
    source, key = operation.source, operation.meta["_id"]
    if "state" in source:
        return f"entry {key} {source['state']}@{source['version']} n={source['n']} hi={source['hi']}"
    return f"{'stub' if source['penstock']['stub'] else 'chunk'} {key}@{operation.meta.get('version')}"


def simulate(scenario: Scenario) -> Callable[[Choices], int]:
    """For `explore`: one run of the scenario."""
    return lambda choices: World(scenario, choices).run()
