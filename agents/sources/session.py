"""A connected run of sources, once or again and again. What was published is read once, and then what others add."""

import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from agents.kafka.reader import LogReader, log_reader
from agents.progress import Report
from agents.settings import Settings
from agents.sources import Source, Told
from agents.sources.collecting import AnySource, Crawled, Options, Run, Summary, Work
from agents.sources.naming import require_same, tell_left
from agents.sources.notifications import Notifications, Place
from agents.sources.publish import Publisher, Wait, publisher
from agents.sources.run import Ingestion
from agents.sources.state import State, StateTopic, state_topic
from agents.sources.topic import largest_record, source_topic
from streams.contract import Described
from streams.errors import PenstockError

LATELY_S = 3600.0


class MissedError(PenstockError):
    """Notifications are missing, or the place up to where they were read."""


class Session:
    """One caller at a time. Close it: it has a temporary database."""

    def __init__(self, settings: Settings, reader: LogReader, options: Options) -> None:
        self._settings = settings
        self._reader = reader
        self._options = options
        self._topic: Described | None = None
        self._told: StateTopic | None = None
        self._state: State | None = None
        self._limit = 0
        self._heard: dict[str, Place] = {}
        self._deletions: dict[str, deque[tuple[float, int]]] = {}

    def close(self) -> None:
        """Twice is harmless."""
        if self._state:
            self._state.close()
        self._state = None

    async def once(self, sources: Sequence[AnySource], report: Report, wait: Wait) -> Summary:
        """Ingest each source in turn. Makes the topics that are missing, but in a dry run.

        Raises RefusedError where the sources name their documents otherwise than before, PenstockError when Kafka does
        not take it. What was published before either stays, and is remembered.
        """
        state, told = await self._known()
        run = self._run(state, report, wait)
        if self._options.dry_run or self._options.strict:
            await told.read_into(state)
            for source in sources:
                require_same(state, source.name, self._options)
                await _work(source, run).try_out()
        if self._topic is None or self._options.dry_run or run.summary.failed or run.summary.refused:
            return run.summary
        run = self._run(state, report, wait)
        for source in sources:
            async with self._publishing(source, state, told, wait) as to:
                await _work(source, run).publish_all(to)
                tell_left(state, source.name, self._options, run.summary)
        return run.summary

    def _run(self, state: State, report: Report, wait: Wait) -> Run:
        return Run(state=state, options=self._options, summary=Summary(), report=report, limit=self._limit, wait=wait)

    async def list_all(self, source: Source, topic: str, report: Report, wait: Wait) -> Summary:
        """Ingest all of a source, which covers every notification on this topic so far. Raises as `once`."""
        state, told = await self._known()
        run = self._run(state, report, wait)
        place = await Notifications(self._reader, topic).end()
        async with self._publishing(source, state, told, wait) as to:
            row = state.place_row(source.name, topic, place)
            await Ingestion(source, run).publish_all(to, row)
        self._heard[source.name] = place
        return run.summary

    async def may_have_news(self, source: Told, topic: str) -> bool:
        """Whether notifications came since the last time, or there was none. Two small requests."""
        return self._heard.get(source.name) != await Notifications(self._reader, topic).end()

    async def listen(self, source: Told, topic: str, report: Report, wait: Wait) -> Summary | None:
        """Ingest the objects that notifications since the last time are about; None where none came.

        Raises MissedError where they do not tell all that has changed, and else as `once`.
        """
        notifications = Notifications(self._reader, topic)
        state, told = await self._known()
        run = self._run(state, report, wait)
        async with self._publishing(source, state, told, wait) as to:
            place = state.place(source.name, topic)
            if place is None or await notifications.missed(place):
                raise MissedError(f"not all that {topic} told of {source.name} can be read: it is listed")
            heard = await notifications.since(place)
            if heard:
                ingestion = Ingestion(source, run)
                names = sorted(name for name in heard.names if source.concerns(name))
                row = state.place_row(source.name, topic, heard.place)
                await ingestion.publish_some(source, names, to, row, deleted_lately=self._lately(source))
                self._deletions[source.name].append((time.monotonic(), run.summary.deleted))
                run.summary.strange = heard.strange
        self._heard[source.name] = heard.place if heard else place
        return run.summary if heard else None

    def _lately(self, source: Source) -> int:
        """Documents that notifications deleted within an hour: one by one they might be more than may go at once."""
        rows = self._deletions.setdefault(source.name, deque())
        while rows and rows[0][0] < time.monotonic() - LATELY_S:
            rows.popleft()
        return sum(count for _, count in rows)

    @asynccontextmanager
    async def _publishing(
        self, source: AnySource, state: State, told: StateTopic, wait: Wait
    ) -> AsyncIterator[Publisher]:
        """Nobody else publishes for this source now, and all that was published of it is known."""
        count = self._topic.partitions if self._topic else 0
        async with publisher(
            self._settings, self._reader, state, source.name, count, self._options.max_lag, wait
        ) as to:
            await told.read_into(state)
            require_same(state, source.name, self._options)
            yield to

    async def _known(self) -> tuple[State, StateTopic]:
        """What was read before, unless it is about other topics than those that are there now."""
        made = None if self._options.dry_run else self._options.partitions
        found = await source_topic(self._reader, self._settings, made)
        told = await state_topic(self._reader, self._settings.sources_topic, make=not self._options.dry_run)
        self._limit = await largest_record(self._reader, self._settings) if found else 0
        same = self._told is not None and self._told.log == told.log and found == self._topic
        if self._state is None or self._told is None or not same:
            self.close()
            self._topic, self._told, self._state = found, told, State(found.log if found else "")
        return self._state, self._told


def _work(source: AnySource, run: Run) -> Work:
    return source.work(run) if isinstance(source, Crawled) else Ingestion(source, run)


@asynccontextmanager
async def session(settings: Settings, sources: Sequence[AnySource], options: Options) -> AsyncIterator[Session]:
    """Connected. The sources are closed with it. Raises PenstockError when Kafka cannot be reached."""
    async with AsyncExitStack() as stack, log_reader(settings) as reader:
        for source in sources:
            stack.push_async_callback(source.close)
        made = Session(settings, reader, options)
        stack.callback(made.close)
        yield made


async def run(
    settings: Settings, sources: Sequence[AnySource], options: Options, report: Report, wait: Wait
) -> Summary:
    """As `Session.once`."""
    async with session(settings, sources, options) as made:
        return await made.once(sources, report, wait)
