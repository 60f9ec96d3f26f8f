"""A search for records that harm a worker: tried in masses on real servers, and shrunk to the one at fault.

A worker with a null model works a topic. It never ends and never stands still, every record is indexed or a dead
letter that names its reason and gives the record back as it was, its memory is bounded, and the next ordinary record
is found by a reader.
"""

import asyncio
import itertools
import random
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
from numpy.typing import NDArray

from agents.configured import split_rules
from agents.elastic.client import connect
from agents.kafka.batches import text_of
from agents.operations.status import read_status
from models.manifest import Manifest, read_manifest
from models.tokens import Tokens
from streams.dead_letter import Letter, read_letter
from streams.examine import WHERE, Finding, Place, examine_all, expected_of
from streams.ids import entry_id
from streams.plan import FieldNames, Space
from streams.record import Record
from streams.routes import Routing
from tests.kit.harness import Servers, Worker, World, scan
from tests.kit.records import Baked, Batch, Recipe, bake, batches
from tests.kit.shrink import shrunk
from tests.kit.wire import Wire

PARTITIONS = 2
ROUND = 1500
"""Records that are tried together."""
SHRINK_S = 300.0
"""At most, for one finding."""
READY_S = 180.0
STALL_S = 180.0
"""Nothing settled for so long, with lag: the worker's own watchdog comes first."""
CONSTANT = 200 * 1024**2
"""What a worker may take above its size at rest and `batch.max_inflight_bytes`."""
LIMITS = frozenset({"DocumentTooLarge", "ChunkTooLong", "TokenizerFailed"})
"""Errors of records that are valid, and too large for the settings."""
WHOLE = ("text", "metadata.doc_id", "metadata.chunk", *WHERE, "metadata.language", "penstock")
NULL = """
import numpy as np
import models.onnx.embedder
from models.onnx.runtime import Setup
from models.onnx.session import Session
from models.onnx.choose import Verdict
from tests.kit.search import vector_of

setup = Setup(provider="cpu", precision="fp32", lanes=1, threads=1)
models.onnx.embedder.choose = lambda *_, **__: Verdict(setup=setup, measured={})
models.onnx.embedder.golden_cosine = lambda *_: 1.0
Session.run = lambda self, batch: np.stack([vector_of(ids, self._manifest.dims) for ids in batch])
"""
"""A change: a model that costs nothing; a text has a vector of its own."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with a topic, and the batches that may be at fault, the likely ones first."""

    kind: str
    what: str
    suspects: tuple[Batch, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}\n  of: " + "\n      ".join(map(repr, self.suspects))


@dataclass(slots=True)
class Tried:
    """Figures of what was tried. `letters`: dead letters by stage and error; `above_rest`: bytes, the most."""

    records: int = 0
    indexed: int = 0
    letters: Counter[str] = field(default_factory=Counter)
    above_rest: int = 0

    def add(self, other: "Tried") -> None:
        """Together."""
        self.records += other.records
        self.indexed += other.indexed
        self.letters += other.letters
        self.above_rest = max(self.above_rest, other.above_rest)


class Search:
    """Tries batches, each time on a topic and an index of their own. `variables`: settings of the worker."""

    def __init__(
        self, servers: Servers, model_folder: Path, tmp: Path, variables: Mapping[str, str], limit: int
    ) -> None:
        self._servers = servers
        self._model = model_folder
        self._tmp = tmp
        self._limit = limit
        self._variables = {"PENSTOCK_DEAD_LETTERS__MAX_RATIO": "1", **variables}
        self._numbers = itertools.count()
        self._tokens = Tokens(model_folder / "tokenizer.json")
        self._manifest = read_manifest(model_folder)

    def attempt(self, *phases: Sequence[Batch]) -> tuple[Tried, Trouble | None]:
        """Let a worker do the phases: the first one while it is sent, each further one after a restart."""
        folder = self._tmp / str(next(self._numbers))
        folder.mkdir()
        world = World(self._servers, self._model, folder, "fast")
        try:
            attempt = _Attempt(world, self._variables, self._tokens, self._manifest)
            return asyncio.run(attempt.run(phases, self._limit))
        finally:
            world.close()

    def shrink(self, trouble: Trouble, until: float) -> Trouble:
        """Trouble of the same kind, of as little as it takes. `until`: monotonic."""

        def fails(batches: Sequence[Batch]) -> bool:
            found = self.attempt(batches)[1]
            return found is not None and found.kind == trouble.kind

        return replace(trouble, suspects=tuple(shrunk(trouble.suspects, fails, until)))

    def hunt(self, rng: random.Random, minutes: float, say: Callable[[str], None]) -> tuple[Tried, list[Trouble]]:
        """Round after round. What gave trouble is shrunk, and its parts are left out of the rounds that follow."""
        found, troubles, until = Tried(), list[Trouble](), time.monotonic() + minutes * 60
        without: set[str] = set()
        while time.monotonic() < until:
            chosen = list(batches(rng, ROUND, limit=self._limit, without=frozenset(without)))
            middle = rng.randrange(len(chosen))
            tried, trouble = self.attempt(chosen[:middle], chosen[middle:])
            found.add(tried)
            if trouble is not None:
                say(f"after {found.records} records and more: {trouble.kind}, {trouble.what}; shrinking")
                troubles.append(self.shrink(trouble, time.monotonic() + SHRINK_S))
                without.update(part for batch in troubles[-1].suspects for part in batch.odd)
                say(str(troubles[-1]))
        return found, troubles


class _Attempt:
    def __init__(self, world: World, variables: Mapping[str, str], tokens: Tokens, manifest: Manifest) -> None:
        self._world = world
        self._variables = variables
        self._tokens = tokens
        self._manifest = manifest
        self._sent: dict[Place, tuple[Record, Baked]] = {}
        self._batch_of: dict[Place, Batch] = {}
        self._aborted: list[Batch] = []
        self._settled: dict[int, int] = {}
        self._rest: int | None = None
        self._most = 0

    async def run(self, phases: Sequence[Sequence[Batch]], limit: int) -> tuple[Tried, Trouble | None]:
        world, found = self._world, Tried()
        configs = {
            "max.message.bytes": str(limit + 1024**2),
            "message.timestamp.after.max.ms": str(2**63 - 1),
            "retention.ms": "-1",
        }
        await world.create(PARTITIONS, configs)
        async with Wire(world.settings, world.name, PARTITIONS) as wire:
            for number, phase in enumerate(phases):
                worker = self._start() if not number else None
                if worker is not None:
                    await world.ready(worker, READY_S)
                    self._rest = psutil.Process(worker.process.pid).memory_info().rss
                for batch in phase:
                    await self._send(wire, batch)
                worker = worker or self._start()
                trouble = await self._follow(worker) or await self._searchable(wire, worker)
                if trouble is None:
                    trouble = self._memory()
                if trouble is None and (code := await asyncio.to_thread(worker.terminate)):
                    trouble = Trouble("ended", f"exit code {code} at its stop: {_last(worker)}", self._suspects())
                if trouble:
                    return found, trouble
        letters = await self._letters()
        found.records = len(self._sent)
        found.letters = Counter(f"{letter.stage} {letter.error}" for letter in letters)
        found.indexed = found.records - len({letter.place for letter in letters})
        found.above_rest = self._most - (self._rest or self._most)
        return found, self._wrong_letter(letters) or await self._wrong(letters)

    def _start(self) -> Worker:
        return self._world.start_worker(self._variables, NULL)

    async def _send(self, wire: Wire, batch: Batch) -> None:
        if batch.sequel == "abort":
            self._aborted.append(batch)
        for record, baked in await wire.send(batch):
            place = record.partition, record.offset
            self._sent[place] = record, baked
            self._batch_of[place] = batch

    async def _follow(self, worker: Worker) -> Trouble | None:
        """Until lag is 0."""
        process, progressed, before = psutil.Process(worker.process.pid), time.monotonic(), -1
        while True:
            await asyncio.sleep(0.2)
            if worker.process.poll() is not None:
                return Trouble("ended", f"exit code {worker.process.returncode}: {_last(worker)}", self._suspects())
            self._most = max(self._most, process.memory_info().rss)
            try:
                status = await read_status(self._world.settings)
            except Exception as exc:  # noqa: BLE001 - an operator sees what it is
                return Trouble("status", repr(exc), self._suspects())
            if status["lag"] == 0:
                return None
            self._settled = {row["partition"]: row["settled_offset"] or 0 for row in status["partitions"]}
            if (settled := sum(self._settled.values())) != before:
                progressed, before = time.monotonic(), settled
            elif time.monotonic() - progressed > STALL_S:
                return Trouble("stalled", f"at {self._settled}: {_last(worker)}", self._suspects())

    async def _searchable(self, wire: Wire, worker: Worker) -> Trouble | None:
        """An ordinary record on each partition is found by its vector."""
        plain = Batch(recipes=tuple(Recipe(seed=seed) for seed in range(40)))
        await self._send(wire, plain)
        if trouble := await self._follow(worker):
            return trouble
        baked = bake(plain.recipes[-1])
        assert baked.key is not None
        text = str(_json(baked)["text"])
        vector = vector_of(self._tokens.encode([text])[0], self._manifest.dims).tolist()
        async with connect(self._world.settings.elasticsearch) as client:
            await client.indices.refresh(index=self._world.name)
            knn = {"field": "vector", "query_vector": vector, "k": 1, "num_candidates": 10_000}  # as good as exact
            hits = (await client.search(index=self._world.name, knn=knn, size=1))["hits"]["hits"]
        if not hits or hits[0]["_source"]["text"] != text:
            return Trouble("not searchable", f"{baked.key!r}", self._suspects(everything=True))
        return None

    def _memory(self) -> Trouble | None:
        budget = self._world.settings.batch.max_inflight_bytes
        budget = int(self._variables.get("PENSTOCK_BATCH__MAX_INFLIGHT_BYTES", budget))
        if self._rest is None or self._most - self._rest <= budget + CONSTANT:
            return None
        above = (self._most - self._rest) / 1024**2
        return Trouble("memory", f"{above:.0f} MiB above rest, budget {budget / 1024**2:.0f}", self._suspects(True))

    def _suspects(self, everything: bool = False) -> tuple[Batch, ...]:
        """What is not settled, in the order of the topic, and what was aborted."""
        places = [place for place in self._sent if everything or place[1] >= self._settled.get(place[0], 0)]
        ordered = [self._batch_of[place] for place in sorted(places, key=lambda place: place[1])]
        return tuple(dict.fromkeys([*ordered, *self._aborted]))

    async def _letters(self) -> list[Letter]:
        rows = await self._world.dead_letters()
        return [read_letter(row.key, row.value, row.headers, row.timestamp) for row in rows]

    def _wrong_letter(self, letters: list[Letter]) -> Trouble | None:
        for letter in letters:
            if letter.place not in self._sent:
                return Trouble("letter", f"of no record: {letter.place}", self._suspects(everything=True))
            what, baked = [], self._sent[letter.place][1]
            if not letter.message or not letter.error:
                what.append("names no reason")
            if letter.left_out is None and letter.record.value != baked.value:
                what.append("another value")
            if letter.key_left_out is None and letter.record.key != baked.key:
                what.append("another key")
            headers = tuple((text_of(name), value) for name, value in baked.headers)
            if letter.key_left_out is None and letter.record.headers != headers:
                what.append(f"headers {str(letter.record.headers)[:200]}, not {str(headers)[:200]}")
            if what:
                return Trouble("letter", f"{letter.place}: {'; '.join(what)}", (self._batch_of[letter.place],))
        return None

    async def _wrong(self, letters: list[Letter]) -> Trouble | None:
        """The oracle."""
        world = self._world
        limited = {letter.place for letter in letters if letter.error in LIMITS}
        records = [record for place, (record, _) in self._sent.items() if place not in limited]
        ways = {self._manifest.name: (split_rules(world.settings, self._manifest), self._tokens.encode)}
        space = Space(model=self._manifest.name, dims=self._manifest.dims, names=FieldNames())
        want = expected_of(records, ways, Routing(routes=(), spaces=[space]))
        want.rejected.update(limited)
        chunks = await scan(world.settings, world.name, WHOLE)
        findings = examine_all(want, chunks, await world.registry(), [letter.place for letter in letters])
        if not findings:
            return None
        kinds = Counter(finding.kind for finding in findings)
        reasons = {letter.place: f"{letter.error}: {letter.message}" for letter in letters}
        first = findings[0]
        why = next((reasons[place] for place in self._places(first) if place in reasons), "")
        suspects = dict.fromkeys(self._batch_of[place] for place in self._places(first))
        return Trouble("wrong", f"{dict(kinds)}, first {first}; {why}", tuple(suspects))

    def _places(self, finding: Finding) -> list[Place]:
        """Of the records that a finding is about."""
        found = []
        for place, (record, _) in self._sent.items():
            doc_id = (record.key or b"").decode(errors="replace")
            names = (f"{place[0]}@{place[1]}", doc_id, entry_id(doc_id))
            if finding.where in names or finding.where.rpartition("#")[0] in names[1:]:
                found.append(place)
        return found


def vector_of(ids: Any, dims: int) -> NDArray[np.float32]:
    """float32 (dims,), of unit length, by the tokens."""
    raw = np.asarray(ids, dtype=np.int32).tobytes()
    vector = np.random.default_rng(zlib.crc32(raw)).standard_normal(dims).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def _json(baked: Baked) -> Any:
    return orjson.loads(baked.value or b"")


def _last(worker: Worker) -> str:
    """The last words of its log, those about errors if there are any."""
    lines = [line.strip()[:300] for line in worker.log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(([line for line in lines if "Error" in line or line.startswith("penstock: ")] or lines)[-3:])
