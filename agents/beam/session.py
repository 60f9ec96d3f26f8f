"""What a process needs to take ranges through the stages, once: models, connections, an event loop on its own thread.

pages of the log, or of files ─► what the index does not have ─► batches ─► two at a time through the stages
                                                                            one is embedded, the other one written
"""

import asyncio
import logging
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from agents.beam.ranges import Range
from agents.beam.taking import Some, Taking, log_pages
from agents.configured import contract_of, routes_of
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.fail_points import FailPoints
from agents.indexing.assembly import assemble, ways_of
from agents.indexing.budget import Budget
from agents.indexing.embedders import absent_models, close_models, load_models
from agents.indexing.meter import Meter
from agents.indexing.preflight import Checked, prove_all
from agents.indexing.stages import Parts, Stages
from agents.indexing.unwritten import Unwritten
from agents.kafka.reader import LogReader, log_reader
from agents.metrics import Metrics
from agents.schemas.form import form_of, form_of_rows
from agents.settings import Settings
from agents.settings.secrets import with_secrets
from streams.epochs import Epochs
from streams.errors import AwayError, RefusedError
from streams.ports import Page
from streams.protocol import Target

AGAIN_S = 1.0
"""Between two questions to a server that is away."""

T = TypeVar("T")
Format = Literal["parquet", "jsonl", "tfrecord"]
Take = Callable[[Any], Coroutine[Any, Any, Counter[str]]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntoIndex:
    """`sink`: what the index has to be. `former`: an index whose vectors are taken. `at_ms`: of the snapshot whose
    files are taken; None: the log is. `absent`: no model is here; each part names a file that has its vectors."""

    index: str
    sink: str
    former: str | None = None
    at_ms: int | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IntoFiles:
    """`form`: of the files in this folder. `contract`: what their vectors depend on."""

    folder: str
    form: Format
    contract: dict[str, Any]


Goal = IntoIndex | IntoFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What travels to every process.

    `settings`: without secrets. `processes`: that share the models' limits a minute. `folder`: of whoever began it;
    processes that see it write there how much they are through.
    """

    name: str
    settings: Settings
    goal: Goal
    processes: int
    folder: Path


class Session:
    """One a process and job. Any thread may call it."""

    def __init__(self, job: Job) -> None:
        """Blocks until models are loaded, and the servers answer.

        Raises PenstockError; RefusedError where the index is not the one that the job is about.
        """
        self._job = job
        self._settings = with_secrets(job.settings)
        self._through = 0
        absent = isinstance(job.goal, IntoIndex) and job.goal.absent
        self._models = absent_models(self._settings) if absent else load_models(self._settings)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="penstock", daemon=True).start()
        self._open = AsyncExitStack()
        try:
            self._take = self._await(self._connected())
        except BaseException:
            self.close()
            raise

    def run(self, part: Any) -> Counter[str]:
        """A range, all the way; blocks as long as that takes, while servers are away, too. Twice is harmless.

        Returns what was done: `records`, `settled`, `embedded`, `reused`, `dead_lettered`. Raises PenstockError where
        retention has taken what is in the range, a file cannot be read, or the index is not there any more.
        """
        return self._await(self._take(part))

    def close(self) -> None:
        """Let everything go."""
        self._await(self._open.aclose())
        close_models(self._models)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connected(self) -> Take:
        """As soon as the servers answer."""

        async def connect_anew() -> Take:
            await self._open.aclose()  # half a connection is none
            self._open = AsyncExitStack()
            return await self._connect()

        return await patient(connect_anew)

    async def _connect(self) -> Take:
        settings, goal = self._settings, self._job.goal
        await prove_all(self._models)
        for model in self._models:
            model.take_share(1 / self._job.processes)
        reader = await self._open.enter_async_context(log_reader(settings))
        if isinstance(goal, IntoFiles):
            return self._into_files(goal, reader)
        return await self._into_index(goal, reader)

    async def _into_index(self, goal: IntoIndex, reader: LogReader) -> Take:
        settings, enter = self._settings, self._open.enter_async_context
        client = await enter(connect(settings.elasticsearch))
        topic, index = await reader.require_topic(settings.source.topic), Index(client, settings)
        identity = await index.identify(contract_of(settings, [model.manifest for model in self._models], topic))
        if identity.sink != goal.sink:
            raise RefusedError(
                f"{goal.index} or its registry is another one since this began: run `penstock backfill` again"
            )
        former = await index.generation(goal.former) if goal.former else None
        checked = Checked(models=self._models, topic=topic, identity=identity)
        metrics, prices = Metrics(), settings.cost.prices
        meter = Meter(prices, metrics) if prices else None
        parts = (await enter(assemble(settings, checked, metrics=metrics, former=former, meter=meter))).parts
        if goal.at_ms is not None:
            return self._of_files(replace(parts, form=form_of_rows(settings)), goal.at_ms).take
        if goal.absent:
            from agents.beam.vectors import Filed, known_of  # with Beam

            async def take(part: Filed) -> Counter[str]:
                known = await asyncio.to_thread(known_of, part.path)
                return await self._of_log(replace(parts, former=known), reader).take(part.part)

            return take
        return self._of_log(parts, reader).take

    def _of_log(self, parts: Parts, reader: LogReader) -> Taking:
        stages = Stages(parts)
        return self._taking(stages, log_pages(stages, _Patient(reader), self._settings.source.topic))

    def _of_files(self, parts: Parts, at_ms: int) -> Taking:
        from agents.beam.rows import Rows, row_pages  # with Beam

        stages, rows = Stages(parts), Rows(self._settings)
        self._open.push_async_callback(rows.close)
        return self._taking(stages, row_pages(stages, rows, self._settings.source.topic, at_ms))

    def _taking(self, stages: Stages, pages: Callable[[Any], AsyncIterator[Some]]) -> Taking:
        return Taking(stages, pages, self._tell, max_ratio=self._settings.dead_letters.max_ratio)

    def _into_files(self, goal: IntoFiles, reader: LogReader) -> Take:
        """Without an index, and so without anything that is known."""
        from agents.beam.vectors import Collected, NoLetters, VectorFile  # with Beam

        settings, metrics = self._settings, Metrics()
        ways = ways_of(settings, goal.contract, self._models)

        async def take(part: Range) -> Counter[str]:
            file = VectorFile(goal.folder, part, goal.form, goal.contract)
            parts = Parts(
                ways=ways,
                routes=routes_of(settings),
                epochs=Epochs(),
                target=Target(chunk_index_uuid=goal.folder),
                registry=Unwritten(),
                chunks=Collected(file, [way.space for way in ways]),
                dead_letters=NoLetters(),
                budget=Budget(settings.batch.max_inflight_bytes),
                metrics=metrics,
                fail_points=FailPoints(),
                form=form_of(settings, metrics),
                reject=settings.quality.reject,
            )
            try:
                counts = await self._of_log(parts, reader).take(part)
            except BaseException:
                file.discard()
                raise
            await asyncio.to_thread(file.close)
            return counts

        return take

    def _tell(self, passed: int) -> None:
        self._through += passed
        if self._job.folder.exists():
            own = self._job.folder / str(os.getpid())
            half = own.with_suffix(".half")
            half.write_text(str(self._through))
            half.replace(own)


class _Patient:
    """`Log.page` of a reader; the rest nobody asks for."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    async def page(self, topic: str, partition: int, offset: int, end: int) -> Page:
        """However long the broker is away."""
        return await patient(lambda: self._reader.page(topic, partition, offset, end))


async def patient(call: Callable[[], Awaitable[T]]) -> T:
    """Whoever runs batches gives a range up after some tries: a server that is away is waited for here."""
    told = False
    while True:
        try:
            return await call()
        except AwayError as exc:
            if not told:
                logger.warning("waiting: %s", exc)
            told = True
        await asyncio.sleep(AGAIN_S)


_sessions: dict[str, tuple[Session, int]] = {}
_lock = threading.Lock()


def acquire(job: Job) -> Session:
    """The one of this process for a job; made by whoever comes first, while others wait. Raises as `Session`."""
    with _lock:
        session, users = _sessions.get(job.name) or (Session(job), 0)
        _sessions[job.name] = session, users + 1
        return session


def release(job: Job) -> None:
    """It is closed with the last one that acquired it."""
    with _lock:
        session, users = _sessions.pop(job.name)
        if users > 1:
            _sessions[job.name] = session, users - 1
        else:
            session.close()
