"""The bulk loop against a server that fails in every way: an outcome for each item, only failed ones sent again."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyHttpUrl

from agents.elastic import bulk as bulk_module
from agents.elastic import client as client_module
from agents.elastic import requests as requests_module
from agents.elastic.bulk import ElasticStore
from agents.elastic.client import connect
from agents.elastic.requests import BACKOFF_CAP_S, Requests, backoff_s
from agents.elastic.store import Operation
from agents.fail_points import FailPoints
from agents.metrics import Metrics
from agents.settings.sections import DeliverySettings, ElasticsearchSettings
from streams.errors import PenstockError
from streams.plan import Conflict, Outcome, Refused, Written

Answer = Callable[[list[str]], dict[str, Any] | tuple[int, str] | tuple[int, str, str] | str | None]


class FakeElasticsearch:
    """Answers bulk requests by script; remembers the ids of each request. None: close without an answer.

    Answers none before `together` of them are here, and the first one so late.
    """

    late_s = 0.0

    def __init__(self, script: list[Answer], together: int = 1) -> None:
        self.script = script
        self.together = together
        self.all_here = asyncio.Event()
        self.requests: list[list[str]] = []
        self.answering = self.most = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        lines = (await request.read()).splitlines()
        ids = [next(iter(orjson.loads(line).values()))["_id"] for line in lines[::2]]
        self.requests.append(ids)
        self.answering += 1
        self.most = max(self.most, self.answering)
        if self.most >= self.together:
            self.all_here.set()
        await self.all_here.wait()
        await asyncio.sleep(0.02)  # for one too many to come
        if len(self.requests) == 1:
            await asyncio.sleep(self.late_s)
        self.answering -= 1
        answer = (self.script.pop(0) if self.script else ok)(ids)
        if isinstance(answer, str):  # a page of somebody else
            page, content_type = answer.split(" ", 1)
            return web.Response(status=int(page), text="<html>", content_type=content_type)
        if answer is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(answer, tuple):
            status, kind, *retry_after = answer
            body = {"error": {"type": kind, "reason": "scripted"}, "status": status}
            headers = {"X-Elastic-Product": "Elasticsearch"} | dict(zip(["Retry-After"], retry_after, strict=False))
            return web.json_response(body, status=status, headers=headers)
        return web.json_response(answer, headers={"X-Elastic-Product": "Elasticsearch"})


def ok(ids: list[str]) -> dict[str, Any]:
    return items({}, ids)


def items(statuses: dict[str, tuple[int, str]], ids: list[str]) -> dict[str, Any]:
    rows = []
    for key in ids:
        status, kind = statuses.get(key, (201, ""))
        row: dict[str, Any] = {"_id": key, "status": status, "_seq_no": 1, "_primary_term": 1}
        if kind:
            row["error"] = {"type": kind, "reason": "scripted"}
        rows.append({"index": row})
    return {"errors": bool(statuses), "items": rows}


def send(
    script: list[Answer], ids: list[str], max_retries: int | None = None, size: int = 1, together: int = 1
) -> tuple[list[Outcome], FakeElasticsearch]:
    fake = FakeElasticsearch(script, together)

    async def scenario() -> list[Outcome]:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/{index}/_bulk", fake.handle)
        async with TestServer(app) as server:
            settings = ElasticsearchSettings(url=AnyHttpUrl(str(server.make_url("/"))))
            async with connect(settings) as client:
                delivery = DeliverySettings(max_retries=max_retries, retry_backoff_ms=1)
                metrics = Metrics()
                bulk = ElasticStore(client, Requests(delivery, metrics), metrics, FailPoints())
                source = {"text": "x" * size, "penstock": {"topic": "t", "partition": 1, "offset": 41}}
                return await bulk.send("i", [Operation(action="index", meta={"_id": i}, source=source) for i in ids])

    return asyncio.run(scenario()), fake


def test_mixed_outcomes_item_by_item() -> None:
    """Fault 9: 2xx done, 409 superseded, 429 sent again alone, 400 refused."""
    outcomes, fake = send(
        [
            lambda ids: items(
                {
                    "b": (409, "version_conflict_engine_exception"),
                    "c": (429, "es_rejected_execution_exception"),
                    "d": (400, "document_parsing_exception"),
                },
                ids,
            )
        ],
        ["a", "b", "c", "d"],
    )
    assert [type(outcome) for outcome in outcomes] == [Written, Conflict, Written, Refused]
    assert fake.requests == [["a", "b", "c", "d"], ["c"]]


@pytest.mark.parametrize(
    "failure",
    [
        *[(429, "x"), (503, "x"), (502, "x"), (520, "x"), (408, "x"), None],
        (403, "cluster_block_exception"),  # the whole cluster is read-only
        *["200 text/html", "404 text/html", "200 application/json", "503 text/html"],  # a load balancer's own
    ],
)
def test_whole_request_is_sent_again(failure: tuple[int, str] | str | None) -> None:
    outcomes, fake = send([lambda _: failure, lambda _: failure], ["a", "b"])
    assert all(isinstance(outcome, Written) for outcome in outcomes)
    assert fake.requests == [["a", "b"]] * 3


def test_what_is_not_answered_in_time_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(FakeElasticsearch, "late_s", 1.0)
    outcomes, fake = send([], ["a", "b"])
    assert all(isinstance(outcome, Written) for outcome in outcomes)
    assert len(fake.requests) > 1


def test_a_throttled_item_neither_delays_nor_repeats_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "MAX_BODY_ITEMS", 2)
    throttled: Answer = lambda ids: items({"a": (429, "es_rejected_execution_exception")}, ids)  # noqa: E731
    outcomes, fake = send([throttled, throttled, throttled], list("abcde"))
    assert all(isinstance(outcome, Written) for outcome in outcomes)
    assert sorted(fake.requests[:3]) == [["a", "b"], ["c", "d"], ["e"]]
    assert fake.requests[3:] == [["a"]]


def test_retry_after_is_honoured() -> None:
    began = time.monotonic()
    _, fake = send([lambda _: (429, "x", "1")], ["a"])
    assert time.monotonic() - began >= 1
    assert fake.requests == [["a"], ["a"]]


def test_blocked_index_is_retried_and_not_refused() -> None:
    outcomes, _ = send([lambda ids: items({"a": (403, "cluster_block_exception")}, ids)], ["a"])
    assert isinstance(outcomes[0], Written)


def test_413_is_split_until_one_item_alone_is_too_large() -> None:
    def limit(ids: list[str]) -> dict[str, Any] | tuple[int, str]:
        return (413, "too_large") if len(ids) > 2 or "big" in ids else ok(ids)

    outcomes, fake = send([limit] * 9, ["a", "b", "big", "c"])
    assert [type(outcome) for outcome in outcomes] == [Written, Written, Refused, Written]
    assert sum(request == ["big"] for request in fake.requests) == 1


def test_bodies_are_cut_by_bytes_and_by_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "MAX_BODY_BYTES", 1000)
    monkeypatch.setattr(bulk_module, "MAX_BODY_ITEMS", 3)
    _, fake = send([], list("abcdefg"), size=10)
    assert sorted(fake.requests) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    _, fake = send([], list("abc"), size=600)
    assert sorted(fake.requests) == [["a"], ["b"], ["c"]]


def test_so_many_bodies_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "MAX_BODY_ITEMS", 1)
    outcomes, fake = send([], list("abcdefg"), together=bulk_module.AT_A_TIME)
    assert len(outcomes) == 7
    assert fake.most == bulk_module.AT_A_TIME


def test_when_one_body_fails_no_other_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "MAX_BODY_ITEMS", 1)
    fake: list[list[str]] = []

    def refuse(ids: list[str]) -> tuple[int, str]:
        fake.append(ids)
        return 401, "security_exception"

    with pytest.raises(PenstockError, match="answered 401"):
        send([refuse, *[lambda ids: fake.append(ids) or ok(ids)] * 9], list("abcdefg"))  # type: ignore[func-returns-value]
    assert len(fake) <= bulk_module.AT_A_TIME


def test_retries_end_where_the_settings_say() -> None:
    with pytest.raises(PenstockError, match=r"after 3 attempts \(last: 503\); delivery.max_retries is 2"):
        send([lambda _: (503, "x")] * 9, ["a"], max_retries=2)


@pytest.mark.parametrize(
    ("kind", "told"),
    [("index_not_found_exception", "penstock index create"), ("security_exception", "refused a write")],
)
def test_lost_index_or_access_is_an_error(kind: str, told: str) -> None:
    with pytest.raises(PenstockError, match=told):
        send([lambda ids: items({"a": (404, kind)}, ids)], ["a"])


def test_a_write_that_a_pipeline_drops_is_an_error() -> None:
    """As Elasticsearch answers then: done, and no sequence number."""

    def dropped(ids: list[str]) -> dict[str, Any]:
        return {"errors": False, "items": [{"index": {"status": 200}} for key in ids]}

    with pytest.raises(PenstockError, match="dropped by an ingest pipeline: .*`_none`"):
        send([dropped], ["a"])


@pytest.mark.parametrize(
    "refusal",
    [
        {"type": "illegal_argument_exception", "reason": "pipeline with id [gone] does not exist"},
        {"type": "fail_processor_exception", "reason": "no", "header": {"processor_type": "fail"}},
    ],
)
def test_a_pipeline_that_is_gone_or_fails_is_no_documents_fault(refusal: dict[str, Any]) -> None:
    def refused(ids: list[str]) -> dict[str, Any]:
        return {"errors": True, "items": [{"index": {"status": 400, "error": refusal}} for key in ids]}

    with pytest.raises(PenstockError, match="refused by an ingest pipeline: .*`_none`"):
        send([refused], ["a"])


def test_denied_request_is_an_error() -> None:
    with pytest.raises(PenstockError, match="answered 401"):
        send([lambda _: (401, "security_exception")], ["a"])


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_backoff_is_jittered_and_capped(attempt: int, base_ms: int) -> None:
    assert 0 <= backoff_s(attempt, base_ms) <= min(BACKOFF_CAP_S, base_ms / 1000 * 2 ** min(attempt, 20))


def error(kind: str, reason: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "reason": reason, **more}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait between two tries is long."""
    monkeypatch.setattr(requests_module, "BACKOFF_CAP_S", 0.005)


def throttle(key: str, told: dict[str, Any]) -> Answer:
    """An item of this id is refused with 429, whatever it comes with; others are taken."""

    def answer(ids: list[str]) -> dict[str, Any]:
        found = ok(ids)
        for row in found["items"]:
            if row["index"]["_id"] == key:
                row["index"] |= {"status": 429, "error": told}
        return found

    return answer


@pytest.mark.usefixtures("soon")
def test_a_body_that_is_throttled_again_and_again_is_divided_and_its_neighbours_pass(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was sent as it was for ever: the partition stood still, and nothing said which record it was."""
    refusals = 40

    def refuse(ids: list[str]) -> dict[str, Any] | tuple[int, str]:
        nonlocal refusals
        if "big" in ids and refusals:
            refusals -= 1
            return 429, "circuit_breaking_exception"
        return ok(ids)

    ids = ["a", "b", "c", "big", "d", "e", "f", "g"]
    outcomes, fake = send([refuse] * 200, ids)
    assert all(isinstance(outcome, Written) for outcome in outcomes)
    alone = fake.requests.index(["big"])
    assert {key for request in fake.requests[: alone + 8] for key in request} == set(ids)
    assert sum(request == ["big"] for request in fake.requests) > 8
    told = [record for record in caplog.records if "does not take this item" in record.message]
    assert told
    assert {(record.id, record.topic, record.partition, record.offset) for record in told} == {("big", "t", 1, 41)}  # type: ignore[attr-defined]


PRESSED = (
    "rejected execution of coordinating operation [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, "
    "coordinating_operation_bytes=%d, max_coordinating_and_primary_bytes=1000]"
)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("told", "refused"),
    [
        (error("circuit_breaking_exception", "Data too large", bytes_wanted=9_000, bytes_limit=100), True),
        (error("circuit_breaking_exception", "x", bytes_wanted=9e9, bytes_limit=8e9, durability="PERMANENT"), False),
        (error("es_rejected_execution_exception", PRESSED % 2000), True),
        (error("es_rejected_execution_exception", PRESSED % 900), False),
        (error("es_rejected_execution_exception", "queue full"), False),
    ],
)
def test_an_item_larger_than_the_limit_that_the_answer_names_is_refused(told: dict[str, Any], refused: bool) -> None:
    """By its own size alone: what fills the server's memory beside it says nothing about the record."""
    outcomes, fake = send([throttle("big", told)] * 12, ["a", "big", "c"], size=400)
    assert [isinstance(outcome, Refused) for outcome in outcomes] == [False, refused, False]
    if refused:
        assert isinstance(outcomes[1], Refused)
        assert outcomes[1].error == "too_large"
    else:
        assert len(fake.requests) == 13


@pytest.mark.usefixtures("soon")
def test_what_is_kept_to_be_sent_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "MAX_BODY_ITEMS", 2)
    monkeypatch.setattr(bulk_module, "KEPT_BYTES", 1000)
    refuse: Answer = lambda ids: items(dict.fromkeys(ids, (503, "x")), ids)  # noqa: E731
    outcomes, fake = send([refuse] * 3, [f"{number}" for number in range(20)], size=600)
    assert len(outcomes) == 20
    drawn = {key for request in fake.requests[:4] for key in request}
    assert len(drawn) <= 8
