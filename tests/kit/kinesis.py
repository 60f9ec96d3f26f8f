"""Servers that speak like Kinesis, and what tests do with their streams."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiobotocore.session import get_session

from agents.local.servers import free_port
from agents.settings.environment import cache_dir
from tests.kit.harness import until
from tests.kit.moto import LOGIN, moto, served
from tests.kit.shared import alone

if TYPE_CHECKING:
    from types_aiobotocore_kinesis import KinesisClient

LOCAL = "0.6.2"
PUT = 400
"""Records of a request."""


@contextmanager
def moto_kinesis() -> Iterator[str]:
    """moto's, mended; its URL."""
    with moto(["-P", Path(__file__).with_name("moto_kinesis.py")]) as url:  # whose neighbour here is `moto`, too
        yield url


@contextmanager
def kinesis_local() -> Iterator[str]:
    """Another one, `kinesis-local`, that has nothing to do with moto; skips the test where there is no Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are not installed: another server of Kinesis' protocol is not tried")
    home = cache_dir() / f"kinesis-local-{LOCAL}"
    with alone("kinesis-local"):
        if not (home / ".complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            command = [npm, "install", "--silent", "--no-audit", "--no-fund", f"kinesis-local@{LOCAL}"]
            if subprocess.run(command, cwd=home, check=False).returncode:
                pytest.skip(f"npm does not install kinesis-local@{LOCAL}: another server is not tried")
            program = home / "node_modules" / "kinesis-local" / "main.js"
            program.write_text(program.read_text().replace("0.0.0.0", "127.0.0.1"))
            (home / ".complete").touch()
    folder, port = home / "node_modules" / "kinesis-local", free_port()
    ports = {"KINESIS_MOCK_PLAIN_PORT": str(port), "KINESIS_MOCK_TLS_PORT": str(free_port())}
    quick = {f"{what}_DURATION": "1ms" for what in ("CREATE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS")}
    paths = {"KINESIS_MOCK_CERT_PATH": str(folder / "server.json"), "PATH": os.environ["PATH"]}
    with served([node, folder / "main.js"], port, "/healthcheck", {**ports, **quick, **paths}) as url:
        yield url


class KinesisStream:
    """A stream, as its producers and operators have it."""

    def __init__(self, client: "KinesisClient", name: str) -> None:
        self.client = client
        self.name = name

    async def put(self, records: Sequence[tuple[str, bytes]]) -> None:
        """By partition key and data, in their order; all of them."""
        for begin in range(0, len(records), PUT):
            part: list[Any] = [{"PartitionKey": key, "Data": data} for key, data in records[begin : begin + PUT]]
            answer = await self.client.put_records(StreamName=self.name, Records=part)
            assert not answer.get("FailedRecordCount"), answer

    async def shards(self) -> list[Any]:
        """As they are listed; once none is changing."""

        async def active() -> bool:
            answer = await self.client.describe_stream_summary(StreamName=self.name)
            return answer["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"

        await until(active)
        return (await self.client.list_shards(StreamName=self.name))["Shards"]

    async def open_shards(self) -> list[Any]:
        """In the order of their hashes."""
        found = [one for one in await self.shards() if "EndingSequenceNumber" not in one["SequenceNumberRange"]]
        return sorted(found, key=lambda one: int(one["HashKeyRange"]["StartingHashKey"]))

    async def split(self) -> None:
        """The first open shard, in two."""
        shard, *_ = await self.open_shards()
        hashes = shard["HashKeyRange"]
        middle = (int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"])) // 2
        await self.client.split_shard(
            StreamName=self.name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle)
        )

    async def merge(self) -> None:
        """The last two open shards."""
        *_, one, other = await self.open_shards()
        await self.client.merge_shards(
            StreamName=self.name, ShardToMerge=one["ShardId"], AdjacentShardToMerge=other["ShardId"]
        )

    async def tag(self, tags: Mapping[str, str]) -> None:
        """Of moto's, as `moto_kinesis` has them."""
        await self.client.add_tags_to_stream(StreamName=self.name, Tags=tags)


@asynccontextmanager
async def stream(url: str, name: str, shards: int = 2) -> AsyncIterator[KinesisStream]:
    """A new one."""
    login = {"aws_access_key_id": LOGIN["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": LOGIN["AWS_SECRET_ACCESS_KEY"]}
    made = get_session().create_client("kinesis", endpoint_url=url, region_name="us-east-1", **login)
    async with made as client:
        await client.create_stream(StreamName=name, ShardCount=shards)
        found = KinesisStream(client, name)
        await found.shards()
        yield found
