"""In which order shards are read, and which are gone before they were. Pure.

A shard that was split or merged is closed, and what is put afterwards is in its children. So that records of one
partition key keep their order, a child is read when all that its parents had is published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agents.sources.kinesis import Checkpoint, Missed, Shard

SLACK_MS = 60_000
"""Between the clock of an answer and that by which records go."""


def readable(shards: Mapping[str, Shard], checkpoints: Mapping[str, Checkpoint]) -> list[str]:
    """Those that may be read now: not yet read to their end, and no parent of them is left to read.

    `checkpoints` are there for all `shards`, and perhaps for others, which are not listed any more: they are tried.
    """
    left = {shard for shard, checkpoint in checkpoints.items() if not checkpoint.ended}
    none = Shard(id="")
    return sorted(shard for shard in left if left.isdisjoint(shards.get(shard, none).parents))


def revived(shards: Mapping[str, Shard], checkpoints: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """Of shards that are said to be read to their end and are open: they have none, and are gone on with."""
    return {
        name: replace(checkpoints[name], ended=False)
        for name, shard in sorted(shards.items())
        if shard.open and name in checkpoints and checkpoints[name].ended
    }


def never_read(shards: Mapping[str, Shard], checkpoints: Mapping[str, Checkpoint]) -> list[str]:
    """Parents that came and went while nobody looked: of shards that are new, not listed, and of none is known how far.

    `checkpoints` as they were before the new shards were noticed; there are some.
    """
    new = [shard for name, shard in shards.items() if name not in checkpoints]
    parents = {parent for shard in new for parent in shard.parents}
    return sorted(parents - shards.keys() - checkpoints.keys())


def forgettable(shards: Mapping[str, Shard], checkpoints: Mapping[str, Checkpoint]) -> list[str]:
    """Read to their end, and not listed any more: nobody will ask for them again."""
    return sorted(name for name, checkpoint in checkpoints.items() if checkpoint.ended and name not in shards)


def gap(shard: str, at: Checkpoint, first: tuple[str, int] | None, now_ms: int, retention_ms: int) -> Missed | None:
    """What retention took between a checkpoint and what is there from its place on.

    `first`: sequence and arrival of the first record there, asked for at the checkpoint's own; None where the shard has
    none. When that is the checkpoint's record itself, nothing behind it is gone. Else something may be: whatever came
    since the shard was seen to its end last, and is older than retention.
    """
    horizon = now_ms - retention_ms
    if at.sequence is not None and first and first[0] == at.sequence:
        return None
    overtaken = at.seen_ms is not None and at.seen_ms < horizon
    early = at.arrived_ms is not None and at.arrived_ms >= horizon + SLACK_MS  # it should be there, and is not
    if not overtaken and not early:
        return None
    before, before_ms = first or (None, horizon)
    return Missed(
        shard=shard,
        reason="retention was faster: what came between, if anything did, is gone from the stream",
        after=at.sequence,
        sub=at.sub,
        after_ms=at.seen_ms or at.arrived_ms,
        before=before,
        before_ms=before_ms,
    )


UNSEEN = "retention was faster: the shard, and any between it and those that were read, is gone from the stream"
"""Of a shard that only its children name: what it came from itself nobody knows any more."""


def gone(
    shard: str,
    at: Checkpoint | None,
    now_ms: int,
    retention_ms: int,
    reason: str = "retention was faster: the shard is gone from the stream",
) -> Missed:
    """Of a shard that is not there any more, and was not read to its end."""
    return Missed(
        shard=shard,
        reason=reason,
        after=at.sequence if at else None,
        sub=at.sub if at else None,
        after_ms=(at.seen_ms or at.arrived_ms) if at else None,
        before_ms=now_ms - retention_ms,
    )


def made_anew(checkpoints: Mapping[str, Checkpoint], made_ms: int) -> Sequence[Missed]:
    """Of a stream that was deleted: what its shards still had is gone with it."""
    return [
        Missed(
            shard=name,
            reason="the stream was deleted and made anew: what came between, if anything did, is gone with it",
            after=checkpoint.sequence,
            sub=checkpoint.sub,
            after_ms=checkpoint.seen_ms or checkpoint.arrived_ms,
            before_ms=made_ms,
        )
        for name, checkpoint in sorted(checkpoints.items())
        if not checkpoint.ended
    ]
