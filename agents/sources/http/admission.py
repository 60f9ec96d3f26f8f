"""No record above `--max-lag`: how many more the workers' backlog takes, counted from looks at it.

    room = max_lag - lag at the look - records of ours that the look may not have seen yet

Of those there is a tenth of `max_lag` at most, since others publish, too, and see as little of ours as we of theirs:
two servers at once stay within a tenth above. A look is a few requests to the broker, shared by all who wait for it.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress

from agents.clock import Deadline
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader
from agents.settings import Settings
from agents.sources.http.problems import ProblemError
from streams.contract import Described
from streams.errors import PenstockError

SHARE = 10
"""One in so many of `max_lag` may be on its way, unseen."""
LOOK_S = 1.0
"""Between two looks, at most, whoever asks."""
WAIT_S = 0.2
"""Between two looks of who waits for room."""
RATE_OVER_S = 10.0
"""How far back it is looked for how fast workers are."""
LONGEST_RETRY_S = 60.0
UNKNOWN_RETRY_S = 5.0
AWAY_RETRY_S = 2.0


class Admission:
    """Of one server. `now`: monotonic seconds."""

    def __init__(self, settings: Settings, max_lag: int) -> None:
        self._settings = settings
        self.max_lag = max(1, max_lag)
        self.lag = 0
        self.away: str | None = "Kafka was not asked yet"
        """Why nothing is admitted, where it is not the lag."""
        self._reader: LogReader | None = None
        self._topic = Described(partitions=0, log="")
        self._room = 0
        self._unacknowledged = 0
        self._taken = 0
        self._looks = deque[tuple[float, int]]()
        """When, and how many offsets were settled, all in all."""
        self._look: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()

    def about(self, reader: LogReader, topic: Described) -> None:
        """What is looked at from now on."""
        self._reader, self._topic = reader, topic
        self._looks.clear()

    async def look(self) -> None:
        """Now, or with whoever looks already. What Kafka does not answer, or refuses, is in `away`."""
        await asyncio.shield(self._begin_look())

    def _begin_look(self) -> "asyncio.Task[None]":
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_now())
        return self._look

    async def _look_now(self) -> None:
        reader = self._reader
        if reader is None:
            return
        unseen, before = self._unacknowledged, self._taken
        try:
            rows = await partition_rows(reader, self._settings, self._topic.partitions, None, self._topic.log or None)
        except PenstockError as exc:
            self.away, self._room = str(exc), 0
        else:
            self.away = None
            self.lag = sum(row["lag"] for row in rows)
            self._looks.append((time.monotonic(), sum(row["settled_offset"] for row in rows)))
            while self._looks[-1][0] - self._looks[0][0] > RATE_OVER_S:
                self._looks.popleft()
            taken = self._taken - before
            share = max(1, self.max_lag // SHARE)
            self._room = min(share, self.max_lag - self.lag) - unseen - taken
        self._looked.set()
        self._looked.clear()

    async def take(self) -> None:
        """One record may be handed over, and is to be `acknowledged`. Raises ProblemError as `require_room`."""
        await self.require_room()
        self._room -= 1
        if self._room == self.max_lag // SHARE // 2:
            self._begin_look()  # before anybody has to wait for it
        self._taken += 1
        self._unacknowledged += 1

    async def require_room(self) -> None:
        """For one record. Raises ProblemError: 429 by lag, 503 while Kafka is away."""
        for _ in range(2):  # the first one may have begun before, and what was taken since is not room
            if self._room < 1:
                await self.look()
        if self.away:
            raise ProblemError(503, "Kafka is away: nothing was published", retry_after_s=AWAY_RETRY_S)
        if self._room < 1:
            raise ProblemError(
                429,
                f"the workers are behind: lag {self.lag} is at --max-lag {self.max_lag}; nothing was published",
                retry_after_s=self.retry_after_s,
            )

    async def take_patiently(self, patience_s: float, stopping: asyncio.Event) -> None:
        """As `take`, when there is room; raises ProblemError after so long, or when nothing new is begun any more."""
        deadline = Deadline(patience_s)
        while True:
            try:
                return await self.take()
            except ProblemError:
                if stopping.is_set() or not deadline.left_s:
                    raise
            with suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), min(WAIT_S, deadline.left_s))

    def acknowledged(self) -> None:
        """One that was taken is in the log, or will never be."""
        self._unacknowledged -= 1

    @property
    def retry_after_s(self) -> float:
        """When there may be room again, by what was settled in the last seconds."""
        if len(self._looks) < 2:
            return UNKNOWN_RETRY_S
        (begun, before), (ended, after) = self._looks[0], self._looks[-1]
        if after <= before:
            return UNKNOWN_RETRY_S
        wanted = max(1, self.lag - self.max_lag + self.max_lag // SHARE)
        return min(LONGEST_RETRY_S, wanted * (ended - begun) / (after - before))
