"""Stored vectors are sampled over all widths, and where one is wrong, all of its width are looked at."""

import asyncio
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agents.indexing.assembly import Assembly
from agents.indexing.preflight import Checked
from agents.operations import vectors as module
from agents.operations.vectors import StoredVectors
from streams.examine import evenly
from streams.plan import FieldNames, Space

COMMON, RARE = 120, 30
"""Tokens of the usual texts, and of the few whose vectors are wrong."""


class FakeEmbedder:
    """A token a character; the vector is the number of tokens, and one."""

    def __init__(self, precision: str) -> None:
        self.manifest = SimpleNamespace(max_tokens=256, contract=lambda: {"precision": precision})

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[1] * len(text) for text in texts]

    async def on_tokenizers(self, work: Any, items: Sequence[Any]) -> list[Any]:
        return [work(item) for item in items]

    async def embed(self, tokens: Sequence[Any]) -> Any:
        return SimpleNamespace(vectors=np.asarray([vector(len(ids)) for ids in tokens], dtype=np.float32))


def vector(tokens: int) -> list[float]:
    return [float(tokens), 1.0, 0.0]


def off_by(cosine: float, tokens: int) -> list[float]:
    length = (tokens**2 + 1) ** 0.5
    return [tokens * cosine, cosine, length * (1 - cosine**2) ** 0.5]


def stored(rows: dict[str, dict[str, Any]], precision: str, monkeypatch: pytest.MonkeyPatch) -> StoredVectors:
    """An index of these rows: `text` and `vector` by id."""

    async def get(_: str, ids: Sequence[str], __: str) -> list[Any]:
        return [{"_id": key, "found": True, "_source": rows[key] | {"metadata": {"doc_id": key}}} for key in ids]

    async def scan(*_: Any) -> Any:
        hits = [{"_id": key, "_source": {"text": row["text"]}} for key, row in rows.items()]
        for start in range(0, len(hits), 500):
            yield hits[start : start + 500], len(hits)

    async def search(*, size: int, **_: Any) -> Any:
        keys = random.Random(3).sample(sorted(rows), min(size, len(rows)))
        return {"hits": {"hits": [{"_id": key, "_source": {"text": rows[key]["text"]}} for key in keys]}}

    monkeypatch.setattr(module, "scan", scan)
    model = FakeEmbedder(precision)
    parts = SimpleNamespace(ways=[SimpleNamespace(embedder=model, space=Space(model="m", dims=2, names=FieldNames()))])
    bench = SimpleNamespace(parts=parts, client=SimpleNamespace(search=search), store=SimpleNamespace(get=get))
    checked = SimpleNamespace(models=[model], identity=SimpleNamespace(index="i", write_alias="i-write"))
    return StoredVectors(cast(Checked, checked), cast(Assembly, bench), 0)


def test_all_vectors_of_a_width_that_is_wrong_are_found_by_a_small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 of 20 texts has a width whose kernel was wrong; 40 of 2,000 chunks are embedded again at first."""
    rows = {f"d-{i}": {"text": "x" * COMMON, "vector": vector(COMMON)} for i in range(1900)}
    rows |= {f"r-{i}": {"text": "x" * RARE, "vector": off_by(0.8, RARE)} for i in range(100)}
    found = stored(rows, "float", monkeypatch)
    asyncio.run(found.check(lambda *_: None, 40))
    assert found.damaged == {f"r-{i}" for i in range(100)}
    assert found.widths == {32: (100, 100), COMMON: (found.seen - 100, 0)}
    assert found.seen <= 140, "nothing of the other widths is embedded beyond the sample"
    findings = asyncio.run(found.still_wrong())
    assert {finding.kind for finding in findings} == {"wrong vector"}
    assert findings[0].what == "not its text's: cosine 0.800, needed 0.999, at 30 tokens"


@pytest.mark.parametrize(
    ("precision", "cosine", "wrong"), [("float", 0.9995, 0), ("float", 0.998, 1), ("int8", 0.996, 0), ("int8", 0.97, 1)]
)
def test_what_counts_as_wrong_depends_on_the_precision(
    precision: str, cosine: float, wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stored({"d": {"text": "x" * 9, "vector": off_by(cosine, 9)}}, precision, monkeypatch)
    asyncio.run(found.check(lambda *_: None, 10))
    assert len(found.damaged) == wrong


def test_what_no_model_made_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, dict[str, Any]] = {
        "long": {"text": "x" * 300, "vector": off_by(0.5, 300)},
        "zero": {"text": "x" * 9, "vector": [0.0, 0.0, 0.0]},
        "narrow": {"text": "x" * 9, "vector": [1.0]},
        "none": {"text": "x" * 9},
    }
    found = stored(rows, "float", monkeypatch)
    asyncio.run(found.check(lambda *_: None, 10))
    assert found.damaged == {"long", "zero", "narrow", "none"}


def test_nothing_is_sampled_when_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = stored({}, "float", monkeypatch)
    asyncio.run(found.check(lambda *_: None, 0))
    assert found.seen == 0


def test_a_sample_is_even_over_the_classes() -> None:
    rows = [(f"a{i}", 8) for i in range(50)] + [("b0", 16), ("b1", 16)] + [(f"c{i}", 256) for i in range(9)]
    found = evenly(rows, 9)
    assert sorted(found) == ["a0", "a1", "a2", "a3", "b0", "b1", "c0", "c1", "c2"]
    assert evenly(rows, 1000) != found
    assert sorted(evenly(rows, 1000)) == sorted(item for item, _ in rows)
