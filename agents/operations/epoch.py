"""`penstock index epoch bump`: a new epoch for a topic that is no longer the one that was indexed.

More partitions move keys, and a topic made anew begins its offsets anew: neither compares with what was before. A cut
in the index contract says from where on everything is newer. Only while no worker runs.

1. what began: another log, other partitions, or by hand
2. where it is cut: nowhere (another log), at the ends, or at a moment
3. the changelog topic gets as many partitions, claims beyond the cut are set back
4. the cut, with the log and the partitions that it leads to, in one write: claims about another log are void by it
A crash in between is mended by another run.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.clock import moment, utc_now
from agents.elastic.client import Client, connect
from agents.elastic.incarnation import IndexIdentity
from agents.elastic.index import Index, settings_of
from agents.indexing.indexed_log import newest_epoch, require_indexed_log
from agents.indexing.preflight import CHANGELOG_CONFIG, require_own_group
from agents.kafka.claims import read_claims
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader, log_reader
from agents.operations.rewind import lower_claims, require_stopped
from agents.settings import Settings
from streams.claim import history_known
from streams.contract import Described, same_log
from streams.epochs import Cut, grown_cut, only_to_new_partitions, to_contract
from streams.errors import ConfigError, RefusedError
from streams.generations import Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Bumped:
    """What was done. `epoch`: the number of the one that begins; `made`: False when it had begun already."""

    epoch: int
    reason: str
    made: bool


async def bump(settings: Settings, why: str, at_ms: int | None = None) -> Bumped:
    """Cut. `at_ms`: at this moment instead of the log's present end, epoch milliseconds.

    Raises RefusedError while workers run, or while what is unread belongs on both sides of the cut. Idempotent: again,
    without anything new in the topic, it changes nothing.
    """
    async with log_reader(settings) as reader, connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        found = await index.mine()
        if found is None:
            raise index.none(await index.generations())
        groups = [settings_of(settings, found)]
        if groups[0].source.group != settings.source.group:  # whose index it was before
            groups.append(settings)
        topic = await reader.require_topic(settings.source.topic)
        index.require_remembered(found, history_known((await read_claims(reader, settings)).values(), topic.log))
        for one in groups:
            await require_own_group(reader, Index(client, one), one.source.topic, topic.log)
            await require_stopped(reader, one)
        identity = await index.identity(found, opened=False)
        await index.open(found.index)  # the one before may have been interrupted; and a login that may not ends here
        run = _Bump(reader, client, groups[0], found, identity, topic)
        now = len(identity.epochs.cuts)
        try:
            made = await run.cut(at_ms)
        except RefusedError:  # the group may be from another topic: then its changelog is all that does not fit
            fitted = topic.partitions == run.before and await _fit_changelogs(reader, groups, topic.partitions)
            if not fitted:
                raise
            return Bumped(epoch=now, reason="the changelog topic has as many partitions as the topic now", made=False)
        await _fit_changelogs(reader, groups, topic.partitions)
        if made is None:
            return Bumped(epoch=now, reason="nothing came since the last cut", made=False)
        reason, offsets = made
        cut = Cut(at=utc_now(), why=f"{reason}: {why}", offsets=offsets)
        for one in groups if offsets else []:
            await lower_claims(reader, one, offsets)
        grown = identity.epochs.then(cut)
        newest = await newest_epoch(client, settings, identity)
        while len(grown.cuts) <= newest:  # the registry is newer than the contract: restored apart
            grown = grown.then(cut)
        source = {"partitions": topic.partitions, "log": topic.log}
        await index.set_epochs(found, to_contract(grown), source)
        return Bumped(epoch=len(grown.cuts), reason=reason, made=True)


@dataclass(frozen=True, slots=True)
class _Bump:
    """What is looked at. `settings`: with the group that feeds the index."""

    reader: LogReader
    client: Client
    settings: Settings
    generation: Generation
    identity: IndexIdentity
    topic: Described

    @property
    def before(self) -> int:
        """Partitions that the index was made for."""
        return int(self.generation.contract["source"]["partitions"])

    async def cut(self, at_ms: int | None) -> tuple[str, dict[int, int]] | None:
        """The reason and the offsets of a cut; None when nothing came since the last one."""
        before, now, last = self.before, self.topic.partitions, self.identity.epochs.cuts[-1:]
        if await self._is_another_log():
            if at_ms is not None:
                raise ConfigError("--at is for partitions that were added: another log is newer as a whole")
            return "another log", {}
        topic = self.settings.source.topic
        bounds = await self.reader.bounds(topic, range(now))
        ends = await self.reader.written(topic, range(now))  # what a transaction holds back is as old as its neighbours
        if at_ms is not None:
            ends |= await self.reader.offsets_at(topic, range(now), at_ms, held_back=True)
            if at_ms > time.time() * 1000:
                raise ConfigError(f"--at {moment(at_ms)} is still to come")
            taken = last[0].offsets if last else {}
            if last and last[0].is_after(ends) and all(end <= taken.get(number, 0) for number, end in ends.items()):
                raise ConfigError(
                    f"--at {moment(at_ms)} is before the present epoch, whose cut was made at {last[0].at}: it would "
                    "take back what that divides. Give a later moment"
                )
            ends = {number: max(end, taken.get(number, 0)) for number, end in ends.items()}  # it was made at ends since
        rows = await partition_rows(self.reader, self.settings, min(before, now), self.identity.sink)
        lag = 0 if at_ms is not None else sum(row["lag"] for row in rows)
        if now != before:
            if at_ms is None and not only_to_new_partitions(before, now):
                await self._require_one_side(lag, ends)
            return f"{before} partitions became {now}", grown_cut(ends, before)
        if last and dict(last[0].offsets) == ends:
            return None
        begun = all(row["settled_offset"] == bounds[row["partition"]].begin for row in rows)
        if lag and last and last[0].anew and begun:  # by the run before this one
            return None
        if lag:
            raise RefusedError(
                f"the lag is {lag}: stop the producers, let the workers settle everything, stop them, and try again; "
                "or say from when on records are newer: --at TIME"
            )
        return "by hand", ends

    async def _is_another_log(self) -> bool:
        """By its identity, by fewer partitions, or by what was claimed or indexed of it."""
        before, now = self.before, self.topic.partitions
        if now < before or not same_log(self.generation.contract["source"]["log"], self.topic.log):
            return True
        claims = await read_claims(self.reader, self.settings)
        try:
            await require_indexed_log(
                self.reader, self.client, self.settings, self.identity, claims, partitions=min(before, now)
            )
        except RefusedError:
            return True
        return False

    async def _require_one_side(self, lag: int, ends: Mapping[int, int]) -> None:
        """Keys also moved between old partitions: what is in those must all be settled, and older than the growth.

        Workers notice that partitions were added after a few seconds, and may have settled newer records meanwhile.
        """
        topic, old = self.settings.source.topic, range(self.before)
        times = (await self.reader.first_times(topic, range(self.before, self.topic.partitions))).values()
        since, newer = int(min([time.time() * 1000, *times])), 0
        if times:
            begun = await self.reader.offsets_at(topic, old, since, held_back=True)
            newer = sum(ends[partition] - offset for partition, offset in begun.items())
        if not lag and not newer:
            return
        raise RefusedError(
            f"{self.before} partitions became {self.topic.partitions}: keys also move between old ones, so that only "
            f"the moment tells old records of a key from new ones, and the old partitions have {newer} records from "
            f"then on, and a lag of {lag}. Say when producers began to use the new partitions: "
            f'`penstock index epoch bump --why "partitions were added" --at {moment(since)}` (that is '
            f"{'the first record there' if times else 'now, as none is there yet'}). A "
            "record on the wrong side of it becomes a dead letter (KeyOnTwoPartitions), and never replaces a newer one"
        )


async def _fit_changelogs(reader: LogReader, groups: Sequence[Settings], partitions: int) -> bool:
    """As many partitions as the source topic has. Returns whether one did not.

    A topic cannot shrink: it is made anew, without its claims. That costs a replay; where the source topic has fewer
    partitions it is another log, and they are void in any case.
    """
    changed = False
    for settings in groups:
        topic = settings.changelog_topic
        found = await reader.partitions(topic)
        changed |= found not in (None, partitions)
        if (found or 0) > partitions:
            await reader.delete_topic(topic)
            await reader.create_topic(topic, partitions, CHANGELOG_CONFIG)
        await reader.grow_topic(topic, partitions)
    return changed
