"""The oracle finds every kind of damage, each alone: an oracle that finds nothing proves nothing."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from streams.identity import version
from streams.plan import chunk_hash
from streams.record import Record
from streams.split import SplitRules
from streams.verify import compare, expected_of

RULES = SplitRules(max_chars=100, overlap_chars=0, max_tokens=10**6)
Index = tuple[dict[str, Any], dict[str, Any], list[tuple[int, int]]]


def record(offset: int, key: str, value: object) -> Record:
    raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return Record(topic="t", partition=0, offset=offset, timestamp_ms=0, key=key.encode(), value=raw)


RECORDS = [
    record(0, "a", {"chunks": [{"text": "old"}, {"text": "old too"}]}),
    record(1, "a", {"chunks": [{"text": "new"}]}),
    record(2, "b", {"text": "gone"}),
    record(3, "b", None),
    record(4, "c", b"not JSON"),
]


def row(doc: str, chunk: int, offset: int, text: str | None) -> dict[str, Any]:
    metadata = {"doc_id": doc, "chunk": chunk}
    if text is None:
        return {"metadata": metadata, "penstock": {"stub": True}, "_version": version(0, offset)}
    penstock = {"stub": False, "chunk_hash": chunk_hash(text)}
    return {"text": text, "metadata": metadata, "penstock": penstock, "_version": version(0, offset)}


def index() -> Index:
    """As it should be."""
    chunks = {"a#0": row("a", 0, 1, "new"), "a#1": row("a", 1, 1, None), "b#0": row("b", 0, 3, None)}
    registry = {
        "a": {"state": "done", "n": 1, "hi": 1, "version": version(0, 1)},
        "b": {"state": "done", "n": 0, "hi": 0, "version": version(0, 3)},
    }
    return chunks, registry, [(0, 4)]


def kinds(made: Index) -> list[str]:
    expected = expected_of(RECORDS, RULES, lambda texts: [1] * len(texts))
    return [finding.kind for finding in compare(expected, *made)]


def test_a_true_index_has_no_findings() -> None:
    assert kinds(index()) == []


DAMAGE: list[tuple[str, Callable[[Index], object]]] = [
    ("missing", lambda made: made[0].pop("a#0")),
    ("orphan", lambda made: made[0].update({"b#0": row("b", 0, 3, "gone")})),
    ("stale", lambda made: made[0]["a#0"].update(text="old")),
    ("hash", lambda made: made[0]["a#0"]["penstock"].update(chunk_hash="x")),
    ("offsets", lambda made: made[0]["a#0"]["metadata"].update(start=1)),
    ("entry", lambda made: made[1]["b"].update(state="writing")),
    ("entry", lambda made: made[1]["a"].update(hi=2)),
    ("version", lambda made: made[0]["a#1"].update(_version=version(0, 2))),
    ("dead letter missing", lambda made: made[2].clear()),
    ("dead letter extra", lambda made: made[2].append((0, 1))),
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGE)
def test_each_damage_is_found(kind: str, damage: Callable[[Index], object]) -> None:
    made = index()
    damage(made)
    assert kinds(made) == [kind]
