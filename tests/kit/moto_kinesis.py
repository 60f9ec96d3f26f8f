"""moto's Kinesis with what Amazon's documents say and it does not do. A program, for moto's own Python.

A closed shard keeps its records, takes no more, and has an end; its children are named there. Tags of a stream stand
for what takes a day or some luck elsewhere: `trimmed-SHARD` = a sequence: records up to it are gone; `gone-SHARD`: it
is not there any more; `refuses` = n: of n requests for records one is throttled, and another's iterator has expired.
"""

import itertools
import sys
from hashlib import md5
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.kinesis import models, responses
from moto.kinesis.exceptions import InvalidArgumentError, ShardNotFoundError
from moto.kinesis.utils import decompose_shard_iterator
from moto.server import main

_asked = itertools.count(1)


class Stream(models.Stream):  # type: ignore[misc]  # moto is not installed here
    """With shards that end."""

    __module__ = "moto.kinesis.models"  # by which its base counts instances

    def get_shard_for_key(self, partition_key: str, explicit_hash_key: str | None) -> Any:
        """The open one."""
        place = int(explicit_hash_key or int(md5(partition_key.encode(), usedforsecurity=False).hexdigest(), 16))
        return next(
            one for one in self.shards.values() if one.is_open and one.starting_hash <= place <= one.ending_hash
        )

    def split_shard(self, shard_to_split: str, new_starting_hash_key: str) -> None:
        """Into two, from this hash on."""
        shard, middle = self._closed(shard_to_split), int(new_starting_hash_key)
        self._add(shard.starting_hash, middle - 1, shard.shard_id, None)
        self._add(middle, shard.ending_hash, shard.shard_id, None)

    def merge_shards(self, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
        """Two neighbours."""
        one, other = self._closed(shard_to_merge), self._closed(adjacent_shard_to_merge)
        hashes = [one.starting_hash, one.ending_hash, other.starting_hash, other.ending_hash]
        self._add(min(hashes), max(hashes), one.shard_id, other.shard_id)

    def _closed(self, name: str) -> Any:
        shard = self.shards[name]
        if not shard.is_open:
            raise InvalidArgumentError(f"{name} is closed")
        shard.is_open = False
        return shard

    def _add(self, begin: int, end: int, parent: str, adjacent: str | None) -> None:
        shard = models.Shard(len(self.shards), begin, end, parent, adjacent)
        self.shards[shard.shard_id] = shard

    def get_shard(self, shard_id: str) -> Any:
        """Without what is trimmed. Refuses one that is gone."""
        if f"gone-{shard_id}" in self.tags:
            raise ShardNotFoundError(shard_id, stream=self.stream_name, account_id=self.account_id)
        shard = super().get_shard(shard_id)
        for sequence in [one for one in shard.records if one <= int(self.tags.get(f"trimmed-{shard_id}", 0))]:
            del shard.records[sequence]
        return shard


def list_shards(self: Any, stream_arn: str | None, stream_name: str | None, **_: Any) -> tuple[list[Any], None]:
    """Those that are not gone."""
    stream = self.describe_stream(stream_arn=stream_arn, stream_name=stream_name)
    return [one for name, one in stream.shards.items() if f"gone-{name}" not in stream.tags], None


def get_records(self: Any) -> Any:
    """With an end, and children there."""
    iterator = self._get_param("ShardIterator")
    name, shard_id, _ = decompose_shard_iterator(iterator)
    stream = self.kinesis_backend.describe_stream(None, name)
    asked, refuses = next(_asked), int(stream.tags.get("refuses", 0))
    if refuses and asked % refuses < 2:
        kinds = "ProvisionedThroughputExceededException", "ExpiredIteratorException"
        raise JsonRESTError(kinds[asked % refuses], "as the test wants it")
    arguments = (self._get_param("StreamARN"), iterator, self._get_param("Limit"))
    following, records, behind = self.kinesis_backend.get_records(*arguments)
    answer = {"Records": [one.to_json() for one in records], "MillisBehindLatest": behind}
    shard = stream.get_shard(shard_id)
    *_, reached = decompose_shard_iterator(following)
    if shard.is_open or int(reached) < shard.get_max_sequence_number():
        return ActionResult({**answer, "NextShardIterator": following})
    children = [one for one in stream.shards.values() if shard_id in (one.parent, one.adjacent_parent)]
    rows = [
        {
            "ShardId": one.shard_id,
            "ParentShards": [parent for parent in (one.parent, one.adjacent_parent) if parent],
            "HashKeyRange": one.to_json()["HashKeyRange"],
        }
        for one in children
    ]
    return ActionResult({**answer, "ChildShards": rows})


if __name__ == "__main__":
    models.Stream = Stream
    models.KinesisBackend.list_shards = list_shards
    responses.KinesisResponse.get_records = get_records
    main(sys.argv[1:])
