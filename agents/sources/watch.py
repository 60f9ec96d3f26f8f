"""Pass after pass over sources, until somebody ends it. What fails is told, and tried again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from agents.progress import Report
from agents.sources import Told
from agents.sources.collecting import AnySource, Summary
from agents.sources.metrics import Metrics
from agents.sources.publish import Wait
from agents.sources.session import MissedError, Session
from agents.stopping import end_if_asked
from streams.errors import AwayError, PenstockError

RETRY_S = 2.0
"""After a pass that failed, twice that after the next one, and so on, up to a minute."""
LONGEST_RETRY_S = 60.0
LISTEN_S = 0.5
"""Between two looks at notifications."""

Tell = Callable[[AnySource, Summary | PenstockError], None]
"""Called with what became of a pass over a source."""
Show = Callable[[], AbstractContextManager[tuple[Report, Wait]]]
"""Around a pass: how far it is, and what it waits for."""


@dataclass(slots=True)
class Turn:
    """Of a source: when it is listed again, and when it is looked at at all, monotonic seconds."""

    list_at: float
    look_at: float = 0.0
    failures: int = 0
    known: bool = False


class Watch:
    """Of sources. `every_s`: between two listings; without `events` there is nothing else."""

    def __init__(
        self,
        session: Session,
        show: Show,
        tell: Tell,
        metrics: Metrics,
        *,
        every_s: float | None,
        events: str | None,
    ) -> None:
        self._session = session
        self._show = show
        self._tell = tell
        self._metrics = metrics
        self._every_s = float("inf") if every_s is None else every_s
        self._events = events

    async def run(self, sources: Sequence[AnySource] | Sequence[Told]) -> None:
        """Until cancelled.

        Raises PenstockError when the first pass over a source fails, and would again: of a mistake, that is.
        """
        # where notifications were read before, they may tell what has changed since
        first = float("inf") if self._events and self._every_s == float("inf") else 0.0
        turns = {source: Turn(list_at=first) for source in sources}
        while True:
            for source, turn in turns.items():
                if turn.look_at <= time.monotonic():
                    await self._pass(source, turn)
            end_if_asked()
            await asyncio.sleep(max(0.0, min(turn.look_at for turn in turns.values()) - time.monotonic()))

    async def _pass(self, source: AnySource, turn: Turn) -> None:
        summary = None
        try:
            if not await self._is_quiet(source, turn):
                with self._show() as (report, wait):
                    summary = await self._ingest(source, turn, report, wait)
        except MissedError as exc:
            if turn.known:
                self._tell(source, exc)
            turn.list_at = turn.look_at = time.monotonic()
            return
        except PenstockError as exc:
            if not turn.known and not isinstance(exc, AwayError):
                raise
            self._tell(source, exc)
            self._metrics.broke_off(source.name)
            turn.failures += 1
            retry_s = min(RETRY_S * 2.0 ** min(turn.failures - 1, 10), LONGEST_RETRY_S, self._every_s)
            turn.look_at = time.monotonic() + retry_s
            return
        turn.known, turn.failures = True, 0
        turn.look_at = min(turn.list_at, time.monotonic() + LISTEN_S) if self._events else turn.list_at
        self._metrics.passed(source.name, summary)
        if summary:
            self._tell(source, summary)

    async def _is_quiet(self, source: AnySource, turn: Turn) -> bool:
        if not self._events or turn.list_at <= time.monotonic() or not isinstance(source, Told):
            return False
        return not await self._session.may_have_news(source, self._events)

    async def _ingest(self, source: AnySource, turn: Turn, report: Report, wait: Wait) -> Summary | None:
        if not self._events or not isinstance(source, Told):
            summary = await self._session.once([source], report, wait)
        elif turn.list_at > time.monotonic():
            return await self._session.listen(source, self._events, report, wait)
        else:
            summary = await self._session.list_all(source, self._events, report, wait)
        turn.list_at = time.monotonic() + self._every_s
        return summary
