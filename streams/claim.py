"""Claims: how far a partition is settled, in which index, and of which log.

A claim is about a sink (chunk index, registry and contract) and an incarnation of the source topic. When either is
another one now, the claim is void: the worker replays, it never skips.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import orjson

from streams import cost
from streams.contract import this_very_log
from streams.cost import NOTHING_SPENT, Spend
from streams.epochs import History
from streams.record import Record
from streams.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Tells a record from another one at the same offset of a topic that was made anew."""

    timestamp_ms: int
    crc32: int

    @classmethod
    def of(cls, record: Record) -> "Fingerprint":
        """Of a record as the broker gave it."""
        return cls(
            timestamp_ms=record.timestamp_ms, crc32=zlib.crc32(record.value or b"", zlib.crc32(record.key or b""))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Every record up to `offset` is settled in `sink`. `record`: the one at `offset`, None for a hole.

    `share`: how many of the last records were rejected, so that a restart goes on counting. `history`: of the log; the
    index knows it, too, and may be lost. `spend`: on records of this partition, in whatever sink, up to this claim.
    """

    offset: int
    sink: str
    record: Fingerprint | None
    share: Share = field(default_factory=Share)
    history: History | None = None
    spend: Spend = NOTHING_SPENT


def to_bytes(claim: Claim) -> bytes:
    """The claim as stored. What only a newer version knows is left out where it says nothing."""
    raw = orjson.loads(orjson.dumps(replace(claim, spend=NOTHING_SPENT)))
    if not claim.share.stopped:
        del raw["share"]["stopped"]
    del raw["spend"]
    if claim.spend:
        raw["spend"] = cost.to_json(claim.spend)
    return orjson.dumps(raw)


def from_bytes(value: bytes | None) -> Claim | None:
    """Inverse of `to_bytes`; None for a value that is not a claim: the partition is then replayed."""
    try:
        raw = orjson.loads(value or b"null")
        record = Fingerprint(**raw["record"]) if raw["record"] else None
        share = Share(**raw.get("share", {}))
        history = History(**raw["history"]) if raw.get("history") else None
        return Claim(
            offset=int(raw["offset"]),
            sink=str(raw["sink"]),
            record=record,
            share=share,
            history=history,
            spend=cost.from_json(raw.get("spend")),
        )
    except (TypeError, KeyError, ValueError):
        return None


def void(claim: Claim) -> Claim:
    """Nothing is claimed any more; what is known of the log stays, and what was spent."""
    return Claim(offset=-1, sink="", record=None, history=claim.history, spend=claim.spend)


def history_known(claims: Iterable[Claim], log: str) -> History | None:
    """What claims, about whatever index, remember of this log."""
    histories = [claim.history for claim in claims if claim.history is not None]
    ours = [history for history in histories if this_very_log(history.log, log)]
    return max(ours, key=lambda history: (len(history.cuts), history.partitions), default=None)
