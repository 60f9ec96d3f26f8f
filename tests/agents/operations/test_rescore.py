"""The first chunks of other models, scored by the default one: no more than asked for, each once."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agents.operations import rescore
from agents.operations.rescore import Hit, Rescorer
from models.embedder import Embedding, Failure, Model
from models.memory import MemoryEmbedder
from streams.errors import AwayError
from streams.split import EncodeError, SplitRules

RULES = SplitRules(max_chars=100, overlap_chars=0, max_tokens=12)


def angle(text: str) -> tuple[float, ...]:
    """Of a text that says its angle in degrees."""
    degrees = np.deg2rad(float(text.split()[0]))
    return float(np.cos(degrees)), float(np.sin(degrees))


class Fake(MemoryEmbedder):
    """Counts the texts that it was given; refuses some."""

    manifest = SimpleNamespace(name="robust")

    def __init__(self) -> None:
        super().__init__(lambda text: (1.0, 0.0) if text == "canary" else angle(text))
        self.given = list[str]()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        if any("unknown" in text for text in texts):
            raise EncodeError("no tokens")
        return super().encode(texts)

    async def embed(self, tokens: Sequence[Any]) -> Embedding:
        self.given += [bytes(ids).decode() for ids in tokens]
        made = await super().embed(tokens)
        made.failed = {row: Failure("Bad", "bad") for row, ids in enumerate(tokens) if b"bad" in bytes(ids)}
        return made


def hits(*texts: str) -> list[Hit]:
    return [{"id": f"{text}#0", "text": text, "score": 0.99, "metadata": {}, "penstock": {}} for text in texts]


def scores(found: Sequence[Hit]) -> dict[str, float]:
    return {hit["text"]: round(hit["score"], 3) for hit in found}


def rescorer(model: MemoryEmbedder, most: int) -> Rescorer:
    return Rescorer(cast("Model", model), RULES, (2.0, 0.0), most)


def test_the_first_of_them_have_the_model_s_own_scores() -> None:
    model = Fake()
    found = asyncio.run(rescorer(model, 3).rescored(hits("60", "0", "90", "180")))
    assert scores(found) == {"60": 0.75, "0": 1.0, "90": 0.5}, "as Elasticsearch has them: half of one and the cosine"
    assert model.given == ["60", "0", "90"]


def test_each_text_is_embedded_once_and_never_more_than_asked_for() -> None:
    model = Fake()

    async def scenario() -> None:
        made = rescorer(model, 3)
        first = await made.rescored(hits("60", "0"))
        again = await made.rescored(hits("60", "0", "90", "180"))
        assert scores(again) == scores(first) | {"90": 0.5}
        assert "180" not in scores(await made.rescored(hits("180", "45", "0")))

    asyncio.run(scenario())
    assert model.given == ["60", "0", "90"]


def test_what_has_no_vector_comes_last_and_of_a_long_text_the_beginning_counts() -> None:
    model = Fake()
    long = "60 is said at the beginning of what is too long for it"
    found = asyncio.run(rescorer(model, 9).rescored(hits("0 bad", "unknown", "  ", long, "180")))
    assert scores(found) == {"0 bad": 0.0, "unknown": 0.0, "  ": 0.0, long: 0.75, "180": 0.0}
    assert all(len(text) <= RULES.max_tokens for text in model.given), model.given
    assert len(model.given) == 3


def test_nothing_is_embedded_where_there_is_nothing() -> None:
    model = Fake()
    assert asyncio.run(rescorer(model, 5).rescored([])) == []
    assert model.given == []


def test_a_model_that_does_not_answer_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Fake):
        async def embed(self, tokens: Sequence[Any]) -> Embedding:
            return cast("Embedding", await asyncio.Event().wait())

    monkeypatch.setattr(rescore, "PATIENCE_S", 0)
    with pytest.raises(AwayError, match="robust has not embedded 1 texts in 0 s: try again"):
        asyncio.run(rescorer(Silent(), 5).rescored(hits("60")))
