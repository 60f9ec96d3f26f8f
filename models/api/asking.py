"""Asks a service for vectors: as fast as its limits allow, until every text has one or is found to be at fault.

    texts ─► packs ─► a turn: `max_concurrent`, pace, breaker ─► request ─► answer, checked ─► vectors
                  ▲                                                │
                  ├── 429, 5xx, no answer, a wrong one ◄───────────┤    full jitter; as long as it asks to wait
                  └── halves ◄── the control alone is answered ◄───┘    refused, or failed again and again
                        └── one text: it is at fault

In each request rides the *control*: a text whose vector is known. Where it comes back as another one, the service has
another model now, or has mixed the answers up, and nothing of that answer is used. Where a pack is refused the control,
sent alone, tells whose fault that is: a text is blamed only while the service answers others.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from models.api.pace import Pace
from models.api.packing import halves, packed
from models.api.told import retry_after_s, used_up_s
from models.api.wire import (
    Vectored,
    WrongAnswerError,
    body_of,
    largest_answer,
    said_in,
    shown_url,
    vectors_in,
)
from models.cosines import GOLDEN, cosines
from models.embedder import Embedding, Failure
from models.manifest import SERVICE, ServiceManifest
from streams.backoff import full_jitter_s
from streams.breaker import Breaker, State
from streams.cost import Used
from streams.errors import AwayError, ModelChangedError, PenstockError
from streams.plan import Vectors
from streams.shapes import Run

FURTHER_INDEX = (
    "fill a further index: `penstock index create --model NAME`; for a route, set its model, then run `penstock index "
    "rebuild`"
)
"""What is left to do with a model that took another's place."""
FAILURES_TO_OPEN = 3
SILENT_S = 1.0
"""How long to leave it alone after a request that it did not answer in time."""
BACKOFF_S, BACKOFF_CAP_S = 0.2, 30.0
LIMITED_S, LIMITED_CAP_S = 1.0, 60.0
"""After a 429 that does not say how long to wait."""
LOOK_S = 0.5
"""So often whoever waits for a turn looks again: shares change, and what the service asks for."""
SLOW_S = 2.0
"""Waiting for the quota is told from here on."""
SILENCE_S = 30.0
"""And waiting for an answer."""
TRIES = 4
"""Failures of one pack in a row before it is divided, or a text is blamed."""
LIMITED_TRIES = 6
"""The same of answers that ask to wait: a pack may be more than the limit ever allows."""
CONTROL_TRIES = 3
"""So often in a row the control has to come back as another vector before the service has another model, and has to
be refused for what is no text's fault before everything is."""
LIMITED = (402, 429)
PASSES = (408, 425)
"""Beside 5xx: what is asked again."""
NO_TEXTS_FAULT = frozenset({*range(300, 400), 401, 404, 405, 407})
"""What is refused so is so for a key, an address or a proxy, and not for what was sent: of some replicas behind one
address, perhaps, while they are replaced."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Text:
    """What a service is sent for a text, prefix included. As long as it has tokens, or may have."""

    text: str
    tokens: int

    def __len__(self) -> int:
        return self.tokens


@dataclass(frozen=True, slots=True)
class Control:
    """A text, and its vector of length 1."""

    text: Text
    vector: Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Of one worker: requests at a time; texts and tokens a request, the control among them."""

    max_concurrent: int = 4
    max_texts: int = 32
    max_tokens: int = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer over HTTP. `headers`: their names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class UnansweredError(Exception):
    """There is no answer, or half of one. `timed_out`: the service had its time. `sent`: it may have been worked at."""

    def __init__(self, reason: str, *, timed_out: bool = False, sent: bool = True) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.sent = sent


class Transport(Protocol):
    """One way to the service."""

    async def post(self, body: bytes, most: int) -> Reply:
        """The answer, of at most so many bytes. It may have been worked at and paid although none comes.

        Raises UnansweredError.
        """


class Clock(Protocol):
    """Time, for a loop or a test."""

    def now(self) -> float:
        """Monotonic seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""


class Watch(Protocol):
    """Who is told what happens, for metrics."""

    def asked(self, outcome: str, seconds: float, tokens: int) -> None:
        """A request is over: `answered`, `refused`, `limited`, `failed` or `wrong`. `tokens`: of what was answered."""

    def retried(self, reason: str) -> None:
        """It will be asked again: a status, `wrong` or `unanswered`."""

    def breaker(self, state: State) -> None:
        """Its state is this now."""

    def held(self, seconds: float) -> None:
        """The service asks to wait for so long; 0: no more."""


class Unwatched:
    """`Watch` of nobody."""

    def asked(self, outcome: str, seconds: float, tokens: int) -> None:
        """Nothing."""

    def retried(self, reason: str) -> None:
        """Nothing."""

    def breaker(self, state: State) -> None:
        """Nothing."""

    def held(self, seconds: float) -> None:
        """Nothing."""


class LoopClock:
    """`Clock` of the running loop."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class _Refused:
    """It says no to this request."""

    status: int
    said: str


@dataclass(frozen=True, slots=True)
class _Limited:
    """It says not now."""

    status: int


@dataclass(frozen=True, slots=True)
class _Failed:
    """It did not answer, or with something that cannot be used. `other`: as another model would. `paid`: whether it is
    to be paid for, as far as can be told."""

    reason: str
    other: bool = False
    paid: bool = False


_Outcome = Vectored | _Refused | _Limited | _Failed


@dataclass(slots=True)
class _Batch:
    """What one `embed` is about."""

    texts: Sequence[Text]
    made: Embedding
    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """Of its requests, one after the other."""
    used: Used = field(default_factory=Used)
    """Of those that are paid for."""


class Asking:
    """One service, asked by one event loop. Made anew it knows nothing of what was asked before."""

    def __init__(
        self,
        manifest: ServiceManifest,
        control: Control | None,
        transport: Transport,
        *,
        terms: Terms,
        pace: Pace,
        watch: Watch | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`control`: None while it is not known; vectors of any length are taken then."""
        self.pace = pace
        self.progressed = 0.0
        self._manifest = manifest
        self._name = f"the embedding service at {shown_url(manifest.url)}"
        self._control = control
        self._transport = transport
        self._terms = terms
        self._watch = watch or Unwatched()
        self._clock = clock or LoopClock()
        self._slots = asyncio.Semaphore(terms.max_concurrent)
        self._turns = asyncio.Lock()
        self._breaker = Breaker(
            threshold=FAILURES_TO_OPEN, wait_s=lambda probes: full_jitter_s(probes + 2, BACKOFF_S, BACKOFF_CAP_S)
        )
        self._max_texts, self._max_tokens = terms.max_texts, terms.max_tokens
        """What the service takes in one request, as far as is known."""
        self._limited = 0
        """Answers in a row that asked to wait."""
        self._wanted = 0
        """Calls of `embed` and `answered` that are under way."""
        self._under_way: dict[object, float] = {}
        """When each request began that is not answered yet."""
        self._problem = "it did not answer in time"
        self._cosine = 1.0
        """Of the control, in the newest answer that had one."""
        self._between = Used()
        """What was asked for no batch: golden texts, and the control alone. The next batch pays for it."""
        self._watch.breaker(self._breaker.state)

    @property
    def waits(self) -> str | None:
        """What is waited for, for people; None while it answers, or nobody asks."""
        now = self._clock.now()
        if not self._wanted:
            return None
        if self._breaker.state != "closed":
            return f"{self._name} does not answer"
        if (seconds := self.pace.held(now)) > SLOW_S:
            return f"{self._name} asks to wait for its quota, {seconds:.0f} s more"
        silent = now - min(list(self._under_way.values()), default=now)  # of another thread
        return f"{self._name} has not answered for {silent:.0f} s" if silent > SILENCE_S else None

    async def embed(self, texts: Sequence[Text]) -> Embedding:
        """Vectors of these texts, however long that takes.

        A text that the service refuses, or that it fails at while it answers others, is in `failed`. Raises
        PenstockError where the service refuses everything, ModelChangedError where it has another model now, ValueError
        for a text over the model's limit.
        """
        made = Embedding(vectors=np.zeros((len(texts), self._manifest.dims), dtype=np.float32), runs=[])
        batch = _Batch(texts, made)
        longest = max(map(len, texts), default=0)
        if longest > self._manifest.max_tokens:
            raise ValueError(f"{longest} tokens, the model takes {self._manifest.max_tokens}")
        asked = []
        for place, text in enumerate(texts):
            if text.text.strip():
                asked.append(place)
            else:
                made.failed[place] = Failure("EmptyText", "is empty, and services take that without a word")
        room = self.pace.most_tokens(self._max_tokens) - self._control_tokens
        packs = packed([len(texts[place]) for place in asked], max_texts=self._most_texts, max_tokens=room)
        with self._wanting():
            await _all(self._pack(batch, [asked[place] for place in pack]) for pack in packs)
        made.canary = self._cosine
        made.used, self._between = batch.used.plus(self._between), Used()
        made.seconds = max(
            batch.seconds / self._terms.max_concurrent, self.pace.seconds_of(batch.requests, batch.tokens)
        )
        return made

    async def answered(self, texts: Sequence[Text], patience_s: float, *, quota_s: float = 0.0) -> Vectors:
        """Vectors of a few texts, for somebody who waits.

        A request may take as long as the transport lets it; none begins after so long, or `quota_s` where it is the
        quota that is waited for. Raises AwayError then, PenstockError for a refusal, with what the service said,
        ModelChangedError where it has another model.
        """
        begun = self._clock.now()
        lengths, until = [len(text) for text in texts], (begun + patience_s, begun + max(patience_s, quota_s))
        room = self.pace.most_tokens(self._max_tokens) - self._control_tokens
        packs = packed(lengths, max_texts=self._most_texts, max_tokens=room)
        found: dict[int, Vectors] = {}
        with self._wanting():
            for pack in packs:
                found |= zip(pack, await self._answered([texts[place] for place in pack], until), strict=True)
        return np.stack([found[place] for place in range(len(texts))])

    async def _answered(self, texts: Sequence[Text], until: tuple[float, float]) -> Vectors:
        for attempt in itertools.count():
            now = self._clock.now()
            held_s = self.pace.held(now)
            if now + max(held_s, self._breaker.left(now)) >= until[held_s > 0]:
                told = f"{self._name} does not answer as it should ({self._problem}): try again when it does"
                raise AwayError(told)
            async with self._slots:
                outcome = await self._ask(texts)
            match outcome:
                case Vectored(vectors=vectors, bad=()):
                    return vectors
                case _Refused(status) as refused if status not in NO_TEXTS_FAULT or attempt + 1 >= CONTROL_TRIES:
                    raise self._refusal(refused)
                case _Failed(other=True) if attempt + 1 >= CONTROL_TRIES:
                    raise self._other_model()
                case _Limited() | Vectored() | _Refused():
                    self._problem = _told(outcome)
            await self._clock.sleep(full_jitter_s(attempt, BACKOFF_S, BACKOFF_CAP_S))
        raise AssertionError("unreachable")

    @contextmanager
    def _wanting(self) -> Iterator[None]:
        self._wanted += 1
        try:
            yield
        finally:
            self._wanted -= 1

    @property
    def _control_tokens(self) -> int:
        return len(self._control.text) if self._control else 0

    @property
    def _most_texts(self) -> int:
        """Beside the control."""
        return max(1, self._max_texts - (1 if self._control else 0))

    async def _pack(self, batch: _Batch, members: list[int]) -> int:
        """Vectors of these into the batch. Returns how many texts turned out to be at fault."""
        failures = limited = refused = 0
        while True:
            async with self._slots:  # the control comes right behind what it decides about
                outcome = await self._ask_again([batch.texts[place] for place in members], batch)
                match outcome:
                    case Vectored(vectors=vectors, bad=bad, tokens=tokens):
                        self._place(batch, members, vectors, bad, tokens)
                        if not bad:
                            return 0
                        members = [members[row] for row in bad]
                        failures, reason = failures + 1, "wrong"
                    case _Refused(status):
                        await self._require_control(outcome)
                        if status not in NO_TEXTS_FAULT:
                            break
                        refused, reason = refused + 1, str(status)
                    case _Limited(status):
                        limited, reason = limited + 1, str(status)
                    case _Failed(reason):
                        failures += 1
                if failures >= TRIES or (limited >= LIMITED_TRIES and len(members) > 1):
                    if await self._control_answers():
                        break
                    failures = limited = 0
            self._watch.retried(reason)
            if not isinstance(outcome, _Limited):  # that one holds whoever comes next
                await self._clock.sleep(full_jitter_s(failures + refused, BACKOFF_S, BACKOFF_CAP_S))
        return await self._divide(batch, members, outcome)

    async def _divide(self, batch: _Batch, members: list[int], outcome: _Outcome) -> int:
        """Each half by itself; one text alone. Returns how many are at fault."""
        if len(members) == 1:
            return await self._alone(batch, members[0], outcome)
        parts = halves(members)
        at_fault = sum(await _all(self._pack(batch, part) for part in parts))
        if isinstance(outcome, _Refused) and not at_fault:
            self._send_less([[len(batch.texts[place]) for place in part] for part in parts])
        return at_fault

    async def _alone(self, batch: _Batch, place: int, outcome: _Outcome) -> int:
        """A last time without the control, which may be what was too much, and comes behind it.

        Returns 0, or 1 when the text is at fault: refused, or failed at again and again while the control is answered.
        """
        failures = 0
        while True:
            async with self._slots:
                match await self._ask_again([batch.texts[place]], batch, control=False):
                    case Vectored(vectors=vectors, bad=(), tokens=tokens):
                        if await self._control_answers():
                            self._place(batch, [place], vectors, (), tokens)
                            return 0
                    case _Refused(status) as refused if status not in NO_TEXTS_FAULT:
                        outcome, failures = refused, TRIES
                    case _Refused() as refused:
                        await self._require_control(refused)
                    case _Limited():
                        pass
                    case _:
                        failures += 1
                if failures >= TRIES:
                    if await self._control_answers():
                        batch.made.failed[place] = _failure(outcome)
                        return 1
                    failures = 0
            await self._clock.sleep(full_jitter_s(failures, BACKOFF_S, BACKOFF_CAP_S))

    def _send_less(self, parts: Sequence[Sequence[int]]) -> None:
        """A request was refused, and no text of it was at fault: its parts, with texts of so many tokens, were taken.

        It had too many texts, or too many tokens: of which it had more in proportion to what was allowed.
        """
        texts, tokens = max(map(len, parts)), int(self.pace.expected(max(map(sum, parts)) + self._control_tokens))
        if texts / self._most_texts >= tokens / self._max_tokens:
            less = texts < self._most_texts
            self._max_texts = min(self._max_texts, texts + 1)
        else:
            less = tokens < self._max_tokens
            self._max_tokens = min(self._max_tokens, tokens)
        if not less:
            return
        logger.warning(
            "the embedding service refused a request, and took its halves: smaller ones are sent from now on; set "
            "service.max_texts and service.max_tokens to what it takes",
            extra={"max_texts": self._max_texts, "max_tokens": self._max_tokens},
        )

    def _place(
        self, batch: _Batch, members: Sequence[int], vectors: Vectors, bad: Sequence[int], tokens: int | None
    ) -> None:
        good = [row for row in range(len(members)) if row not in bad]
        batch.made.vectors[[members[row] for row in good]] = vectors[good]
        own = sum(len(batch.texts[place]) for place in members)
        batch.made.runs.append(
            Run(
                members=[members[row] for row in good],
                width=max(len(batch.texts[place]) for place in members),
                tokens=own if tokens is None else tokens,
                budget=self._terms.max_tokens,
                padded=False,
            )
        )

    async def _require_control(self, refused: _Refused) -> None:
        """Returns when the control, sent alone, was answered. Raises PenstockError when it is refused, too."""
        if self._control is None:
            raise self._refusal(refused)
        for attempt in itertools.count():
            if await self._control_answers():
                return
            await self._clock.sleep(full_jitter_s(attempt, BACKOFF_S, BACKOFF_CAP_S))

    async def _control_answers(self) -> bool:
        """Whether the control alone is answered now, and rightly.

        Raises PenstockError when it is refused, ModelChangedError when it has another vector again and again.
        """
        if self._control is None:
            return False
        for attempt in range(CONTROL_TRIES):
            outcome = await self._ask([])
            match outcome:
                case Vectored():
                    return True
                case _Refused(status) if status in NO_TEXTS_FAULT:
                    await self._clock.sleep(full_jitter_s(attempt, BACKOFF_S, BACKOFF_CAP_S))
                case _Failed(other=True):
                    pass
                case _Refused():
                    break
                case _:
                    return False
        if isinstance(outcome, _Refused):
            raise self._refusal(outcome)
        raise self._other_model()

    async def _ask_again(self, texts: Sequence[Text], batch: _Batch, *, control: bool = True) -> _Outcome:
        """As `_ask`; once more where it is refused for what is no text's fault: of two replicas that answer in turn it
        would be the control, which comes next, that the other one answers."""
        outcome = await self._ask(texts, batch, control=control)
        if isinstance(outcome, _Refused) and outcome.status in NO_TEXTS_FAULT:
            return await self._ask(texts, batch, control=control)
        return outcome

    async def _ask(self, texts: Sequence[Text], batch: _Batch | None = None, *, control: bool = True) -> _Outcome:
        """One request for these texts, and the control, when its turn comes; and what became of it. Holds a slot."""
        at = len(texts) // 2  # in the midst of the others, so that an answer in another order shows
        beside = [self._control.text] if self._control and control else []
        sent = [*texts[:at], *beside, *texts[at:]]
        tokens = sum(map(len, sent))
        body = body_of(self._manifest, [one.text for one in sent])
        most = largest_answer(len(sent), self._dims)
        await self._turn(tokens)
        self._under_way[call := object()] = begun = self._clock.now()
        try:
            outcome = await self._request(body, most, len(sent), at if beside else None)
        finally:
            del self._under_way[call]
        self.progressed = now = self._clock.now()
        by_service = outcome.tokens if isinstance(outcome, Vectored) else None
        if by_service is not None:
            self.pace.counted(tokens, by_service)
        if isinstance(outcome, Vectored) or (isinstance(outcome, _Failed) and outcome.paid):
            used = Used(requests=1, tokens=round(self.pace.expected(tokens)) if by_service is None else by_service)
            if batch is None:
                self._between = self._between.plus(used)
            else:
                batch.used = batch.used.plus(used)
        if batch is not None:
            batch.requests += 1
            batch.tokens += tokens
            batch.seconds += now - begun
        answered = (tokens if by_service is None else by_service) if isinstance(outcome, Vectored) else 0
        self._watch.asked(_kind(outcome), now - begun, answered)
        return outcome

    async def _request(self, body: bytes, most: int, count: int, control_at: int | None) -> _Outcome:
        try:
            reply = await self._transport.post(body, most)
        except UnansweredError as exc:
            self._problem = str(exc)
            self._fails(exc.timed_out * SILENT_S)
            return _Failed("unanswered", paid=exc.sent)
        except BaseException:
            self._breaker.abandoned()
            raise
        return self._read(reply, count, control_at)

    async def _turn(self, tokens: int) -> None:
        """Wait until a request with so many tokens may go. In the order of asking."""
        async with self._turns:
            while wait_s := self.pace.ask(now := self._clock.now(), tokens) or self._breaker.ask(now):
                if self.pace.ask(now, tokens):  # what waits for its turn does what it is told
                    self.progressed = now
                await self._clock.sleep(min(wait_s, LOOK_S))
            self.pace.took(now, tokens)
            self._watch.breaker(self._breaker.state)

    @property
    def _dims(self) -> int | None:
        """Of the vectors, where that is known."""
        return self._manifest.dims if self._control else None

    def _read(self, reply: Reply, count: int, control_at: int | None) -> _Outcome:
        """What an answer means, and what it asks for. `control_at`: its place in the request, if it is in it."""
        now = self._clock.now()
        if (wait_s := used_up_s(reply.headers, told_at := datetime.now(UTC))) > 0:
            self._hold(now, wait_s)
        asks_s = retry_after_s(reply.headers, told_at)
        if reply.status in LIMITED:
            self._succeeds()  # it answers
            self._limited += 1
            jitter_s = full_jitter_s(0, LIMITED_S, LIMITED_CAP_S)
            self._hold(
                now,
                asks_s + jitter_s if asks_s is not None else full_jitter_s(self._limited, LIMITED_S, LIMITED_CAP_S),
            )
            return _Limited(reply.status)
        if reply.status >= 500 or reply.status in PASSES:
            self._problem = f"{reply.status} {said_in(reply.body)}"
            self._fails(asks_s or 0.0)
            return _Failed(str(reply.status))
        if not 200 <= reply.status < 300:
            self._succeeds()
            return _Refused(reply.status, said_in(reply.body))
        try:
            found = vectors_in(reply.body, count, self._dims)
            if self._control and control_at is not None:
                found, self._cosine = _without(found, control_at, self._control)
        except WrongAnswerError as exc:
            self._problem = str(exc)
            if exc.cosine is not None:
                self._cosine = exc.cosine
                self._succeeds()
            else:
                self._fails()
            return _Failed("wrong", other=exc.cosine is not None, paid=True)
        self._limited = 0
        self._watch.held(self.pace.held(now))
        self._succeeds()
        return found

    def _hold(self, now: float, seconds: float) -> None:
        if seconds > SLOW_S and not self.pace.held(now):
            logger.info("the embedding service asks to wait for its quota", extra={"seconds": round(seconds, 1)})
        self.pace.hold(now + seconds)
        self._watch.held(self.pace.held(now))

    def _succeeds(self) -> None:
        if self._breaker.state != "closed":
            logger.info("the embedding service answers again")
        self._breaker.succeeded()
        self._watch.breaker(self._breaker.state)

    def _fails(self, at_least_s: float = 0.0) -> None:
        was = self._breaker.state
        self._breaker.failed(self._clock.now(), at_least_s=at_least_s)
        if was == "closed" and self._breaker.state != "closed":
            told = f"{self._name} does not answer as it should: what needs vectors waits meanwhile"
            logger.warning(told, extra={"reason": self._problem})
        self._watch.breaker(self._breaker.state)

    def _refusal(self, refused: _Refused) -> PenstockError:
        """What to say where it refuses everything."""
        what = f"{self._name} answers {refused.status}: {refused.said or 'without a word'}"
        if refused.status in (401, 403):
            return PenstockError(
                f"{what}; is the key in service.key_file right, and may it use {self._manifest.model}?"
            )
        if refused.status in (404, 405) or refused.status < 400:
            return PenstockError(f"{what}; are --url and --model of `penstock model add` right?")
        return PenstockError(
            f"{what}; is that more than it takes at once (service.max_texts, service.max_tokens), or another model's?"
        )

    def _other_model(self) -> ModelChangedError:
        return ModelChangedError(
            f"{self._name} has another model now than when {self._manifest.name} was added ({self._problem}): nothing "
            f"of it was written. Have it serve {self._manifest.model} as it was; or add the new one under another name "
            f"with `penstock model add`, and {FURTHER_INDEX}",
            self._cosine,
        )


def _without(found: Vectored, at: int, control: Control) -> tuple[Vectored, float]:
    """The vectors of the texts alone, and the cosine of the control's to the one that is known.

    Raises WrongAnswerError when it is another one.
    """
    cosine = float(cosines(found.vectors[at], control.vector))
    if cosine < GOLDEN[SERVICE]:
        raise WrongAnswerError(
            f"a text whose vector is known got another one (cosine {cosine:.4f}, needed {GOLDEN[SERVICE]})",
            cosine=None if at in found.bad else cosine,
        )
    bad = tuple(row - (row > at) for row in found.bad)
    return Vectored(vectors=np.delete(found.vectors, at, axis=0), bad=bad, tokens=found.tokens), cosine


def _kind(outcome: _Outcome) -> str:
    match outcome:
        case Vectored():
            return "answered"
        case _Refused():
            return "refused"
        case _Limited():
            return "limited"
        case _Failed("wrong"):
            return "wrong"
        case _:
            return "failed"


def _told(outcome: _Outcome) -> str:
    match outcome:
        case _Limited(status):
            return f"it answers {status}: its quota is used up"
        case Vectored():
            return "it gave a vector that is zero or not finite"
        case _Failed(reason):
            return reason
        case _Refused(status, said):
            return f"{status} {said}"


def _failure(outcome: _Outcome) -> Failure:
    """Why a text has no vector, after its name."""
    match outcome:
        case _Refused(status, said):
            return Failure("RefusedByService", f"is refused by the embedding service: {status} {said}".rstrip())
        case Vectored():
            return Failure("BadVector", "has a zero or non-finite vector from the embedding service")
        case _:
            return Failure(
                "FailsAtService", f"is not answered by the embedding service, which answers others: {_told(outcome)}"
            )


async def _all(works: Iterable[Awaitable[int]]) -> list[int]:
    """Side by side; when one fails the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
