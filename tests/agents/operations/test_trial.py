"""A model tried on documents: tokens, seconds, each chunk's cosine, and a faster model's chunks by a better one's."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pytest

from agents.operations.trial import NOTHING, Trial
from models.embedder import Embedding, Failure, Model
from models.memory import MemoryEmbedder
from streams.cost import FREE, Price, nano
from streams.errors import ConfigError
from streams.record import Document, GivenChunk, Record
from streams.split import SplitRules

QUERIES = {"q1": "a", "q2": "b"}


class Fake(MemoryEmbedder):
    """A vector is how many of `a` and of `b` a text has; a token takes a second."""

    def __init__(self, name: str) -> None:
        super().__init__(
            lambda text: (1.0, 0.0) if text == "canary" else (text.count("a") + 0.01, text.count("b") + 0.0)
        )
        self.manifest = type("Manifest", (), {"name": name})()

    async def embed_query(self, text: str) -> list[float]:
        if len(text) > 10:
            raise ValueError("it has 11 tokens, the model takes 10")
        return list(self.model(text))

    async def embed(self, tokens: Sequence[Any]) -> Embedding:
        made = await super().embed(tokens)
        made.busy_s = float(sum(map(len, tokens)))
        made.failed = {row: Failure("Bad", "bad") for row, ids in enumerate(tokens) if b"!" in bytes(ids)}
        return made


def document(key: str, **content: Any) -> Document:
    record = Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=key.encode(), value=b"")
    return Document(id=key, record=record, content_hash="", **content)


def tried(name: str, max_tokens: int, documents: Sequence[Document]) -> Trial:
    rules = SplitRules(max_chars=20, overlap_chars=0, max_tokens=max_tokens)
    made = Trial(cast("Model", Fake(name)), Price(million_tokens=nano(Decimal(10**6))), rules, QUERIES, len(documents))

    async def scenario() -> None:
        await made.ask(lambda _: None)
        for place in range(0, len(documents), 2):
            await made.embed({place + near: one for near, one in enumerate(documents[place : place + 2])})

    asyncio.run(scenario())
    return made


DOCUMENTS = [
    document("one", text="aaaa aaaa bbbb bbbb"),
    document("two", text="bbbb aaaa"),
    document("three", chunks=(GivenChunk(text="aaaa", metadata={}), GivenChunk(text="bbb", metadata={}))),
    document("bad", text="aaaa!"),
    document("refused", chunks=(GivenChunk(text="a" * 15, metadata={}), GivenChunk(text="b" * 15, metadata={}))),
]


def test_a_document_has_the_score_of_its_nearest_chunk_and_the_tokens_of_all() -> None:
    found = tried("robust", 10, DOCUMENTS)
    measured = found.measured
    assert found.refused == {4}
    assert measured.tokens.tolist() == measured.seconds.tolist() == measured.money.tolist() == [18, 9, 7, 5, 0]
    assert measured.scores[0] == pytest.approx([1, np.cos(np.pi / 4), 1, NOTHING, NOTHING], abs=0.01)
    assert measured.scores[1] == pytest.approx([1, np.cos(np.pi / 4), 1, NOTHING, NOTHING], abs=0.01)
    assert found.chunk == pytest.approx((39 / 6, 39 / 6, 39 / 6))


def test_chunks_of_one_model_are_scored_by_the_beginning_that_the_other_one_made_of_them() -> None:
    robust, fast = tried("robust", 10, DOCUMENTS), tried("fast", 20, DOCUMENTS)
    again = fast.rescored_by(robust, 7)
    assert (again.most, again.owners.tolist()) == (7, [0, 1, 2, 2, 3, 4, 4])
    half = np.cos(np.pi / 4)
    assert again.fast[0] == pytest.approx([half, half, 1, 0, NOTHING, 1, 0], abs=0.01)
    # the first document is two chunks of the robust model's, and the first of them is about `a` alone
    assert again.robust[0] == pytest.approx([1, half, 1, 0, NOTHING, NOTHING, NOTHING], abs=0.01)
    assert again.robust[1] == pytest.approx([0, half, 0, 1, NOTHING, NOTHING, NOTHING], abs=0.01)


def test_documents_that_nobody_can_split_are_scored_by_nothing() -> None:
    refused = [DOCUMENTS[4]]
    robust, fast = tried("robust", 10, refused), tried("fast", 20, refused)
    assert (fast.rescored_by(robust, 1).robust == NOTHING).all()
    assert robust.rescored_by(fast, 1).owners.size == 0
    assert robust.chunk == (0, 0, 0)


def test_a_question_that_is_too_long_is_named() -> None:
    made = Trial(
        cast("Model", Fake("robust")),
        FREE,
        SplitRules(max_chars=20, overlap_chars=0, max_tokens=10),
        {"q9": "a" * 11},
        1,
    )
    with pytest.raises(ConfigError, match="question q9 is too long for robust: it has 11 tokens"):
        asyncio.run(made.ask(lambda _: None))
