"""What a process needs to take ranges through the stages, once: models, connections, an event loop on its own thread.

pages of the log ─► what the index does not have ─► batches ─► two at a time through the stages
                                                               one is embedded while the other one is written
"""

import asyncio
import logging
import os
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agents.beam.ranges import Range
from agents.configured import contract_of
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.assembly import assemble
from agents.indexing.embedders import close_models, load_models
from agents.indexing.preflight import Checked, prove_all
from agents.indexing.stages import Stages
from agents.kafka.reader import LogReader, log_reader
from agents.settings import Settings
from agents.settings.secrets import with_secrets
from streams.errors import AwayError, PenstockError, RefusedError
from streams.ports import Page
from streams.protocol import begun
from streams.record import Record

BATCH, BATCH_BYTES = 256, 1024**2
"""Records that go through the stages together: at most so many, or one that is larger."""
LANES = 2
AGAIN_S = 1.0
"""Between two questions to a server that is away."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What travels to every process.

    `settings`: without secrets. `sink`: what the index has to be. `former`: an index whose vectors are taken.
    `processes`: that share the models' limits a minute. `progress`: a folder that all of them see, where there is one:
    each writes there how many offsets it is through.
    """

    name: str
    settings: Settings
    index: str
    sink: str
    former: str | None
    processes: int
    progress: Path | None


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
            self._stages, self._reader = self._await(self._patient(self._connect))
        except BaseException:
            self.close()
            raise

    def run(self, part: Range) -> Counter[str]:
        """A range, all the way; blocks as long as that takes, while servers are away, too. Twice is harmless.

        Returns what was done: `records`, `settled`, `embedded`, `reused`, `dead_lettered`. Raises PenstockError where
        retention has taken what is in the range, or the index is not there any more.
        """
        return self._await(self._run(part))

    def close(self) -> None:
        """Let everything go."""
        self._await(self._open.aclose())
        close_models(self._models)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connect(self) -> tuple[Stages, LogReader]:
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
        return Stages(assembly.parts), reader

    async def _patient(self, call: Callable[[], Awaitable[T]]) -> T:
        """Whoever runs batches gives a range up after some tries: a server that is away is waited for here."""
        told = False
        while True:
            try:
                return await call()
            except AwayError as exc:
                if not told:
                    logger.warning("waiting: %s", exc)
                told = True
                await self._reopened()
            await asyncio.sleep(AGAIN_S)

    async def _reopened(self) -> None:
        """Half a connection is none."""
        if not hasattr(self, "_stages"):
            await self._open.aclose()
            self._open = AsyncExitStack()

    async def _run(self, part: Range) -> Counter[str]:
        counts, drawing = Counter[str](), asyncio.Lock()

        async def lane() -> None:
            while True:
                async with drawing:
                    batch = await anext(batches, None)
                if batch is None:
                    return
                await self._take(batch, counts)

        async with aclosing(self._batches(part, counts)) as batches:
            lanes = [asyncio.ensure_future(lane()) for _ in range(LANES)]
            try:
                await asyncio.gather(*lanes)
            finally:
                for one in lanes:
                    one.cancel()
                await asyncio.wait(lanes)
        return counts

    async def _batches(self, part: Range, counts: Counter[str]) -> AsyncGenerator[list[Record], None]:
        """What the index does not have yet of a range."""
        batch, size, offset = list[Record](), 0, part.start
        while offset < part.end:
            page = await self._page(part, offset)
            counts["records"] += len(page.records)
            await self._stages.ready(page.records)
            left = await self._stages.unsettled(page.records)
            counts["settled"] += len(page.records) - len(left)
            for record in left:
                if batch and (len(batch) == BATCH or size + record.size_bytes > BATCH_BYTES):
                    yield batch
                    batch, size = [], 0
                batch.append(record)
                size += record.size_bytes
            self._tell(page.position - offset)
            offset = page.position
        if batch:
            yield batch

    async def _page(self, part: Range, offset: int) -> Page:
        topic = self._settings.source.topic
        page = await self._patient(lambda: self._reader.page(topic, part.partition, offset, part.end))
        if page.start > offset:
            raise PenstockError(
                f"{topic}/{part.partition} begins at {page.start} now, retention took what was from {offset} on, which "
                "was to be read: keep records longer, or have more processes, and run `penstock backfill` again"
            )
        return page

    async def _take(self, batch: list[Record], counts: Counter[str]) -> None:
        works = [self._stages.work_of(record) for record in batch]
        await self._stages.prepare(works)
        await self._stages.through(works)
        for work in begun(works):
            counts["reused"] += len(work.known)
            counts["embedded"] += len(work.chunks) - len(work.known)
        counts["dead_lettered"] += sum(work.outcome == "dead_lettered" for work in works)

    def _tell(self, offsets: int) -> None:
        self._through += offsets
        if self._job.progress:
            own = self._job.progress / str(os.getpid())
            half = own.with_suffix(".half")
            half.write_text(str(self._through))
            half.replace(own)


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
