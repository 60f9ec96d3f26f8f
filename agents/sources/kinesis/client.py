"""`Stream` on Amazon's servers, or any that speak like them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from agents.sources.amazon import client, translated
from agents.sources.kinesis import (
    Described,
    ExpiredError,
    Given,
    NoShardError,
    Page,
    Place,
    Shard,
    ThrottledError,
    TrimmedError,
)
from agents.sources.kinesis.pace import Pace
from streams.errors import AwayError, ConfigError

if TYPE_CHECKING:
    from types_aiobotocore_kinesis import KinesisClient
    from types_aiobotocore_kinesis.type_defs import ShardTypeDef

T = TypeVar("T")
ARN = "arn:"
HOUR_MS = 3600 * 1000
CONNECT_S, READ_S = 10, 30
CONNECTIONS = 32
TRIES = 5
THROTTLED = (
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
    "ThrottlingException",
)
NEEDED = "kinesis:DescribeStreamSummary, ListShards, GetShardIterator, GetRecords; of an encrypted one kms:Decrypt"
TOLD = {
    "ResourceNotFoundException": "there is no such stream there: is the region right?",
    "AccessDeniedException": f"these credentials may not read it: they need {NEEDED}",
    "KMSAccessDeniedException": f"these credentials may not read it: they need {NEEDED}",
    "ExpiredTokenException": "these credentials have expired: get others, and start it again",
}


@asynccontextmanager
async def kinesis(stream: str, *, endpoint: str | None, region: str | None) -> AsyncIterator["Kinesis"]:
    """By name or ARN. Raises ConfigError where nothing says how to connect; it connects later."""
    if stream.startswith(ARN):
        parts = stream.split(":")
        if len(parts) != 6 or not parts[5].startswith("stream/"):
            raise ConfigError(f"{stream}: the ARN of a stream is arn:aws:kinesis:REGION:ACCOUNT:stream/NAME")
        region = region or parts[3]
    config: dict[str, Any] = {
        "retries": {"total_max_attempts": 1},  # whoever reads waits, and holds up nobody else meanwhile
        "connect_timeout": CONNECT_S,
        "read_timeout": READ_S,
        "max_pool_connections": CONNECTIONS,
    }
    with translated(stream, TOLD):
        opened = client("kinesis", endpoint, region, **config)
        connected: KinesisClient = await opened.__aenter__()
    try:
        yield Kinesis(stream, connected)
    finally:
        await opened.__aexit__(None, None, None)


class Kinesis:
    """`Stream`. Its clock is that of the answers."""

    def __init__(self, stream: str, connected: "KinesisClient") -> None:
        self._name = stream
        self._pace = Pace()
        self._client = connected
        self._arn: dict[str, Any] = {"StreamARN": stream} if stream.startswith(ARN) else {}
        self._of: dict[str, Any] = self._arn or {"StreamName": stream}

    async def describe(self) -> Described:
        """As it is now."""

        async def ask() -> Described:
            answer = await self._client.describe_stream_summary(**self._of)
            found = answer["StreamDescriptionSummary"]
            return Described(
                name=found["StreamARN"],
                made_ms=_ms(found["StreamCreationTimestamp"]),
                retention_ms=found["RetentionPeriodHours"] * HOUR_MS,
                now_ms=_now_ms(answer),
            )

        return await self._patiently(ask)

    async def shards(self) -> list[Shard]:
        """All of them, page by page."""
        found: list[Shard] = []
        asked: dict[str, Any] = self._of

        async def ask() -> str | None:
            answer = await self._client.list_shards(**asked)
            found.extend([_shard(row) for row in answer["Shards"]])
            return answer.get("NextToken")

        while token := await self._patiently(ask):
            asked = {"NextToken": token}  # which may not be given with the stream
        return found

    async def iterator(self, shard: str, place: Place) -> str:
        """Of the page there."""
        asked: dict[str, Any] = {**self._of, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        if place.sequence is not None:
            asked |= {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": place.sequence}
        elif place.at_ms is not None:
            moment = datetime.fromtimestamp(place.at_ms / 1000, UTC)
            asked |= {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": moment}
        with self._translated(ResourceNotFoundException=NoShardError, InvalidArgumentException=TrimmedError):
            return (await self._client.get_shard_iterator(**asked))["ShardIterator"]

    async def page(self, iterator: str, limit: int) -> Page:
        """So many records at most."""
        with self._translated(
            ResourceNotFoundException=NoShardError,
            ExpiredIteratorException=ExpiredError,
            InvalidArgumentException=ExpiredError,  # an iterator that it cannot read
        ):
            answer = await self._client.get_records(**self._arn, ShardIterator=iterator, Limit=limit)
            records = [
                Given(
                    sequence=row["SequenceNumber"],
                    partition_key=row["PartitionKey"],
                    data=row["Data"],
                    arrived_ms=_ms(row["ApproximateArrivalTimestamp"]),
                )
                for row in answer["Records"]
            ]
            return Page(
                records=records,
                iterator=answer.get("NextShardIterator"),
                behind_ms=answer.get("MillisBehindLatest", 0),
                now_ms=_now_ms(answer),
                size=sum(len(record.data) + len(record.partition_key) for record in records),
            )

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Again while it is throttled, and some times while nobody answers."""
        throttled = away = 0
        while True:
            try:
                with self._translated():
                    return await ask()
            except ThrottledError:
                throttled += 1
            except AwayError:
                away += 1
                if away == TRIES:
                    raise
            await asyncio.sleep(self._pace.after_refusal_s(throttled + away))

    @contextmanager
    def _translated(self, **expected: type[Exception]) -> Iterator[None]:
        """As `translated`; these codes, and throttling, are what whoever reads expects."""
        with translated(self._name, TOLD):
            try:
                yield
            except ClientError as exc:
                code = exc.response["Error"].get("Code", "")
                if code in THROTTLED:
                    raise ThrottledError from exc
                if code in expected:
                    raise expected[code] from exc
                raise
            except (KeyError, TypeError, ValueError) as exc:
                raise AwayError(
                    f"{self._name}: what answers is not Kinesis, perhaps a proxy: {exc!r} where its answer should be"
                ) from exc


def _shard(row: "ShardTypeDef") -> Shard:
    parents = (row.get("ParentShardId"), row.get("AdjacentParentShardId"))
    return Shard(
        id=row["ShardId"],
        parents=tuple(parent for parent in parents if parent),
        open="EndingSequenceNumber" not in row["SequenceNumberRange"],
    )


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _now_ms(answer: Mapping[str, Any]) -> int:
    """When the server answered, to the second; by our own clock where it does not say."""
    said = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return _ms(parsedate_to_datetime(said)) if said else round(time.time() * 1000)
