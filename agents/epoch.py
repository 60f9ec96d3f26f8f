"""`penstock index epoch bump`: a new epoch for a topic that is no longer the one that was indexed.

More partitions move keys, and a topic made anew begins its offsets anew: neither compares with what was before. A cut
in the index contract says from where on everything is newer. Only while no worker runs.
"""

from dataclasses import dataclass

from agents.claims import changelog_topic, read_claims, require_same_log
from agents.clock import utc_now
from agents.elastic import connect
from agents.index import Index
from agents.kafka import LogReader, log_reader
from agents.rewind import require_stopped, void_claims
from agents.settings import Settings
from agents.status import partition_rows
from streams.epochs import Cut, from_contract, grown_cut, only_to_new_partitions, to_contract
from streams.errors import PenstockError, RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Bumped:
    """What was done. `epoch`: the number of the one that begins; `made`: False when it had begun already."""

    epoch: int
    reason: str
    made: bool


async def bump(settings: Settings, why: str) -> Bumped:
    """Cut. Raises RefusedError while workers run, or while what is unread belongs on both sides of the cut.

    Idempotent: again, without anything new in the topic, it changes nothing. A crash in between is mended by another
    run.
    """
    topic = settings.source.topic
    async with log_reader(settings) as reader, connect(settings.elasticsearch) as client:
        await require_stopped(reader, settings)
        index = Index(client, settings)
        found = await index.mine()
        if found is None:
            raise PenstockError(
                f"the group {settings.source.group} feeds no index of the alias {settings.elasticsearch.alias}: "
                "`penstock index list` shows which group feeds which"
            )
        name, contract = found.index, found.contract
        before, now = int(contract["source"]["partitions"]), await reader.require_partitions(topic)
        bounds = await reader.bounds(topic, range(now))
        ends = {partition: bound.end for partition, bound in bounds.items()}
        epochs = from_contract(contract["cuts"])
        anew = now < before or await _made_anew(reader, settings, now)
        rows = await partition_rows(reader, settings, min(before, now), None)
        lag = sum(row["lag"] for row in rows)
        if anew:
            reason, offsets = "the topic was made anew", {}
        elif now != before:
            reason, offsets = f"{before} partitions became {now}", grown_cut(ends, before)
            if lag and not only_to_new_partitions(before, now):
                raise RefusedError(
                    f"the lag is {lag}, and {before} partitions became {now}: keys also move between old ones, so that "
                    "old and new records of a key cannot be told apart. Records that were not settled before the "
                    "partitions were added can only be indexed into a new index; next time grow by a multiple, or "
                    "stop the producers and wait for lag 0 first"
                )
        else:
            reason, offsets = "by hand", ends
            if epochs.cuts and dict(epochs.cuts[-1].offsets) == ends:
                return Bumped(epoch=len(epochs.cuts), reason="nothing came since the last cut", made=False)
            if lag:
                raise RefusedError(
                    f"the lag is {lag}: stop the producers, let the workers settle everything, stop them, and try again"
                )
        grown = epochs.then(Cut(at=utc_now(), why=f"{reason}: {why}", offsets=offsets))
        await reader.grow_topic(changelog_topic(settings), now)
        await index.set_epochs(name, to_contract(grown), now)
        if anew:  # last: without its cut, the new topic's records would look older than what is there
            await void_claims(reader, settings)
        return Bumped(epoch=len(grown.cuts), reason=reason, made=True)


async def _made_anew(reader: LogReader, settings: Settings, partitions: int) -> bool:
    """Whether a claim is about another record than the one that is there now."""
    claims = await read_claims(reader, settings)
    there = {partition: claim for partition, claim in claims.items() if partition < partitions}
    try:
        await require_same_log(reader, settings.source.topic, there)
    except RefusedError:
        return True
    return False
