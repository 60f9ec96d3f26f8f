"""Documents of any JSON: what the rules say, for every record, and a reason where they say nothing."""

import json
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.mapping import Mapper, MappingError, Rules, key_of
from tests.streams.test_record import json_values

ARTICLE = {
    "slug": "locks",
    "title": "Locks",
    "body": "A lock has two gates.",
    "author": {"name": "A. Keeper", "id": 7},
    "updated": 1_790_000_000,
    "tags": ["water", "gates"],
    "parts": [{"text": "One."}, {"text": "Two."}],
    "meta.lang": "en",
    "draft": False,
}


def made(rules: Rules, value: Any, key: bytes | None = b"k1") -> tuple[str, dict[str, Any] | None]:
    return Mapper(rules).made(key_of(key), value)


def test_a_document_by_templates() -> None:
    rules = Rules(
        id="{slug}/{key}",
        text="{title}\n\n{body}",
        title="{title}",
        url="https://example.org/{slug}?a={{1}}",
        author="{author.name}",
        timestamp="updated",
        timestamp_unit="s",
        metadata=["tags", "author.id", "meta.lang", "parts.text", "nothing"],
    )
    assert made(rules, ARTICLE) == (
        "locks/k1",
        {
            "text": "Locks\n\nA lock has two gates.",
            "title": "Locks",
            "url": "https://example.org/locks?a={1}",
            "author": "A. Keeper",
            "timestamp": 1_790_000_000_000,
            "metadata": {
                "tags": ["water", "gates"],
                "author": {"id": 7},
                "meta": {"lang": "en"},
                "parts": {"text": ["One.", "Two."]},
            },
        },
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{parts.text}", "One.\nTwo."),
        ("{tags}", "water\ngates"),
        ("{nothing}{body}", "A lock has two gates."),
        ("{author.id}: {draft}", "7: false"),
        (" {title} ", "Locks"),
    ],
)
def test_what_a_template_makes(text: str, expected: str) -> None:
    assert made(Rules(text=text), ARTICLE)[1] == {"text": expected}


@pytest.mark.parametrize(
    ("rules", "key", "part"),
    [
        (Rules(text="{titel}"), b"k", "`text` is made of {titel}, which the record does not have; it has author, body"),
        (Rules(text="{author}"), b"k", "{author} is an object, name a field inside of it"),
        (Rules(text="{body}", id="{uuid}"), b"k", "`id` needs {uuid}, which the record does not have"),
        (Rules(text="{body}"), None, "`id` needs {key}, and the record has no key"),
        (Rules(text="{body}"), b"\xff", "the key is not UTF-8"),
        (Rules(text="{body}", id="{key.id}"), b"k", "`id` needs {key.id}, and the key is no JSON object"),
        (Rules(text="{body}", id="{key.id}"), b'{"a": 1}', "`id` needs {key.id}, which the key does not have"),
    ],
)
def test_what_no_document_is_made_of_names_the_rule_and_the_field(rules: Rules, key: bytes | None, part: str) -> None:
    with pytest.raises(MappingError) as told:
        made(rules, ARTICLE, key)
    assert part in str(told.value)


@pytest.mark.parametrize(
    ("rules", "part"),
    [
        (Rules(text="{title"), "`text` has a { at character 1 ('{title') that nothing closes: write {FIELD}, or {{"),
        (Rules(text="{a} and {b {c}"), "`text` has a { at character 9 ('{b {c}') that nothing closes"),
        (Rules(text="{a} b}"), "`text` has a } at character 6 ('}') that nothing opens: write {FIELD}, or }}"),
        (Rules(text="a {}"), "`text` has braces without a field in them at character 3"),
        (Rules(text="{a..b}"), "`text` has a field with an empty name in it: {a..b}"),
        (Rules(text="{a}", metadata=["a."]), "`metadata` has a field with an empty name"),
        (Rules(text="constant"), "have to be made of fields"),
        (Rules(text="{a}", id="one"), "have to be made of fields"),
        (Rules(text="{a}", metadata=["a", "a.b"]), "`metadata` has a and a.b"),
    ],
)
def test_rules_that_are_none(rules: Rules, part: str) -> None:
    with pytest.raises(MappingError) as told:
        Mapper(rules)
    assert part in str(told.value)


def test_deletions() -> None:
    plain = Rules(text="{body}", deleted="is_deleted")
    for gone in (True, "true", 1):
        assert made(plain, {**ARTICLE, "is_deleted": gone}) == ("k1", None)
    for there in (False, "false", 0, None):
        assert made(plain, {**ARTICLE, "is_deleted": there})[1]
    by_state = Rules(text="{body}", deleted="state", deleted_values=["archived"])
    assert made(by_state, {**ARTICLE, "state": "archived"}) == ("k1", None)
    assert made(by_state, {**ARTICLE, "state": True})[1]
    assert made(plain, None) == ("k1", None)
    with pytest.raises(MappingError, match="a tombstone has a key only"):
        made(Rules(text="{body}", id="{slug}"), None)


@pytest.mark.parametrize("schema", [False, True])
def test_debezium(schema: bool) -> None:
    def wrapped(payload: Any) -> Any:
        return {"schema": {"type": "struct"}, "payload": payload} if schema else payload

    rules = Rules(text="{body}", preset="debezium", metadata=["slug"])
    key = orjson.dumps(wrapped({"tenant": "a", "id": 7}))
    row = {"slug": "locks", "body": "A lock.", "op": "x"}
    for op in ("c", "r", "u"):
        event = wrapped({"before": None, "after": row, "op": op, "ts_ms": 1})
        assert made(rules, event, key) == ("a/7", {"text": "A lock.", "metadata": {"slug": "locks"}})
    assert made(rules, wrapped({"before": row, "after": None, "op": "d"}), key) == ("a/7", None)
    assert made(rules, None, key) == ("a/7", None)
    assert made(rules, wrapped({**row, "__deleted": "true"}), key) == ("a/7", None)
    assert made(rules, wrapped({**row, "__deleted": "false"}), key)[1]
    by_field = Rules(text="{body}", preset="debezium", id="{key.id}")
    assert made(by_field, wrapped({"after": row, "op": "c"}), key)[0] == "7"
    with pytest.raises(MappingError, match="`op` is 't'"):
        made(rules, wrapped({"before": None, "after": None, "op": "t"}), key)


@pytest.mark.parametrize("placeholder", ["__debezium_unavailable_value", ["__debezium_unavailable_value"]])
def test_what_debezium_could_not_read_is_no_text(placeholder: Any) -> None:
    rules = Rules(text="{title}: {body}", preset="debezium")
    row = {"title": "t", "body": placeholder, "other": placeholder}
    with pytest.raises(MappingError, match="REPLICA IDENTITY FULL"):
        made(rules, {"before": None, "after": row, "op": "u"}, b'{"id": 1}')
    assert made(Rules(text="{title}", preset="debezium"), {"after": row, "op": "u"}, b'{"id": 1}')[1] == {"text": "t"}


def test_what_no_time_and_what_is_nested_too_deep_is_an_error() -> None:
    for value in (1e308, float("inf")):
        with pytest.raises(MappingError, match="is no time in s"):
            made(Rules(text="{a}", timestamp="t", timestamp_unit="s"), {"a": "b", "t": value})
    deep: Any = 1
    for _ in range(400):
        deep = {"d": deep}
    for rules in (Rules(text="{a}", deleted="t"), Rules(text="{a}", deleted="t", deleted_values=["x"])):
        with pytest.raises(MappingError, match="nested too deep"):
            made(rules, {"a": "b", "t": deep})


@pytest.mark.parametrize("number", [12345678901234567890123, 2.5e20])
def test_an_id_of_more_digits_than_are_read_is_an_error(number: float) -> None:
    """As JSON readers have them, two such numbers are one: the second document would replace the first."""
    value, key = orjson.loads(json.dumps({"n": number, "b": "t"})), json.dumps({"n": number}).encode()
    for rules in (Rules(text="{b}", id="{n}"), Rules(text="{b}", id="{key.n}"), Rules(text="{b}", preset="debezium")):
        with pytest.raises(MappingError, match="send it as a text"):
            made(rules, value, key)
    assert made(Rules(text="{b}", id="{n}"), {"n": 2**64 - 1, "b": "t"})[0] == str(2**64 - 1)


def test_no_two_keys_of_several_columns_make_one_id() -> None:
    rules = Rules(text="{b}", preset="debezium")
    columns = [("x/y", "z"), ("x", "y/z"), ("x%2Fy", "z"), ("x", "y")]
    ids = [made(rules, {"b": "t"}, json.dumps({"a": a, "b": b}).encode())[0] for a, b in columns]
    assert ids == ["x%2Fy/z", "x/y%2Fz", "x%252Fy/z", "x/y"]
    assert made(rules, {"b": "t"}, b'{"a": "x/y"}')[0] == "x/y"


@pytest.mark.parametrize(
    ("text", "unit", "time"), [("1712050612345", "ms", 1712050612345), ("1712050612", "s", 1712050612000)]
)
def test_digits_are_a_time_since_1970(text: str, unit: Literal["s", "ms"], time: int) -> None:
    body = made(Rules(text="{a}", timestamp="t", timestamp_unit=unit), {"a": "b", "t": text})[1]
    assert body == {"text": "b", "timestamp": time}


paths = st.sampled_from(["a", "a.b", "b", "key", "key.a", "", "c.d.e"])
templates = st.lists(st.tuples(st.text(max_size=5), paths), max_size=4).map(
    lambda parts: "".join(f"{text}{{{path}}}" for text, path in parts)
)


@given(templates, templates, st.lists(paths, max_size=3), json_values, st.binary(max_size=20) | st.just(b'{"a": [1]}'))
def test_nothing_but_a_reason_is_raised(text: str, id_: str, fields: list[str], value: Any, key: bytes) -> None:
    try:
        mapper = Mapper(Rules(text=text, id=id_, metadata=fields, deleted="a.b", timestamp="b"))
        for preset in (mapper, Mapper(Rules(text=text, id=id_, preset="debezium"))):
            doc_id, body = preset.made(key_of(key), value)
            assert preset.id_of(key_of(key), value) == doc_id
            assert body is None or isinstance(body["text"], str)
    except MappingError as exc:
        told = str(exc)
    else:
        told = ""
    assert len(told) < 2000


def test_fields_that_a_record_does_not_have_are_told_with_their_rules() -> None:
    rules = Rules(
        text="{title}: {body}",
        id="{key.id}",
        title="{title}",
        timestamp="at",
        metadata=["team", "by.name"],
        deleted="gone",
    )
    mapper = Mapper(rules)
    value = {"body": None, "team": "a", "by": [{"name": "x"}, {}]}
    assert mapper.missing(key_of(b'{"id": 1}'), value) == ["at (timestamp)", "gone (deleted)", "title (text, title)"]
    assert mapper.missing(key_of(b"k"), {**value, "at": 1, "gone": False, "title": ""}) == ["key.id (id)"]
    assert mapper.missing(key_of(b"k"), None) == []
    debezium = Mapper(Rules(text="{a}", preset="debezium"))
    assert debezium.missing(key_of(b"k"), {"op": "d", "before": {}, "after": None}) == []
    assert debezium.missing(key_of(b"k"), {"op": "c", "before": None, "after": {}}) == ["a (text)"]
