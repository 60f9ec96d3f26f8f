"""Packs that are refused, fail, or come back wrong: only what is at fault has no vector."""

import asyncio
import base64
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.api.asking import (
    CONTROL_TRIES,
    TRIES,
    Asking,
    Control,
    Reply,
    Terms,
    Text,
    UnansweredError,
    Unwatched,
)
from models.api.pace import Limits, Pace
from models.embedder import Embedding
from streams.errors import AwayError, PenstockError, RefusedError
from tests.kit.service import SERVED, mixed_up, narrower, not_finite, vector_of

DIMS = 8
CONTROL = "Hello, world."
MANIFEST = replace(SERVED, dims=DIMS, url=f"{SERVED.url}?api-version=1")
Answer = Callable[[list[str]], Reply]


class ManualClock:
    """Time passes while somebody waits for it, and then only."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


class Server:
    """`answer` decides by the texts; `paid` counts those that were answered, `asked` the requests."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []
        self.paid: Counter[str] = Counter()

    async def post(self, body: bytes, most: int) -> Reply:
        texts = orjson.loads(body)["input"]
        self.asked.append(texts)
        await asyncio.sleep(0)
        reply = self.answer(texts)
        assert len(reply.body) <= most
        if reply.status == 200:
            self.paid.update(texts)
        return reply


def good(texts: Sequence[str], change: Callable[[list[Any]], list[Any]] = list) -> Reply:
    rows = [
        {"index": n, "embedding": base64.b64encode(vector_of(text, DIMS).tobytes()).decode()}
        for n, text in enumerate(texts)
    ]
    return Reply(
        status=200, body=orjson.dumps({"data": change(rows), "usage": {"prompt_tokens": sum(map(len, texts))}})
    )


def error(status: int, **headers: str) -> Reply:
    return Reply(status=status, body=b'{"error": {"message": "no"}}', headers=headers)


class Seen(Unwatched):
    """Outcomes of requests, and reasons for others."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()

    def asked(self, outcome: str, seconds: float, tokens: int) -> None:
        self.outcomes[outcome] += 1

    def retried(self, reason: str) -> None:
        self.retries[reason] += 1


@pytest.fixture(autouse=True)
def _loop() -> Iterator[None]:
    with asyncio.Runner() as runner:
        Case.run = runner.run
        yield


class Case:
    """An asking of a server that answers so. `run`: in the test's own event loop."""

    run: Callable[[Any], Any]

    def __init__(self, answer: Answer, terms: Terms | None = None, limits: Limits | None = None) -> None:
        self.server, self.clock, self.seen = Server(answer), ManualClock(), Seen()
        self.asking = Asking(
            MANIFEST,
            Control(Text(CONTROL, 4), vector_of(CONTROL, DIMS)),
            self.server,
            terms=terms or Terms(),
            pace=Pace(limits or Limits()),
            watch=self.seen,
            clock=self.clock,
        )

    def embed(self, texts: Sequence[str]) -> Embedding:
        made: Embedding = Case.run(self.asking.embed([Text(text, max(1, len(text))) for text in texts]))
        return made


def require_right(made: Embedding, texts: Sequence[str], at_fault: Sequence[str] = ()) -> None:
    """Each text has its own vector, but those."""
    assert {texts[place] for place in made.failed} == set(at_fault)
    for place, text in enumerate(texts):
        wanted = np.zeros(DIMS) if text in at_fault else vector_of(text, DIMS)
        assert np.allclose(made.vectors[place], wanted, atol=1e-6), text


def texts_of(count: int) -> list[str]:
    return [f"text {number} {'x' * (number % 7)}" for number in range(count)]


def test_every_request_carries_the_control_and_no_more_than_is_allowed() -> None:
    case = Case(good, Terms(max_texts=8, max_tokens=60))
    texts = texts_of(50)
    require_right(case.embed(texts), texts)
    for asked in case.server.asked:
        assert asked.count(CONTROL) == 1
        assert len(asked) <= 8
        assert len(asked) == 2 or sum(map(len, asked)) - len(CONTROL) + 4 <= 60
    assert all(case.server.paid[text] == 1 for text in texts)
    assert sum(run.tokens for run in case.embed(["a"]).runs) == 1 + len(CONTROL), (
        "as the service counts, the control among them"
    )


@settings(max_examples=60)
@given(st.sets(st.integers(0, 39), max_size=6), st.sampled_from([400, 413, 422, 403, 500]))
def test_only_what_is_at_fault_has_no_vector(bad: set[int], status: int) -> None:
    """Whether it is refused, or the service fails at it each time."""
    texts = texts_of(40)
    at_fault = {texts[number] for number in bad}
    case = Case(lambda asked: error(status) if at_fault & set(asked) else good(asked))
    made = case.embed(texts)
    require_right(made, texts, sorted(at_fault))
    names = {"RefusedByService"} if status < 500 else {"FailsAtService"}
    assert {failure.error for failure in made.failed.values()} == (names if bad else set())
    assert all(case.server.paid[text] == 1 for text in texts if text not in at_fault), (
        "what was answered is not asked again"
    )
    assert case.asking.waits is None


def test_a_service_that_refuses_everything_is_nobodys_fault() -> None:
    """A key that was revoked, a model that is gone: no document is at fault, and few requests tell so."""
    for status, part in ((401, "service.key_file"), (404, "--url and --model"), (400, "service.max_texts")):
        case = Case(lambda _, status=status: error(status))  # type: ignore[misc]
        with pytest.raises(PenstockError, match=part) as caught:
            case.embed(texts_of(200))
        assert "api-version" not in str(caught.value)
        assert len(case.server.asked) <= 30


@pytest.mark.parametrize("status", [307, 401, 404, 405])
def test_a_refusal_that_no_text_can_be_the_reason_of_costs_another_request(status: int) -> None:
    """One of two replicas has the old key still, or not the model yet: no text is at fault, no request too large."""
    numbers = itertools.count()
    case = Case(
        lambda asked: error(status) if next(numbers) % 2 == 0 else good(asked), Terms(max_texts=9, max_concurrent=1)
    )
    for texts in (texts_of(40), ["alone"]):
        require_right(case.embed(texts), texts)
    largest = max(map(len, case.server.asked[-30:]))
    case.server.answer = good
    case.server.asked.clear()
    require_right(case.embed(texts_of(16)), texts_of(16))
    assert max(map(len, case.server.asked)) == largest == 9, "none is smaller than before"


def test_a_request_that_is_too_large_is_divided_once_and_smaller_ones_follow() -> None:
    case = Case(lambda asked: error(413) if len(asked) > 9 else good(asked), Terms(max_texts=32))
    texts = texts_of(300)
    require_right(case.embed(texts), texts)
    case.server.asked.clear()
    require_right(case.embed(texts), texts)
    assert all(len(asked) <= 9 for asked in case.server.asked), "it is known by now"


def test_a_request_with_too_many_tokens_is_divided_and_shorter_ones_follow() -> None:
    case = Case(lambda asked: error(413) if sum(map(len, asked)) > 400 else good(asked), Terms(max_tokens=2000))
    texts = [f"{number:03d}" + "x" * 147 for number in range(60)]
    require_right(case.embed(texts), texts)
    case.server.asked.clear()
    require_right(case.embed(texts), texts)
    assert all(sum(map(len, asked)) <= 400 for asked in case.server.asked)
    case.server.asked.clear()
    require_right(case.embed(short := texts_of(31)), short)
    assert max(map(len, case.server.asked)) > 10, "short texts still go together"


def test_a_text_that_is_taken_alone_and_not_beside_the_control_is_not_at_fault() -> None:
    long = "x" * 900
    case = Case(lambda asked: error(413) if sum(map(len, asked)) > 905 else good(asked))
    require_right(case.embed([long, "short"]), [long, "short"])


@pytest.mark.parametrize("change", [mixed_up, narrower, not_finite, lambda data: data[:-1], lambda _: []])
def test_answers_that_are_wrong_now_and_then_cost_another_request(change: Callable[[list[Any]], list[Any]]) -> None:
    numbers = itertools.count()

    def answer(asked: list[str]) -> Reply:
        return good(asked, change if next(numbers) % 3 == 0 else list)

    case = Case(answer, Terms(max_texts=9))
    texts = texts_of(60)
    require_right(case.embed(texts), texts)
    assert case.seen.retries["wrong"] > 0


def test_a_text_with_no_vector_but_nan_is_at_fault() -> None:
    def answer(asked: list[str]) -> Reply:
        rows = orjson.loads(good(asked).body)["data"]
        nan = base64.b64encode(np.full(DIMS, np.nan, dtype="<f4").tobytes()).decode()
        for row in rows:
            if asked[row["index"]] == "bad":
                row["embedding"] = nan
        return Reply(status=200, body=orjson.dumps({"data": rows}))

    case = Case(answer)
    texts = [*texts_of(20), "bad", *texts_of(5)]
    made = case.embed(texts)
    require_right(made, texts, ["bad"])
    assert made.failed[20].error == "BadVector"
    assert all(case.server.paid[text] <= 2 for text in texts_of(20)), "the others are kept"


def test_another_model_is_refused_and_nothing_of_it_is_used() -> None:
    def answer(asked: list[str]) -> Reply:
        rows = [{"index": n, "embedding": vector_of(text, DIMS, "another").tolist()} for n, text in enumerate(asked)]
        return Reply(status=200, body=orjson.dumps({"data": rows}))

    for served in (answer, lambda asked: good(asked, narrower)):
        case = Case(served)
        with pytest.raises(RefusedError, match="has another model now"):
            case.embed(["a text"])
        assert len(case.server.asked) == TRIES + CONTROL_TRIES


def test_one_of_two_servers_behind_an_address_with_another_model_is_never_believed() -> None:
    """A replica that was not updated, or was updated early: what it answers is asked of the other one."""
    numbers = itertools.count()

    def answer(asked: list[str]) -> Reply:
        if next(numbers) % 2:
            return good(asked)
        rows = [{"index": n, "embedding": vector_of(text, DIMS, "x").tolist()} for n, text in enumerate(asked)]
        return Reply(status=200, body=orjson.dumps({"data": rows}))

    case = Case(answer, Terms(max_texts=5, max_concurrent=1))
    texts = texts_of(40)
    require_right(case.embed(texts), texts)


def test_what_is_away_is_waited_for_by_one_probe_at_a_time() -> None:
    left = [40]

    def answer(asked: list[str]) -> Reply:
        left[0] -= 1
        if left[0] > 0:
            raise UnansweredError("ConnectionRefusedError: no")
        return good(asked)

    case = Case(answer)
    texts = texts_of(200)
    told = set[str | None]()

    async def watch() -> None:
        embedding = asyncio.ensure_future(case.asking.embed([Text(text, 5) for text in texts]))
        while not embedding.done():
            told.add(case.asking.waits)
            await asyncio.sleep(0)
        require_right(embedding.result(), texts)

    Case.run(watch())
    assert "the embedding service at https://example.org/v1/embeddings does not answer" in told
    assert case.asking.waits is None
    assert len(case.server.asked) < 40 + 200 / 31 + 5
    assert case.clock.time > 1000 + 60, "ever more seldom"


def test_a_quota_that_is_used_up_is_waited_for_and_told() -> None:
    answers: Iterator[Reply] = iter([error(429, **{"retry-after": "120"}), error(429, **{"retry-after-ms": "50"})])
    case = Case(lambda asked: next(answers, None) or good(asked))
    told = set[str | None]()

    async def watch() -> None:
        embedding = asyncio.ensure_future(case.asking.embed([Text("a", 1)]))
        while not embedding.done():
            told.add(case.asking.waits)
            await asyncio.sleep(0)
        require_right(embedding.result(), ["a"])

    Case.run(watch())
    assert any(reason and "asks to wait for its quota, 1" in reason for reason in told), told
    assert 1120 < case.clock.time < 1130
    assert case.asking.progressed > 1100, "a wait for a turn is no stall"
    assert (case.seen.outcomes["limited"], case.seen.retries["429"]) == (2, 2)


def test_a_limit_of_which_nothing_is_left_is_not_run_into() -> None:
    told = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}
    answers = iter([told])
    case = Case(lambda asked: replace(good(asked), headers=next(answers, {})), Terms(max_texts=2, max_concurrent=1))
    require_right(case.embed(["a", "b", "c"]), ["a", "b", "c"])
    assert 1090 <= case.clock.time < 1092
    assert case.seen.outcomes["limited"] == 0


def test_what_never_fits_the_quota_is_divided() -> None:
    case = Case(lambda asked: error(429) if len(asked) > 5 else good(asked))
    texts = texts_of(20)
    require_right(case.embed(texts), texts)


def test_the_limits_are_kept() -> None:
    case = Case(good, Terms(max_texts=11), Limits(requests_per_minute=60))
    texts = texts_of(1000)
    made = case.embed(texts)
    require_right(made, texts)
    assert case.clock.time - 1000 > 100 / 60 * 60 * 0.97
    assert made.seconds == pytest.approx(100 / 0.98, rel=0.01), "as long as it takes by the limits"


def test_no_more_requests_at_a_time_than_asked_for() -> None:
    at_once = most = 0

    class Slow(Server):
        async def post(self, body: bytes, most_bytes: int) -> Reply:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            for _ in range(5):
                await asyncio.sleep(0)
            at_once -= 1
            return await super().post(body, most_bytes)

    case = Case(good, Terms(max_concurrent=3, max_texts=2))
    case.asking._transport = Slow(good)
    require_right(case.embed(texts_of(30)), texts_of(30))
    assert most == 3


def test_texts_over_the_limit_are_an_error_and_empty_ones_are_at_fault() -> None:
    case = Case(good)
    with pytest.raises(ValueError, match="1001 tokens, the model takes 1000"):
        case.embed(["x" * 1001])
    made = case.embed(["a", "  \n", "b"])
    assert {place: failure.error for place, failure in made.failed.items()} == {1: "EmptyText"}
    assert all("  \n" not in asked for asked in case.server.asked)


def test_known_texts_are_spread_over_the_quota_as_all_others_are() -> None:
    """All in one request made the batches before and behind it wait for it: a fiftieth of the quota."""
    case = Case(good, limits=Limits(tokens_per_minute=6000))
    texts = texts_of(9)
    made = Case.run(case.asking.answered([Text(text, 10) for text in texts], 60))
    assert np.allclose(made, [vector_of(text, DIMS) for text in texts], atol=1e-6)
    assert {len(asked) for asked in case.server.asked} == {3, 2}, "two each, and what is known of all"


def test_whoever_waits_is_told_what_is_wrong() -> None:
    def ask(answer: Answer) -> Any:
        case = Case(answer, Terms(max_texts=2))
        try:
            return Case.run(case.asking.answered([Text("a", 1), Text("b", 1)], 5))
        finally:
            assert case.clock.time < 1060

    assert np.allclose(ask(good), [vector_of("a", DIMS), vector_of("b", DIMS)], atol=1e-6)
    with pytest.raises(AwayError, match="503 no"):
        ask(lambda _: error(503))
    with pytest.raises(AwayError, match="503 no"):
        ask(lambda _: error(503, **{"retry-after": "3600"}))
    with pytest.raises(AwayError, match="its quota is used up"):
        ask(lambda _: error(429, **{"retry-after": "3600"}))
    with pytest.raises(PenstockError, match="service.key_file"):
        ask(lambda _: error(401))
    with pytest.raises(RefusedError, match="another model"):
        ask(lambda asked: good(asked, narrower))


def test_one_that_fails_for_good_ends_the_others() -> None:
    case = Case(lambda _: error(401), Terms(max_texts=2, max_concurrent=1))
    with pytest.raises(PenstockError):
        case.embed(texts_of(100))
    assert len(case.server.asked) < 10


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.integers(1, 60))
def test_whatever_a_service_does_every_text_gets_its_own_vector_or_is_at_fault(seed: int, count: int) -> None:
    """Any mixture of failures that pass, and of texts that never do."""
    rng = random.Random(seed)
    texts = texts_of(count)
    at_fault = {text for text in texts if rng.random() < 0.05}
    bad_answers: list[Answer] = [
        lambda _: error(rng.choice([429, 500, 502, 503, 408]), **({"retry-after": "3"} if rng.random() < 0.3 else {})),
        lambda asked: good(asked, mixed_up),
        lambda asked: good(asked, narrower if len(asked) > 1 else list),  # again and again it is another model
        lambda asked: good(asked, not_finite),
        lambda asked: Reply(status=200, body=good(asked).body[:-9]),
    ]

    def answer(asked: list[str]) -> Reply:
        if at_fault & set(asked):
            return error(400)
        if rng.random() < 0.25:
            if rng.random() < 0.3:
                raise UnansweredError("gone", timed_out=rng.random() < 0.5)
            return rng.choice(bad_answers)(asked)
        return good(asked)

    terms = Terms(max_concurrent=rng.randint(1, 5), max_texts=rng.randint(2, 40))
    require_right(Case(answer, terms).embed(texts), texts, sorted(at_fault))


def test_the_same_manifest_with_another_key_header_asks_the_same() -> None:
    assert replace(MANIFEST, key_header="api-key").contract() == MANIFEST.contract()
