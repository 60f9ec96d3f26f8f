"""Ranges of the topic into an index, by many processes of some engine; claims by this one alone, at the end.

    1  ranges: from each partition's claim, or its start, to its end now; never less: a newer record, such as a
       deletion, must not be left out behind an older one that comes again
    2  others take them through the stages of a worker, in any order, twice or at the same time: versions commute
    3  nothing happened meanwhile that would make what they did untrue: the index, its registry and the log are the same
       ones, compaction took no deletion before it was read, and no worker of the group runs
    4  a claim for each partition

Killed before 4 it begins again: what is settled costs a look at the registry.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agents.clock import utc_now
from agents.elastic.client import connect
from agents.elastic.incarnation import IndexIdentity
from agents.elastic.index import Index
from agents.elastic.notes import FILL_NOTE
from agents.kafka.claims import claim_writer, read_claims
from agents.kafka.reader import LogReader
from agents.operations.rewind import require_stopped
from agents.settings import Settings
from streams.claim import Claim, Fingerprint
from streams.cost import NOTHING_SPENT, Spend, from_counts
from streams.epochs import History
from streams.errors import RefusedError
from streams.ports import Log
from streams.snapshot import Snapshot

DELETIONS_STAY_MS = 24 * 3600 * 1000
"""Kafka's own `delete.retention.ms`."""


Filed = Callable[[Mapping[int, range]], tuple[Sequence[object], Mapping[int, int]]]
"""Of ranges of the log, by partition, the parts whose vectors are in files, from the beginning on without a hole; and
up to where that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What others are to do: all records of these ranges of offsets, by partition, into an index; or all rows of a
    snapshot. `filed`: who has their vectors, so that no model is needed.

    `settings`: of the group that feeds it. `sink`: identity of the index and its registry. `former`: an index whose
    vectors are taken where model and text are the same.
    """

    settings: Settings
    index: str
    sink: str
    former: str | None = None
    ranges: Mapping[int, range] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    filed: Filed | None = None

    @property
    def total(self) -> int:
        """Offsets, of which some may have no record; or bytes of files."""
        return self.snapshot.size if self.snapshot else sum(map(len, self.ranges.values()))

    @property
    def step(self) -> str:
        """What it is called while it goes on."""
        return "from the snapshot, bytes" if self.snapshot else "from the topic"


Fill = Callable[[Task], Awaitable[Counter[str]]]
"""Returns when all of it is done, with what was counted: `records`, `settled` (of them, before), `dead_lettered`, and
of chunks `embedded` and `reused`. Raises PenstockError where it is not."""


class Filling:
    """What is done at which time.

    `claims`: of the group, as they are now. `require_true`: raises RefusedError where what was done in so many seconds
    says nothing any more.
    """

    def __init__(
        self,
        topic: str,
        sink: str,
        history: History,
        *,
        log: Log,
        claims: Callable[[], Awaitable[Mapping[int, Claim]]],
        write: Callable[[int, Claim], Awaitable[None]],
        require_true: Callable[[float], Awaitable[None]],
        filed: Filed | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic, self._sink, self._history = topic, sink, history
        self._log, self._claims, self._write, self._require_true = log, claims, write, require_true
        self._filed, self._now = filed, now

    async def run(
        self, starts: Mapping[int, int], fill: Callable[[Mapping[int, range]], Awaitable[Counter[str]]]
    ) -> tuple[dict[int, int], Counter[str]]:
        """Everything from these offsets, or from the claims where they are above, up to the log's end now, or as far as
        there are vectors.

        Returns the ends, and what was counted.
        """
        began = self._now()
        before = await self._claims()
        claims = {number: one for number, one in before.items() if one.sink == self._sink}
        bounds = await self._log.bounds(self._topic, starts)
        offsets = {
            number: max(start, bounds[number].begin, claims[number].offset + 1 if number in claims else 0)
            for number, start in starts.items()
        }
        ends = {number: max(bounds[number].end, offset) for number, offset in offsets.items()}
        ranges = _between(offsets, ends)
        if self._filed:
            ends |= self._filed(ranges)[1]
            ranges = _between(offsets, ends)
        counted = await fill(ranges) if ranges else Counter[str]()
        await self._require_true(self._now() - began)
        await self._claim(ranges, before, from_counts(counted))
        return ends, counted

    async def _claim(
        self, ranges: Mapping[int, range], before: Mapping[int, Claim], spent: Spend = NOTHING_SPENT
    ) -> None:
        """`spent`: by all of them; the first one tells."""
        proofs = await self._log.records_at(self._topic, {number: one.stop - 1 for number, one in ranges.items()})
        for number, one in ranges.items():
            proof = Fingerprint.of(proofs[number]) if number in proofs else None
            spend = before[number].spend if number in before else NOTHING_SPENT
            spend, spent = spend.plus(spent), NOTHING_SPENT
            claim = Claim(offset=one.stop - 1, sink=self._sink, record=proof, history=self._history, spend=spend)
            await self._write(number, claim)


def _between(starts: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, range]:
    """By partition, where there is anything."""
    return {number: range(start, ends[number]) for number, start in starts.items() if start < ends[number]}


async def fill_ranges(
    reader: LogReader,
    settings: Settings,
    identity: IndexIdentity,
    history: History,
    starts: Mapping[int, int],
    fill: Fill,
    *,
    former: str | None = None,
    filed: Filed | None = None,
) -> tuple[dict[int, int], Counter[str]]:
    """See `Filling.run`. Raises RefusedError where what was done says nothing any more, or while workers run."""

    async def whole(ranges: Mapping[int, range]) -> Counter[str]:
        return await fill(
            Task(
                settings=settings,
                index=identity.index,
                sink=identity.sink,
                former=former,
                ranges=ranges,
                filed=filed,
            )
        )

    await require_stopped(reader, settings)
    async with unforgotten(settings, identity, "the topic"), claim_writer(settings) as write:
        filling = Filling(
            settings.source.topic,
            identity.sink,
            history,
            log=reader,
            claims=lambda: read_claims(reader, settings),
            write=write,
            require_true=lambda seconds: _require_true(reader, settings, identity, seconds),
            filed=filed,
        )
        return await filling.run(starts, whole)


@asynccontextmanager
async def unforgotten(settings: Settings, identity: IndexIdentity, what: str) -> AsyncIterator[None]:
    """Vacuum is refused until this has ended, without an error: it would forget what is newer than what comes.

    `what` is taken from: several may go on at a time, and one that was killed is begun again under the same name.
    """

    async def note(since: str | None) -> None:
        async with connect(settings.elasticsearch) as client:
            index = Index(client, settings)
            others = {name: one for name, one in fills_in(await index.notes(identity.index)).items() if name != what}
            now = {**others, **({what: since} if since else {})}
            await index.note(identity.index, **{FILL_NOTE: now or None})

    await note(utc_now())
    yield
    await note(None)


def fills_in(notes: Mapping[str, Any]) -> dict[str, str]:
    """What is being taken, by what it is taken from: since when."""
    return dict(notes.get(FILL_NOTE) or {})


async def require_same_sink(settings: Settings, identity: IndexIdentity) -> None:
    """Raises RefusedError where the index or its registry is another one than it was."""
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        now = await index.identity(await index.generation(identity.index))
    if now.sink != identity.sink:
        raise RefusedError(
            f"{identity.index} or its registry was made anew or restored meanwhile: nothing is claimed; run "
            "`penstock backfill` again"
        )


async def _require_true(reader: LogReader, settings: Settings, identity: IndexIdentity, seconds: float) -> None:
    topic = settings.source.topic
    configs = await reader.configs(topic)
    if "compact" in configs.get("cleanup.policy", ""):
        stay_s = int(configs.get("delete.retention.ms", DELETIONS_STAY_MS)) / 1000
        if seconds > stay_s:
            raise RefusedError(
                f"{topic} is compacted, and this took {seconds:.0f} s, longer than it keeps deletions (its "
                f"delete.retention.ms is {stay_s:.0f} s): one may have been taken away before it was read, and its "
                "document come back. Nothing is claimed. Raise delete.retention.ms, or have more processes, and run "
                "`penstock backfill` again"
            )
    await require_same_sink(settings, identity)
    await require_stopped(reader, settings)
