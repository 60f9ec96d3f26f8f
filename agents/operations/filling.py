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
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

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
from streams.cost import NOTHING_SPENT
from streams.epochs import History
from streams.errors import RefusedError

DELETIONS_STAY_MS = 24 * 3600 * 1000
"""Kafka's own `delete.retention.ms`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What others are to do: all records of these ranges of offsets, by partition, into an index.

    `settings`: of the group that feeds it. `sink`: identity of the index and its registry. `former`: an index whose
    vectors are taken where model and text are the same.
    """

    settings: Settings
    index: str
    sink: str
    former: str | None
    ranges: Mapping[int, range]

    @property
    def records(self) -> int:
        """Offsets in all; some may have no record."""
        return sum(map(len, self.ranges.values()))


Fill = Callable[[Task], Awaitable[Counter[str]]]
"""Returns when all of it is done, with what was counted: `records`, `settled` (of them, before), `dead_lettered`, and
of chunks `embedded` and `reused`. Raises PenstockError where it is not."""


async def fill_ranges(
    reader: LogReader,
    settings: Settings,
    identity: IndexIdentity,
    history: History,
    starts: Mapping[int, int],
    fill: Fill,
    *,
    former: str | None = None,
) -> tuple[dict[int, int], Counter[str]]:
    """Everything from these offsets, or from the claims where they are above, up to the log's end now.

    Returns the ends, and what was counted. Raises RefusedError where what was done says nothing any more.
    """
    topic, sink, began = settings.source.topic, identity.sink, time.monotonic()
    await require_stopped(reader, settings)
    bounds = await reader.bounds(topic, starts)
    claims = {number: one for number, one in (await read_claims(reader, settings)).items() if one.sink == sink}
    offsets = {
        number: max(start, bounds[number].begin, claims[number].offset + 1 if number in claims else 0)
        for number, start in starts.items()
    }
    ends = {number: max(bounds[number].end, offset) for number, offset in offsets.items()}
    task = Task(
        settings=settings,
        index=identity.index,
        sink=sink,
        former=former,
        ranges={number: range(offset, ends[number]) for number, offset in offsets.items() if offset < ends[number]},
    )
    async with connect(settings.elasticsearch) as client:  # else vacuum would forget what is newer than a range
        await Index(client, settings).note(identity.index, **{FILL_NOTE: utc_now()})
    counted = await fill(task) if task.ranges else Counter[str]()
    await _require_true(reader, settings, identity, time.monotonic() - began)
    proofs = await reader.records_at(topic, {number: end - 1 for number, end in ends.items() if end})
    async with claim_writer(settings) as write:
        for number in task.ranges:
            proof = Fingerprint.of(proofs[number]) if number in proofs else None
            spend = claims[number].spend if number in claims else NOTHING_SPENT
            claim = Claim(offset=ends[number] - 1, sink=sink, record=proof, history=history, spend=spend)
            await write(number, claim)
    async with connect(settings.elasticsearch) as client:
        await Index(client, settings).note(identity.index, **{FILL_NOTE: None})
    return ends, counted


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
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        now = await index.identity(await index.generation(identity.index))
    if now.sink != identity.sink:
        raise RefusedError(
            f"{identity.index} or its registry was made anew or restored meanwhile: nothing is claimed; run "
            "`penstock backfill` again"
        )
    await require_stopped(reader, settings)
