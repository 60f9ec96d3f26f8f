"""What is remembered of a stream, as rows of the topic that `agents.sources.state` reads.

    ["stream", source]             {"made_ms", "from_ms", "looked_ms", "log"}                     how it was begun with
    ["shard", source, shard]       {"sequence", "sub", "arrived_ms", "seen_ms", "ended", "log"}   its checkpoint
    ["missed", source, shard, …]   what `Missed` says                                             to be sent again

Of another log than the source topic's now, checkpoints say nothing: what was published is in no topic. What was missed
stays so.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import orjson

from agents.sources.kinesis import Checkpoint, Missed
from agents.sources.state import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """When the stream was made, from when on it is read (None: from its beginning), and when its shards were listed."""

    made_ms: int
    from_ms: int | None
    looked_ms: int


@dataclass(slots=True, kw_only=True)
class Remembered:
    """Of one stream. `begun`: None when it was never seen, or its topic is another one: `anew`."""

    begun: Begun | None = None
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    missed: dict[bytes, Missed] = field(default_factory=dict)
    void: list[bytes] = field(default_factory=list)
    """Keys of rows that are about another log."""

    @property
    def anew(self) -> bool:
        """Whether the source topic is another one than it was published to."""
        return self.begun is None and bool(self.void)


def remembered(rows: Iterable[tuple[bytes, bytes]], log: str) -> Remembered:
    """What these rows of a stream say of a source topic."""
    found = Remembered()
    for key, value in rows:
        kind, _, *names = orjson.loads(key)
        told = orjson.loads(value)
        if kind == "missed":
            found.missed[key] = Missed(**told)
        elif told.pop("log") != log:
            found.void.append(key)
        elif kind == "stream":
            found.begun = Begun(**told)
        else:
            found.checkpoints[names[0]] = Checkpoint(**told)
    return found


def stream_row(source: str, begun: Begun, log: str) -> Row:
    """To write before anything of it is published."""
    return orjson.dumps(["stream", source]), orjson.dumps({**asdict(begun), "log": log})


def shard_row(source: str, shard: str, checkpoint: Checkpoint | None, log: str) -> Row:
    """To write with the records up to there; no checkpoint: nobody asks for it any more."""
    value = orjson.dumps({**asdict(checkpoint), "log": log}) if checkpoint else None
    return orjson.dumps(["shard", source, shard]), value


def missed_row(source: str, missed: Missed) -> tuple[bytes, bytes]:
    """To write with the first records behind it."""
    place = [missed.sequence, missed.sub] if missed.sequence else [missed.after, missed.after_ms]
    return orjson.dumps(["missed", source, missed.shard, *place]), orjson.dumps(asdict(missed))
