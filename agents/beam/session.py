"""What a process needs to take ranges through the stages, once: models, connections, an event loop on its own thread.

pages of the log, or of files ─► what the index does not have ─► batches ─► two at a time through the stages
                                                                            one is embedded, the other one written
"""

import asyncio
import logging
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from agents.beam.ranges import Piece, Range
from agents.beam.taking import Taking, log_pages
from agents.configured import contract_of
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.assembly import assemble
from agents.indexing.embedders import close_models, load_models
from agents.indexing.preflight import Checked, prove_all
from agents.indexing.stages import Stages
from agents.kafka.reader import LogReader, log_reader
from agents.schemas.form import form_of_rows
from agents.settings import Settings
from agents.settings.secrets import with_secrets
from streams.errors import AwayError, RefusedError
from streams.ports import Page

AGAIN_S = 1.0
"""Between two questions to a server that is away."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What travels to every process.

    `settings`: without secrets. `sink`: what the index has to be. `former`: an index whose vectors are taken. `at_ms`:
    of the snapshot whose files are taken; None: the log is. `processes`: that share the models' limits a minute.
    `folder`: of whoever began it; processes that see it write there how much they are through.
    """

    name: str
    settings: Settings
    index: str
    sink: str
    former: str | None
    at_ms: int | None = None
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
        self._models = load_models(self._settings)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="penstock", daemon=True).start()
        self._open = AsyncExitStack()
        try:
            self._taking = self._await(self._connected())
        except BaseException:
            self.close()
            raise

    def run(self, part: Range | Piece) -> Counter[str]:
        """A range, all the way; blocks as long as that takes, while servers are away, too. Twice is harmless.

        Returns what was done: `records`, `settled`, `embedded`, `reused`, `dead_lettered`. Raises PenstockError where
        retention has taken what is in the range, a file cannot be read, or the index is not there any more.
        """
        return self._await(self._taking.take(part))

    def close(self) -> None:
        """Let everything go."""
        self._await(self._open.aclose())
        close_models(self._models)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connected(self) -> Taking:
        """As soon as the servers answer."""

        async def connect_anew() -> Taking:
            await self._open.aclose()  # half a connection is none
            self._open = AsyncExitStack()
            return await self._connect()

        return await patient(connect_anew)

    async def _connect(self) -> Taking:
        settings, enter = self._settings, self._open.enter_async_context
        await prove_all(self._models)
        reader, client = await enter(log_reader(settings)), await enter(connect(settings.elasticsearch))
        topic, index = await reader.require_topic(settings.source.topic), Index(client, settings)
        identity = await index.identify(contract_of(settings, [model.manifest for model in self._models], topic))
        if identity.sink != self._job.sink:
            raise RefusedError(
                f"{self._job.index} or its registry is another one since this began: run `penstock backfill` again"
            )
        for model in self._models:
            model.take_share(1 / self._job.processes)
        former = await index.generation(self._job.former) if self._job.former else None
        checked = Checked(models=self._models, topic=topic, identity=identity)
        assembly = await enter(assemble(settings, checked, former=former))
        stages, name, max_ratio = Stages(assembly.parts), settings.source.topic, settings.dead_letters.max_ratio
        if self._job.at_ms is None:
            return Taking(stages, log_pages(stages, _Patient(reader), name), self._tell, max_ratio=max_ratio)
        from agents.beam.rows import Rows, row_pages  # with Beam

        rows = Rows(settings)
        self._open.push_async_callback(rows.close)
        stages = Stages(replace(assembly.parts, form=form_of_rows(settings)))
        return Taking(stages, row_pages(stages, rows, name, self._job.at_ms), self._tell, max_ratio=max_ratio)

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
