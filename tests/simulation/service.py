"""An embedding service in the simulation: the real `Asking` before a server in memory that may do anything.

A request is a step. The server was paid for it whether its answer comes or not.
"""

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson

from models.api.asking import Asking, Control, Reply, Terms, Text, UnansweredError
from models.api.pace import Limits, Pace
from models.api.wire import vectors_in
from models.embedder import Embedding
from tests.kit.service import SERVED, cut_short, mixed_up, narrower, not_finite
from tests.kit.service import vector_of as drawn

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

S = TypeVar("S")
T = TypeVar("T")
DIMS = 8
AT_FAULT = "AT FAULT"
"""A chunk with this text is refused by the service."""
CONTROL = "control"
LONG_S = 100.0
MOST_TEXTS = 2
"""Of a request, beside the control."""
MANIFEST = replace(SERVED, dims=DIMS, name="m")
CHANGES: tuple[Callable[[list[Any]], list[Any]], ...] = (mixed_up, narrower, not_finite, cut_short)


@cache
def vector_of(text: str) -> tuple[float, ...]:
    """As it is stored in the end."""
    return tuple(float(x) for x in vectors_in(_answer([text]), 1, DIMS).vectors[0])


class Server:
    """Of one world. `paid`: how often each text was worked at."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.paid: Counter[str] = Counter()

    def answer(self, texts: list[str]) -> Reply | None:
        """None: it is lost."""
        world = self.world
        if AT_FAULT in texts:
            return Reply(status=400, body=b"")
        if world.spend("busy"):
            return Reply(status=(429, 503)[world.choices.pick(2)], body=b"")
        self.paid.update(texts)
        if world.spend("unanswered"):
            return None
        if world.spend("wrong"):
            change = CHANGES[world.choices.pick(len(CHANGES))]
            return Reply(status=200, body=_answer(texts, change if len(texts) > 1 or change != narrower else list))
        return Reply(status=200, body=_answer(texts))


class SimulatedService:
    """`Embedder` of one process."""

    dims = DIMS
    progressed = 0.0
    waits = None

    def __init__(self, process: "Process") -> None:
        self.process = process
        self.time = 0.0
        self.paid: list[str] = []
        """Texts that this process has asked for, in requests that were worked at."""
        self.paid_tokens = 0
        """Of these and of the control."""
        self.asking = Asking(
            MANIFEST,
            Control(Text(CONTROL, 1), np.asarray(vector_of(CONTROL), dtype=np.float32)),
            self,
            terms=Terms(max_concurrent=2, max_texts=MOST_TEXTS + 1),
            pace=Pace(Limits()),
            clock=self,
        )

    def encode(self, texts: Sequence[str]) -> list[Text]:
        return [Text(text, max(1, len(text.encode()))) for text in texts]

    async def on_tokenizers(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        return [work(item) for item in items]

    async def embed(self, inputs: Sequence[Text]) -> Embedding:
        return await self.asking.embed(inputs)

    async def prove(self) -> float:
        raise NotImplementedError  # each request proves itself

    async def post(self, body: bytes, _: int) -> Reply:
        """`Transport`."""
        texts = orjson.loads(body)["input"]

        def run() -> tuple[Any, Any]:
            before = self.process.world.service.paid.total()
            reply = self.process.world.service.answer(texts)
            if self.process.world.service.paid.total() > before:
                self.paid += [text for text in texts if text != CONTROL]
                self.paid_tokens += sum(1 if text == CONTROL else len(self.encode([text])[0]) for text in texts)
            return reply, hash(reply and (reply.status, reply.body))

        reply: Reply | None = await self.process.step(f"ask for {' '.join(text for text in texts)}", run)
        if reply is None:
            raise UnansweredError("lost")
        return reply

    def now(self) -> float:
        """`Clock`: time passes while somebody waits."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """A step, too: whatever may happen meanwhile happens. It is as long as any that is asked for."""
        await self.process.step("wait", lambda: (None, None))
        self.time += LONG_S


def _answer(texts: Sequence[str], change: Callable[[list[Any]], list[Any]] = list) -> bytes:
    rows = [
        {"index": n, "embedding": base64.b64encode(drawn(text, DIMS).tobytes()).decode()}
        for n, text in enumerate(texts)
    ]
    return orjson.dumps({"data": change(rows)})
