"""How far the workers of a group are, by its claims and the log's bounds."""

from typing import Any

from agents.kafka.claims import read_claims
from agents.kafka.reader import LogReader
from agents.settings import Settings
from streams.claim import Claim
from streams.contract import same_log


async def partition_rows(
    reader: LogReader, settings: Settings, count: int, sink: str | None, log: str | None = None
) -> list[dict[str, Any]]:
    """One row a partition. `settled_offset`: every record below it is settled; lag counts from there.

    `held_back`: so many offsets, which count in no lag, are behind an open transaction, and read by nobody yet. `lost`:
    so many, counted as settled, had been read by nobody when retention took them; a worker has not noticed yet.

    `sink`: what claims have to be about; None where that is unknown. `log`: claims that know theirs, and it is another,
    say nothing.
    """
    topic = settings.source.topic
    written = await reader.written(topic, range(count))  # first: what is committed meanwhile is not held back
    bounds = await reader.bounds(topic, range(count))
    claims = await read_claims(reader, settings)
    rows = []
    for partition in range(count):
        begin, end = bounds[partition].begin, bounds[partition].end
        claimed = _next(claims.get(partition), sink, log)
        settled = min(end, max(begin, claimed))
        rows.append(
            {
                "topic": topic,
                "partition": partition,
                "end_offset": end,
                "settled_offset": settled,
                "lag": end - settled,
                "held_back": max(0, written[partition] - end),
                "lost": max(0, begin - claimed) if claimed else 0,
            }
        )
    return rows


def _next(claim: Claim | None, sink: str | None, log: str | None) -> int:
    if claim is None or (sink is not None and claim.sink != sink):
        return 0
    if claim.history is not None and not same_log(claim.history.log, log):
        return 0
    return claim.offset + 1
