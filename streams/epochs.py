"""Epochs: stretches of the source topic within which offsets of one partition compare, and keys keep their partition.

A cut ends an epoch: everything from its offsets on counts as newer than everything before, on every partition. Cuts are
kept in the index contract, oldest first; the epoch of a record is a function of its partition and offset.

Where the first cut says so, the log begins in epoch 1, and epoch 0 belongs to snapshots (`streams.snapshot`): whatever
the stream says of a document is newer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.errors import RefusedError
from streams.ids import EPOCH_SHIFT, version

MAX_EPOCH = (1 << 15) - 1
FOR_SNAPSHOTS = "epoch 0 belongs to snapshots"
"""Why the first cut of an index was made that takes snapshots, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """From these offsets on a new epoch begins; on partitions that are not named from their start."""

    at: str
    why: str
    offsets: Mapping[int, int]

    @property
    def anew(self) -> bool:
        """Whether the log before it is another one."""
        return not self.offsets

    def is_after(self, offsets: Mapping[int, int]) -> bool:
        """Whether a cut there, in the same log, would take back what this one divides, on any partition."""
        return bool(offsets) and any(offsets.get(partition, 0) < offset for partition, offset in self.offsets.items())


@dataclass(frozen=True, slots=True)
class Epochs:
    """All cuts of an index, oldest first."""

    cuts: tuple[Cut, ...] = ()

    def of(self, partition: int, offset: int) -> int:
        """Number of the last cut at or below the record; 0 before the first."""
        for number in range(len(self.cuts), 0, -1):
            if self.cuts[number - 1].offsets.get(partition, 0) <= offset:
                return number
        return 0

    def version(self, partition: int, offset: int) -> int:
        """Of the record there, whether or not there is one yet."""
        return version(self.of(partition, offset), offset)

    @property
    def have_room_for_snapshots(self) -> bool:
        """Whether every record of the log is newer than all that snapshots may have."""
        return bool(self.cuts) and self.cuts[0].why == FOR_SNAPSHOTS

    @property
    def logs(self) -> int:
        """How many logs there were before this one, snapshots among them."""
        return sum(cut.anew for cut in self.cuts)

    def beyond(self, newest: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
        """Ends by partition, where what is known of the log is beyond them: it is another log, or a truncated one.

        `newest`: the greatest version that was ever made for a record of the partition, by partition.
        """
        return {
            partition: end
            for partition, end in ends.items()
            if newest.get(partition, 0) >= self.version(partition, end)
            or any(cut.offsets.get(partition, 0) > end for cut in self.of_this_log.cuts)
        }

    def known_up_to(self, newest: Mapping[int, int]) -> dict[int, int]:
        """The offset after the newest record, by partition, where that is of this log. `newest`: versions."""
        offsets = {partition: offset_of_version(made) for partition, made in newest.items()}
        return {
            partition: offset + 1
            for partition, offset in offsets.items()
            if self.version(partition, offset) == newest[partition]
        }

    @property
    def of_this_log(self) -> "Epochs":
        """Cuts since the last one that began another log."""
        anew = [number for number, cut in enumerate(self.cuts) if cut.anew]
        return Epochs(self.cuts[anew[-1] + 1 :]) if anew else self

    def then(self, cut: Cut) -> "Epochs":
        """With one more. Raises ValueError when versions have no room for it, or it is before the last one."""
        if len(self.cuts) == MAX_EPOCH:
            raise ValueError(f"an index has at most {MAX_EPOCH} epochs")
        if self.cuts and self.cuts[-1].is_after(cut.offsets):
            raise ValueError(f"a cut at {dict(cut.offsets)} is before the last one, at {dict(self.cuts[-1].offsets)}")
        return Epochs((*self.cuts, cut))


def for_snapshots(at: str) -> Cut:
    """The first cut of an index that takes snapshots, too. `at`: when that is made."""
    return Cut(at=at, why=FOR_SNAPSHOTS, offsets={})


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Of a log, as in the contract: its partitions, and its cuts so far.

    Without it an index that is made anew takes a key that moved when partitions were added for one on two partitions.
    """

    log: str
    partitions: int
    cuts: list[dict[str, Any]]


def epoch_of_version(version: int) -> int:
    """The epoch that a version was made in."""
    return version >> EPOCH_SHIFT


def offset_of_version(version: int) -> int:
    """The offset of the record that a version was made for."""
    return (version & ((1 << EPOCH_SHIFT) - 1)) - 1


def to_contract(epochs: Epochs) -> list[dict[str, Any]]:
    """As stored in the contract: JSON has text for keys only."""
    return [
        {"at": cut.at, "why": cut.why, "offsets": {str(partition): offset for partition, offset in cut.offsets.items()}}
        for cut in epochs.cuts
    ]


def from_contract(cuts: Sequence[Mapping[str, Any]]) -> Epochs:
    """Inverse of `to_contract`."""
    return Epochs(
        tuple(
            Cut(at=cut["at"], why=cut["why"], offsets={int(name): offset for name, offset in cut["offsets"].items()})
            for cut in cuts
        )
    )


def grown_cut(offsets: Mapping[int, int], before: int) -> dict[int, int]:
    """Offsets of a cut for a topic that has grown from `before` partitions. `offsets`: where the old ones are cut.

    A key that moves to a new partition is newer there than anything that was on its old one, however much of that is
    still unread, so new partitions begin in the new epoch.
    """
    return {partition: offset if partition < before else 0 for partition, offset in offsets.items()}


def only_to_new_partitions(before: int, now: int) -> bool:
    """Whether every key either stays or moves to a new partition, when `hash mod partitions` places it."""
    return now % before == 0


def begin_epoch(feeder: str | None, group: str) -> str:
    """The way on for an index that `feeder` feeds, for somebody with these settings."""
    command = with_group("`penstock index epoch bump --why …`", feeder, group)
    return f"Stop the workers, then begin a new epoch with {command}"


def with_group(command: str, feeder: str | None, group: str) -> str:
    """A command, between backquotes, about an index that `feeder` feeds, as somebody with this group has to run it."""
    return command if feeder in (None, group) else f"`PENSTOCK_SOURCE__GROUP={feeder} {command.removeprefix('`')}"


def moved_keys(topic: str, now: int, index: str, before: int, way: str) -> RefusedError:
    """`topic` has `now` partitions, and `index` was made for `before`. `way`: on, such as `begin_epoch`."""
    return RefusedError(
        f"{topic} has {now} partitions, {index} was made for {before}: keys have moved, and offsets no longer compare. "
        f"{way}"
    )


def another_log(topic: str, what: str, way: str) -> RefusedError:
    """`what`: how it is known. `way`: on, such as `begin_epoch`."""
    return RefusedError(
        f"{topic} is not the log that was indexed: {what}. Is kafka.bootstrap_servers right? Then the topic was "
        "deleted and made anew, or truncated, or the cluster was replaced: all of it is to be processed, and newer "
        f"than what is there. {way}"
    )
