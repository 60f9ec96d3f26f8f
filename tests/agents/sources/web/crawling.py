"""Crawls of a real server on this machine, with what stays between them in memory."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import orjson

from agents.sources.collecting import Deletes, Options, Run, Summary
from agents.sources.patterns import patterns
from agents.sources.reading import Ids
from agents.sources.state import Row, State
from agents.sources.web.aim import Plan
from agents.sources.web.fetching import Times
from agents.sources.web.site import Manners, site_sources
from streams.dead_letter import Failed
from tests.agents.sources.test_run import MemoryTransactions

FAST = Plan(delay_s=0.0, backoff_s=0.001)
HOME = Manners(allow_private=True, times=Times(connect_s=20, piece_s=20, all_s=60))
SYNC = Options(sync=True, max_deletes=Deletes(share=1.0))


@dataclass
class Crawled:
    """The log, and the rows of the state."""

    log: list[tuple[str, str | None]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    letters: list[Failed] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def crawl(
        self,
        url: str,
        options: Options = SYNC,
        plan: Plan = FAST,
        *,
        manners: Manners = HOME,
        left: int = -1,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        prefix: str = "",
        before: Callable[[], Any] = lambda: None,
    ) -> Summary:
        """One run. `left`: it is killed at that transaction. What was committed before stays."""
        summary = Summary()

        async def work() -> None:
            (site,) = site_sources([url], Ids(prefix=prefix), patterns(include, exclude), plan, manners)
            async with AsyncExitStack() as stack:
                stack.push_async_callback(site.close)
                state = stack.enter_context(State("log"))
                state.take(self.rows)
                to = MemoryTransactions(state, 3, left)
                before()
                run = Run(
                    state=state,
                    options=options,
                    summary=summary,
                    report=lambda *_: None,
                    limit=0,
                    wait=self.said.append,
                )
                try:
                    crawl = site.work(run)
                    await (crawl.try_out() if options.dry_run else crawl.publish_all(to))
                finally:
                    self.log += to.log
                    self.rows += to.rows
                    self.letters += to.letters

        asyncio.run(work())
        return summary

    @property
    def texts(self) -> dict[str, str]:
        """Of what a worker indexes, without what is the same everywhere."""
        return {doc: orjson.loads(value)["text"] for doc, value in dict(self.log).items() if value is not None}

    def values(self, doc: str) -> dict[str, Any]:
        """The newest record of a document."""
        found: dict[str, Any] = orjson.loads(dict(self.log)[doc] or "null")
        return found
