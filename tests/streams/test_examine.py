"""The oracle finds every kind of damage, each alone: an oracle that finds nothing proves nothing."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from streams.examine import examine_all, expected_of
from streams.ids import version
from streams.plan import FieldNames, Space, chunk_hash
from streams.record import Document, Record, decode
from streams.registry import Entry, to_source
from streams.routes import Routing
from streams.split import SplitRules

SPACE = Space(model="m", dims=2, names=FieldNames())
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
    penstock = {"stub": False, "chunk_hash": chunk_hash(text), "flags": ["short"], "model": "m"}
    return {"text": text, "metadata": metadata, "penstock": penstock, "_version": version(0, offset)}


def entry(doc: str, offset: int, n: int) -> dict[str, Any]:
    document = decode(next(record for record in RECORDS if record.offset == offset))
    assert isinstance(document, Document)
    found = Entry(
        doc_id=doc,
        partition=0,
        version=version(0, offset),
        content_version=version(0, offset),
        state="done",
        n=n,
        hi=n,
        content_hash=document.content_hash,
        chunk_index_uuid="u",
    )
    return to_source(found, "")


def index() -> Index:
    """As it should be."""
    chunks = {"a#0": row("a", 0, 1, "new"), "a#1": row("a", 1, 1, None), "b#0": row("b", 0, 3, None)}
    return chunks, {"a": entry("a", 1, 1), "b": entry("b", 3, 0)}, [(0, 4)]


def kinds(made: Index) -> list[str]:
    ways = {"m": (RULES, lambda texts: [[1]] * len(texts))}
    expected = expected_of(RECORDS, ways, Routing(routes=(), spaces=[SPACE]))
    return [finding.kind for finding in examine_all(expected, *made)]


def test_a_true_index_has_no_findings() -> None:
    assert kinds(index()) == []


def test_chunks_of_content_that_came_again_are_older_than_their_entry() -> None:
    for content in (version(0, 0), None):  # None: from before it was kept
        made = index()
        made[0]["a#0"].update(_version=version(0, 0))
        made[1]["a"].update(content_version=content)
        assert kinds(made) == []


DAMAGE: list[tuple[str, Callable[[Index], object]]] = [
    ("missing chunk", lambda made: made[0].pop("a#0")),
    ("stubbed chunk", lambda made: made[0].update({"a#0": row("a", 0, 1, None)})),
    ("orphan chunk", lambda made: made[0].update({"b#0": row("b", 0, 3, "gone")})),
    ("orphan chunk", lambda made: made[0].update({"z#0": row("z", 0, 1, "never asked for")})),
    ("wrong text", lambda made: made[0]["a#0"].update(text="old")),
    ("wrong hash", lambda made: made[0]["a#0"]["penstock"].update(chunk_hash="x")),
    ("wrong place", lambda made: made[0]["a#0"]["metadata"].update(start=1)),
    ("wrong flags", lambda made: made[0]["a#0"]["penstock"].pop("flags")),
    ("wrong flags", lambda made: made[0]["a#0"]["metadata"].update(language="de")),
    ("wrong flags", lambda made: made[0]["a#0"]["penstock"].update(signature="AAA=")),
    ("left writing", lambda made: made[1]["b"].update(state="writing")),
    ("wrong entry", lambda made: made[1]["a"].update(hi=2)),
    ("wrong entry", lambda made: made[1]["a"].update(content_hash="x")),
    ("rejected", lambda made: made[1]["b"].update(state="rejected")),
    ("stale entry", lambda made: made[1]["b"].update(version=version(0, 2))),
    ("entry ahead", lambda made: made[1]["b"].update(version=version(0, 9))),
    ("missing entry", lambda made: made[1].pop("a")),
    ("no record", lambda made: made[1].update(z=entry("a", 1, 0) | {"doc_id": "z"})),
    ("version ahead", lambda made: made[0]["a#1"].update(_version=version(0, 2))),
    ("wrong version", lambda made: made[0]["a#0"].update(_version=version(0, 0))),
    ("dead letter missing", lambda made: made[2].clear()),
    ("dead letter extra", lambda made: made[2].append((0, 1))),
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGE)
def test_each_damage_is_found(kind: str, damage: Callable[[Index], object]) -> None:
    made = index()
    damage(made)
    assert kind in kinds(made)
    assert set(kinds(made)) <= {kind, "version ahead"}  # an entry set back is below its own stubs
