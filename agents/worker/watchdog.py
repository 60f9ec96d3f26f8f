"""Lag, gaps, and whether the worker makes progress: one that does not, though it could, is ended, and replayed."""

import itertools
import logging
import time
from typing import Any

from agents.elastic.requests import Requests
from agents.settings import Settings
from agents.worker.assignment import Assignment
from agents.worker.drift import Incarnations
from agents.worker.membership import Membership
from agents.worker.pipeline import Pipeline
from agents.worker.progress_log import ProgressLog
from streams.errors import PenstockError, RefusedError

COMPARE_EVERY = 3
"""Of so many looks at the lag one is at the topic and the index themselves."""

logger = logging.getLogger(__name__)


class Watchdog:
    """What `/livez` and `/readyz` say, and the end of a process that stands still."""

    def __init__(
        self,
        settings: Settings,
        *,
        assignment: Assignment,
        pipeline: Pipeline,
        requests: Requests,
        incarnations: Incarnations,
        membership: Membership,
    ) -> None:
        self._settings = settings
        self._assignment = assignment
        self._pipeline = pipeline
        self._requests = requests
        self._incarnations = incarnations
        self._membership = membership
        self._looked = self._kafka_answered = self._healthy_since = self._rebalance_since = time.monotonic()
        self._rebalance: int | None = None
        self._looks = itertools.count()
        self._log = ProgressLog()

    async def look(self, *, paused: bool, rebalance: int | None = None, refused: BaseException | None = None) -> None:
        """Once, every few seconds. Raises PenstockError when only a restart can help.

        `paused`: fetching is, so that nothing was to be delivered. `rebalance`: the number of the one that is on:
        until it ends there are no partitions to look at, and one that does not end is a stall. `refused`: what the
        group's coordinator ended with since the last look.
        """
        await self._membership.require(refused)
        if (
            time.monotonic() - self._looked > self._settings.lifecycle.stall_s
        ):  # this process stood still, or the machine
            self._kafka_answered = self._healthy_since = self._rebalance_since = time.monotonic()
        self._looked = time.monotonic()
        if rebalance not in (None, self._rebalance):
            self._rebalance_since = time.monotonic()
        self._rebalance = rebalance
        if rebalance is None:
            await self._ask(paused=paused)
        elif next(self._looks) % COMPARE_EVERY == 0:  # one that begins while the topic is made anew may never end
            try:
                await self._incarnations.require_same(idle=True)
            except RefusedError:
                raise
            except PenstockError as exc:
                logger.debug("the topic could not be looked at", extra={"reason": str(exc)})
        if reasons := self.stalled():
            raise PenstockError(f"no progress: {'; '.join(reasons)}; a restart goes on from the last claim")

    async def _ask(self, *, paused: bool) -> None:
        answered = self._kafka_answered
        try:
            await self._assignment.watch(paused=paused)
            self._kafka_answered = time.monotonic()
            self._log.tell(self._assignment.snapshot())
            if next(self._looks) % COMPARE_EVERY == 0:
                await self._incarnations.require_same(idle=self._assignment.received and self._assignment.empty)
        except RefusedError:
            raise
        except PenstockError as exc:
            self._assignment.forget_lag()
            logger.warning("lag is unknown", extra={"reason": str(exc)})
        if answered == self._kafka_answered or self._requests.waits or self._pipeline.waits:
            self._healthy_since = time.monotonic()

    def stalled(self) -> list[str]:
        """What stands still with lag while the targets answer: only a restart can help.

        Elasticsearch being away is no stall, however long: the breaker says so, and the worker waits. Nor is a model
        that changed: the worker is about to end for it.
        """
        if self._elasticsearch_away or self._pipeline.changed:
            return []
        limit, now = self._settings.lifecycle.stall_s, time.monotonic()
        if self._rebalance is not None:
            stands = now - self._rebalance_since > limit
            return [f"a rebalance of the group has not ended for {limit:.0f} s"] if stands else []
        if now - self._kafka_answered > limit:
            return [f"Kafka at {self._settings.kafka.bootstrap_servers} has not answered for {limit:.0f} s"]
        if now - max(self._pipeline.progressed, self._healthy_since) < limit:
            return []
        return [
            f"{row['topic']}/{row['partition']}: settled offset stands still at {row['settled_offset']} with lag"
            for row in self._assignment.snapshot()
            if row["lag"] and row["since_progress_s"] > limit
        ]

    def not_ready(self) -> list[str]:
        """Why no traffic should count on this worker; an empty assignment is one that was received."""
        reasons: list[Any] = [] if self._assignment.received else ["no assignment received yet"]
        if self._elasticsearch_away:
            reasons.append("Elasticsearch does not answer, or refuses everything")
        reasons += self._pipeline.away  # a budget that is used up is no fault: a rollout goes on meanwhile
        if self._pipeline.changed:
            reasons.append(str(self._pipeline.changed))
        return reasons

    @property
    def _elasticsearch_away(self) -> bool:
        return not self._requests.closed
