"""A document made of any JSON, by rules: for topics that are not in Penstock's own form.

    template    `{title}\\n\\n{body}`: a text with fields in it; `{{` and `}}` are braces
    field       `author.name`: a path into objects, and through lists of them; of `a.b`, a field named so is found first
    `{key}`     the record's key as a text; `{key.id}` a field of a key that is a JSON object

Pure, and the same every time: the rules are part of the index contract.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from streams.record import epoch_of

KEY = "key"
UNAVAILABLE = ("__debezium_unavailable_value", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==")
"""What Debezium has in place of a large column that an update did not touch, as text, and as bytes."""
MAX_AROUND = 20
"""Characters of a template in a message."""
EXACT = 2**53
"""From here on several whole numbers are read as one float; JSON's integers are exact up to 64 bits."""
MAX_SHOWN = 12
"""Names of fields in a message."""
_HOLE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_UNITS = {"s": 1000.0, "ms": 1.0, "us": 0.001}
"""Milliseconds in each."""
_TRUE = frozenset({"true", "True", "TRUE", "1", "t", "yes"})


class MappingError(ValueError):
    """A record of which the rules make no document, with the rule and the field; or a rule that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`text`, `id`, `title`, `url`, `author`: templates. `timestamp`: a field; `timestamp_unit`: of its numbers.

    `metadata`: fields. `deleted`: a field that is true, or one of `deleted_values`, where the document is to go.
    `preset`: what is around a row; `debezium`: its envelope, whole or flattened, and `{key}` is all of a key's fields.
    """

    text: str
    id: str = "{key}"
    title: str | None = None
    url: str | None = None
    author: str | None = None
    timestamp: str | None = None
    timestamp_unit: Literal["s", "ms", "us"] = "ms"
    metadata: Sequence[str] = ()
    deleted: str | None = None
    deleted_values: Sequence[str] = ()
    preset: Literal["none", "debezium"] = "none"


@dataclass(frozen=True, slots=True)
class Key:
    """A record's key: as a text, and its fields where it is an object."""

    text: str
    fields: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """A record as templates see it. `value`: None of a tombstone."""

    key: Key
    value: dict[str, Any] | None

    def found(self, part: tuple[str, str]) -> list[Any]:
        """What a field of a template holds: one item, or one for each object of a list that was gone through."""
        scope, path = part
        if scope == KEY and not path:
            return [self.key.text]
        return _find(self.key.fields if scope else self.value, path)

    def has(self, part: tuple[str, str]) -> bool:
        """Whether there is such a field, null or not."""
        return bool(self.found(part))


class Template:
    """A text with fields in it. Raises MappingError for what is none."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._parts: list[str | tuple[str, str]] = []
        at = 0
        for hole in _HOLE.finditer(text):
            self._parts.append(text[at : hole.start()])
            at = hole.end()
            if hole[0] in ("{{", "}}"):
                self._parts.append(hole[0][0])
            elif hole[1] is None:
                raise MappingError(_alone(name, text, hole.start()))
            elif not (path := hole[1].strip()):
                raise MappingError(
                    f"`{name}` has braces without a field in them at character {hole.start() + 1}: name one; {{{{ and "
                    "}} are braces"
                )
            elif not all(path.split(".")):
                raise MappingError(f"`{name}` has a field with an empty name in it: {{{path}}}")
            elif path == KEY or path.startswith(f"{KEY}."):
                self._parts.append((KEY, path[len(KEY) + 1 :]))
            else:
                self._parts.append(("", path))
        self._parts.append(text[at:])
        self.fields = [part for part in self._parts if isinstance(part, tuple)]

    def made(self, row: _Row, between: str, *, whole: bool) -> str | None:
        """None where none of its fields is there. `between`: items of a list.

        `whole`: MappingError where one of them is missing, or empty.
        """
        made, there = list[str](), not self.fields
        for part in self._parts:
            if isinstance(part, str):
                made.append(part)
                continue
            values = self._values(row, part)
            there = there or bool(values)
            texts = [text for value in values if (text := self._text(value, part))]
            if whole and not texts:
                raise MappingError(f"`{self._name}` needs {_shown(part)}, {_missing(row, part)}")
            made.append(between.join(texts))
        return "".join(made) if there else None

    def missing(self, row: _Row) -> str:
        """What to say where none of the fields is there."""
        return f"`{self._name}` is made of {', '.join(map(_shown, self.fields))}, {_missing(row, self.fields[0])}"

    def _values(self, row: _Row, part: tuple[str, str]) -> list[Any]:
        return [leaf for value in row.found(part) for leaf in _leaves(value)]

    def _text(self, value: object, part: tuple[str, str]) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, dict | list):
            raise MappingError(f"`{self._name}`: {_shown(part)} is an object, name a field inside of it")
        if self._name == "id":
            _require_exact(value, _shown(part))
        return "" if value is None else _json_text(value)


class Mapper:
    """Rules, ready for records. Raises MappingError for rules that are none."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._id = Template("id", rules.id)
        self._text = Template("text", rules.text)
        named = {"title": rules.title, "url": rules.url, "author": rules.author}
        self._named = {name: Template(name, text) for name, text in named.items() if text is not None}
        for template in (self._id, self._text):
            if not template.fields:
                raise MappingError("`id` and `text` have to be made of fields: `{title}` is one")
        for one in rules.metadata:
            if not all(one.split(".")):
                raise MappingError(f"`metadata` has a field with an empty name in it: {one!r}")
            if inside := next((other for other in rules.metadata if other.startswith(f"{one}.")), None):
                raise MappingError(f"`metadata` has {one} and {inside}, which is inside of it: name one of them")

    def id_of(self, key: Key, value: Any) -> str:
        """The document's id. `value`: as it was decoded; None of a tombstone, or where it cannot be.

        Raises MappingError.
        """
        try:
            row, _ = self._row(key, value)
        except MappingError:
            row, _ = self._row(key, None)  # the key may be enough
        return self._id_of(row)

    def made(self, key: Key, value: Any) -> tuple[str, dict[str, Any] | None]:
        """The document's id, and its fields in the wire format; None where it is deleted. Raises MappingError."""
        row, deleted = self._row(key, value)
        doc_id = self._id_of(row)
        if deleted or row.value is None or self._is_deleted(row.value):
            return doc_id, None
        text = self._text.made(row, "\n", whole=False)
        if text is None:
            raise MappingError(self._text.missing(row))
        body: dict[str, Any] = {"text": text.strip()}
        for name, template in self._named.items():
            if made := template.made(row, ", ", whole=False):
                body[name] = made
        if self.rules.timestamp and (found := _one(row.value, self.rules.timestamp)) is not None:
            body["timestamp"] = self._timestamp(found)
        if metadata := dict(self._metadata(row.value)):
            body["metadata"] = metadata
        return doc_id, body

    def missing(self, key: Key, value: Any) -> list[str]:
        """Fields that rules name and the record does not have, each with its rules: `team (metadata)`.

        None of a row that is deleted. Raises MappingError.
        """
        row, deleted = self._row(key, value)
        if deleted or row.value is None:
            return []
        rules = self.rules
        plain = [("timestamp", rules.timestamp), *(("metadata", name) for name in rules.metadata)]
        plain.append(("deleted", rules.deleted))
        wanted = [(name, ("", path)) for name, path in plain if path is not None]
        for name, template in {"id": self._id, "text": self._text, **self._named}.items():
            wanted += [(name, part) for part in template.fields]
        found: dict[str, list[str]] = {}
        for name, part in wanted:
            if not row.has(part):
                found.setdefault(".".join(filter(None, part)), []).append(name)
        return [f"{path} ({', '.join(dict.fromkeys(names))})" for path, names in found.items()]

    def _id_of(self, row: _Row) -> str:
        return self._id.made(row, "/", whole=True) or ""

    def _row(self, key: Key, value: Any) -> tuple[_Row, bool]:
        deleted = False
        if self.rules.preset == "debezium":
            fields = _payload(key.fields)
            if isinstance(fields, dict):
                leaves = [leaf for one in fields.values() for leaf in _leaves(one) if not isinstance(leaf, dict)]
                key = Key(_joined(leaves), fields)
            value, deleted = _unwrapped(value)
        if value is not None and not isinstance(value, dict):
            raise MappingError("the value is no JSON object: fields are looked for in one")
        return _Row(key, value), deleted

    def _is_deleted(self, value: dict[str, Any]) -> bool:
        if self.rules.deleted is None:
            return False
        wanted = frozenset(self.rules.deleted_values) or _TRUE
        found = _one(value, self.rules.deleted)
        return (found if isinstance(found, str) else _json_text(found)) in wanted

    def _timestamp(self, found: object) -> object:
        if isinstance(found, str) and (number := epoch_of(found)) is not None:
            found = number
        if isinstance(found, int | float) and not isinstance(found, bool):
            try:
                return round(found * _UNITS[self.rules.timestamp_unit])
            except (OverflowError, ValueError) as exc:
                raise MappingError(f"`timestamp`: {found} is no time in {self.rules.timestamp_unit}") from exc
        return found

    def _metadata(self, value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        nested: dict[str, Any] = {}
        for path in self.rules.metadata:
            if (found := _one(value, path)) is None:
                continue
            *outer, last = path.split(".")
            into = nested
            for name in outer:
                into = into.setdefault(name, {})
            into[last] = found
        yield from nested.items()


def _alone(name: str, text: str, at: int) -> str:
    """What is said of a brace that has no other."""
    where = f"at character {at + 1} ({text[at : at + MAX_AROUND]!r})"
    if text[at] == "{":
        return f"`{name}` has a {{ {where} that nothing closes: write {{FIELD}}, or {{{{ for the brace itself"
    return f"`{name}` has a }} {where} that nothing opens: write {{FIELD}}, or }}}} for the brace itself"


def key_of(key: bytes | None) -> Key:
    """Of plain text, or of JSON. Raises MappingError."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError as exc:
        raise MappingError(f"the key is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    if text.lstrip()[:1] != "{":
        return Key(text)
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Key(text)
    return Key(text, found if isinstance(found, dict) else None)


def _payload(value: Any) -> Any:
    """Without the schema that Connect's JSON converter may put beside it."""
    if isinstance(value, dict) and value.keys() == {"schema", "payload"}:
        return value["payload"]
    return value


def _unwrapped(value: Any) -> tuple[Any, bool]:
    """The row in Debezium's envelope, and whether it was deleted.

    https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events, and
    https://debezium.io/documentation/reference/stable/transformations/event-flattening.html
    """
    value = _payload(value)
    if not isinstance(value, dict):
        return value, False
    if "op" in value and ("after" in value or "before" in value):
        if value["op"] == "d":
            return value.get("before"), True
        if value["op"] in ("c", "r", "u"):
            return value.get("after"), False
        raise MappingError(f"`op` is {str(value['op'])[:20]!r}: of Debezium's events c, r, u and d are of one row")
    return value, str(value.get("__deleted")).lower() == "true"


def _find(node: Any, path: str) -> list[Any]:
    """What is there, as it is. One item, or one for each object of a list that was gone through.

    Raises MappingError for what Debezium could not read: the document would lose its text.
    """
    found = _found(node, path)
    if any(one in UNAVAILABLE for value in found for one in _leaves(value) if isinstance(one, str)):
        raise MappingError(
            f"{{{path}}} did not come with this change ({UNAVAILABLE[0]}): have the database send whole rows (REPLICA "
            "IDENTITY FULL), or the connector read the column again (its reselect post processor)"
        )
    return found


def _found(node: Any, path: str) -> list[Any]:
    if isinstance(node, list):
        return [found for item in node if isinstance(item, dict) for found in _found(item, path)]
    if not isinstance(node, dict):
        return []
    if path in node:
        return [node[path]]
    for cut in (dot.start() for dot in re.finditer(r"\.", path)):
        if path[:cut] in node and (found := _found(node[path[:cut]], path[cut + 1 :])):
            return found
    return []


def _one(node: Any, path: str) -> Any:
    """One value, a list of several, or None."""
    found = _find(node, path)
    return found[0] if len(found) == 1 else found or None


def _leaves(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _joined(leaves: Sequence[Any]) -> str:
    """An id made of the columns of a key. No two keys have the same one: of several columns each is escaped."""
    for leaf in leaves:
        _require_exact(leaf, "{key}")
    texts = [leaf if isinstance(leaf, str) else _json_text(leaf) for leaf in leaves]
    if len(texts) == 1:
        return texts[0]
    return "/".join(text.replace("%", "%25").replace("/", "%2F") for text in texts)


def _require_exact(value: object, what: str) -> None:
    if isinstance(value, float) and abs(value) >= EXACT:
        raise MappingError(f"`id`: {what} is a number of more digits than are read of one ({value}): send it as a text")


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as exc:  # it is nested too deep
        raise MappingError("a field that a rule names is nested too deep: name one inside of it") from exc


def _shown(part: tuple[str, str]) -> str:
    return "{" + ".".join(name for name in part if name) + "}"


def _missing(row: _Row, part: tuple[str, str]) -> str:
    if part[0] == KEY:
        if not part[1]:
            return "and the record has no key"
        return "which the key does not have" if row.key.fields is not None else "and the key is no JSON object"
    if row.value is None:
        return "and a tombstone has a key only: make it of {key}"
    names = sorted(row.value)
    shown = ", ".join(names[:MAX_SHOWN]) + ("…" if len(names) > MAX_SHOWN else "")
    return f"which the record does not have; it has {shown[:300] or 'nothing'}"
