"""Pass after pass over sources, until somebody ends it. What fails is told, and tried again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from agents.progress import Report
from agents.sources import Source
from agents.sources.publish import Wait
from agents.sources.run import Summary
from agents.sources.session import Session
from streams.errors import AwayError, PenstockError

RETRY_S = 2.0
"""After a pass that failed, twice that after the next one, and so on; never longer than between two passes."""

Told = Callable[[Source, Summary | PenstockError], None]
"""Called with what became of a pass over a source."""
Shown = Callable[[], AbstractContextManager[tuple[Report, Wait]]]
"""Around a pass: how far it is, and what it waits for."""


class Turns:
    """When each source is looked at again."""

    def __init__(self, sources: Sequence[Source], every_s: float) -> None:
        self._every_s = every_s
        self._due = dict.fromkeys(sources, 0.0)
        self._failures = dict.fromkeys(sources, 0)

    def due(self) -> list[Source]:
        """Those whose turn it is, in their order."""
        return [source for source, at in self._due.items() if at <= time.monotonic()]

    def done(self, source: Source, *, failed: bool) -> None:
        """It was looked at just now."""
        self._failures[source] = self._failures[source] + 1 if failed else 0
        wait_s = min(self._every_s, RETRY_S * 2.0 ** min(self._failures[source], 30) / 2) if failed else self._every_s
        self._due[source] = time.monotonic() + wait_s

    def left_s(self) -> float:
        """Until the next turn."""
        return max(0.0, min(self._due.values()) - time.monotonic())


async def watch(session: Session, sources: Sequence[Source], every_s: float, shown: Shown, tell: Told) -> None:
    """List each source so often, until cancelled.

    Raises PenstockError when the first pass over a source fails and will again: of a mistake, that is.
    """
    turns, known = Turns(sources, every_s), set[Source]()
    while True:
        for source in turns.due():
            try:
                with shown() as (report, wait):
                    summary = await session.once([source], report, wait)
            except PenstockError as exc:
                if source not in known and not isinstance(exc, AwayError):
                    raise
                tell(source, exc)
                turns.done(source, failed=True)
            else:
                known.add(source)
                tell(source, summary)
                turns.done(source, failed=False)
        await asyncio.sleep(turns.left_s())
