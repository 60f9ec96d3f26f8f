"""What a server of Kinesis says that is no record, over real HTTP; and what moto, as it is, answers."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from agents.sources.kinesis import ExpiredError, Given, NoShardError, Place, Shard, ThrottledError, TrimmedError
from agents.sources.kinesis import client as client_module
from agents.sources.kinesis.client import Kinesis, kinesis
from agents.sources.kinesis.pace import Pace
from streams.errors import AwayError, ConfigError, PenstockError
from tests.kit.kinesis import stream
from tests.kit.moto import LOGIN, moto

AT_ONCE = Pace(backoff_s=0, longest_s=0)


class Answers(BaseHTTPRequestHandler):
    """Each request is answered with the next of these, the last one again and again."""

    answers: ClassVar[list[tuple[int, dict[str, object]]]] = []

    def do_POST(self) -> None:
        """Whatever is asked."""
        self.rfile.read(int(self.headers["Content-Length"]))
        status, said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def refusal(code: str, status: int = 400) -> tuple[int, dict[str, object]]:
    return status, {"__type": code, "message": "said so"}


async def ask(url: str, what: str, name: str = "documents") -> object:
    async with kinesis(name, endpoint=url, region="us-east-1") as opened:
        match what:
            case "describe":
                return await opened.describe()
            case "shards":
                return await opened.shards()
            case "iterator":
                return await opened.iterator("shard", Place(sequence="7"))
            case _:
                return await opened.page("iterator", 1)


@pytest.mark.parametrize(
    ("what", "code", "error", "words"),
    [
        ("describe", "ResourceNotFoundException", PenstockError, "there is no such stream there: is the region right"),
        ("describe", "AccessDeniedException", PenstockError, "may not read it: they need kinesis:Describe"),
        ("describe", "UnrecognizedClientException", PenstockError, "said so"),
        ("page", "ProvisionedThroughputExceededException", ThrottledError, ""),
        ("page", "ExpiredIteratorException", ExpiredError, ""),
        ("page", "KMSAccessDeniedException", PenstockError, "kms:Decrypt"),
        ("page", "InvalidArgumentException", ExpiredError, ""),
        ("page", "KMSInvalidStateException", AwayError, "said so"),
        ("page", "RequestTimeoutException", AwayError, "said so"),
        ("page", "ExpiredTokenException", PenstockError, "have expired: get others"),
        ("iterator", "ResourceNotFoundException", NoShardError, ""),
        ("iterator", "InvalidArgumentException", TrimmedError, ""),
    ],
)
def test_each_refusal_is_what_it_means(url: str, what: str, code: str, error: type[Exception], words: str) -> None:
    Answers.answers = [refusal(code)]
    with pytest.raises(error, match=words or None):
        asyncio.run(ask(url, what))


@pytest.mark.parametrize("what", ["describe", "shards", "iterator", "page"])
@pytest.mark.parametrize("said", [{}, {"Records": [{}], "Shards": [{}], "StreamDescriptionSummary": {}}])
def test_what_is_no_answer_of_kinesis_is_waited_for(
    url: str, what: str, said: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a proxy that answers in its place."""
    monkeypatch.setattr(client_module, "Pace", lambda: AT_ONCE)
    Answers.answers = [(200, said)]
    with pytest.raises(AwayError, match="what answers is not Kinesis, perhaps a proxy"):
        asyncio.run(ask(url, what))


def test_what_passes_is_asked_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "Pace", lambda: AT_ONCE)
    row = {"ShardId": "b", "ParentShardId": "a", "SequenceNumberRange": {"StartingSequenceNumber": "1"}}
    ended = {"StartingSequenceNumber": "1", "EndingSequenceNumber": "2"}
    Answers.answers = [
        refusal("LimitExceededException"),
        refusal("InternalFailure", 500),
        (200, {"Shards": [row], "NextToken": "more"}),
        (200, {"Shards": [{"ShardId": "a", "SequenceNumberRange": ended}]}),
    ]
    expected = [Shard(id="b", parents=("a",)), Shard(id="a", open=False)]
    assert asyncio.run(ask(url, "shards")) == expected
    Answers.answers = [refusal("InternalFailure", 500)]
    with pytest.raises(AwayError, match="said so"):
        asyncio.run(ask(url, "shards"))


def test_how_to_connect_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"):
        asyncio.run(ask("http://127.0.0.1:1", "describe", "arn:aws:kinesis:nowhere"))
    monkeypatch.setattr(client_module, "Pace", lambda: AT_ONCE)
    with pytest.raises(AwayError, match="cannot be reached"):
        asyncio.run(ask("http://127.0.0.1:1", "describe"))
    for name in LOGIN:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    with pytest.raises(ConfigError, match="set AWS_ACCESS_KEY_ID"):
        asyncio.run(ask("http://127.0.0.1:1", "describe"))

    async def nowhere() -> None:
        async with kinesis("documents", endpoint=None, region=None):
            pass

    with pytest.raises(ConfigError, match="give --region, or set AWS_DEFAULT_REGION"):
        asyncio.run(nowhere())


def test_a_stream_is_read_from_a_place_on_by_name_or_arn() -> None:
    async def scenario(url: str) -> None:
        async with stream(url, "documents", 1) as opened, kinesis("documents", endpoint=url, region=None) as named:
            told = await named.describe()
            async with kinesis(told.name, endpoint=url, region=None) as found:
                assert (await found.describe()).made_ms == told.made_ms
                await opened.put([(f"key-{n}", b"%d" % n) for n in range(5)])
                (shard,) = await found.shards()
                page = await read(found, shard.id, Place())
                assert [one.data for one in page] == [b"0", b"1", b"2", b"3", b"4"]
                assert [one.partition_key for one in page] == [f"key-{n}" for n in range(5)]
                again = await read(found, shard.id, Place(sequence=page[3].sequence))
                assert [one.data for one in again] == [b"3", b"4"]
                assert await read(found, shard.id, Place(at_ms=page[-1].arrived_ms + 1)) == []
                with pytest.raises(NoShardError):
                    await found.iterator("shardId-000000000009", Place())

    async def read(found: Kinesis, shard: str, place: Place) -> list[Given]:
        page = await found.page(await found.iterator(shard, place), 100)
        assert page.iterator
        return page.records

    with moto() as url:
        asyncio.run(scenario(url))
