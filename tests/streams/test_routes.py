"""Which way a document goes: a function of its record and the contract, and of nothing else."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contract import chunk_mappings, differences, models_in, spaces_of
from streams.form import FORM_HEADER, OWN
from streams.plan import FieldNames, Space
from streams.record import Document, Record, decode
from streams.routes import DEFAULT, ROUTE_HEADER, Conditions, Placed, Route, Routing, route_of

SPACES = [
    Space(model="robust", dims=384, names=FieldNames()),
    Space(model="fast", dims=256, names=FieldNames(vector="vector_fast")),
]


def document(body: dict[str, Any] | None, headers: tuple[tuple[str, bytes | None], ...] = ()) -> Document:
    value = None if body is None else orjson.dumps(body)
    record = Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"doc", value=value, headers=headers)
    found = decode(record)
    assert isinstance(found, Document), found
    return found


def to_fast(**when: Any) -> list[Route]:
    return [Route(name="to fast", model="fast", vector="vector_fast", when=Conditions(**when))]


def goes(found: Document, **when: Any) -> bool:
    return route_of(found, to_fast(**when)) is not None


GERMAN = "Das Wehr staut das Wasser, und ein Druckrohr führt es zur Turbine, die den Strom erzeugt."


@pytest.mark.parametrize(
    ("body", "when", "taken"),
    [
        ({"text": "12345"}, {"max_chars": 5}, True),
        ({"text": "12345"}, {"max_chars": 4}, False),
        ({"text": "\n 1 3 5\t\n"}, {"min_chars": 5, "max_chars": 5}, True),
        ({"text": "12345"}, {"min_chars": 5}, True),
        ({"text": "12345"}, {"min_chars": 6}, False),
        ({"chunks": [{"text": "123"}, {"text": "45"}]}, {"min_chars": 5, "max_chars": 5}, True),
        ({"text": GERMAN}, {"language": ("de",)}, True),
        ({"text": GERMAN}, {"language": ("en", "fr")}, False),
        ({"text": GERMAN, "metadata": {"language": "en"}}, {"language": ("en",)}, True),
        ({"text": "a", "url": "s3://docs/faq/1.md"}, {"source": ("s3://docs/faq/*",)}, True),
        ({"text": "a", "url": "s3://docs/faq/1.md"}, {"source": ("*.pdf", "*.md")}, True),
        ({"text": "a", "url": "s3://DOCS/faq/1.md"}, {"source": ("s3://docs/*",)}, False),
        ({"text": "a"}, {"source": ("*.md",)}, False),
        ({"text": "a", "metadata": {"team": "ops"}}, {"metadata": {"team": ("dev", "ops")}}, True),
        ({"text": "a", "metadata": {"team": "ops"}}, {"metadata": {"team": ("dev",)}}, False),
        ({"text": "a", "metadata": {"tags": ["x", "y"]}}, {"metadata": {"tags": ("y",)}}, True),
        (
            {"text": "a", "metadata": {"year": 2026, "live": True}},
            {"metadata": {"year": ("2026",), "live": ("true",)}},
            True,
        ),
        ({"text": "a", "metadata": {"team": None}}, {"metadata": {"team": ("null",)}}, False),
        ({"text": "a"}, {"metadata": {"team": ("ops",)}}, False),
        ({"text": "12345", "metadata": {"team": "ops"}}, {"max_chars": 4, "metadata": {"team": ("ops",)}}, False),
    ],
)
def test_all_conditions_of_a_route_hold(body: dict[str, Any], when: dict[str, Any], taken: bool) -> None:
    assert goes(document(body), **when) is taken


def test_the_last_header_of_a_name_counts() -> None:
    headers = (("kind", b"mail"), ("kind", b"chat"), ("raw", b"\xff"), ("empty", None))
    found = document({"text": "a"}, headers)
    assert goes(found, header={"kind": ("chat",)})
    assert not goes(found, header={"kind": ("mail",)})
    assert not goes(found, header={"raw": ("x",)})
    assert goes(found, header={"empty": ("",)})
    assert not goes(found, header={"kind": ("chat",), "other": ("x",)})


def test_what_is_made_of_chunks_goes_where_these_went() -> None:
    """Its headers are gone with its record; the other conditions are asked of its text."""
    made = ((FORM_HEADER, OWN), (ROUTE_HEADER, b"to fast"))
    assert goes(document({"text": "a"}, made), header={"kind": ("chat",)})
    assert not goes(document({"text": "a"}, made), header={"kind": ("chat",)}, min_chars=2)
    assert not goes(
        document({"text": "a"}, ((FORM_HEADER, OWN), (ROUTE_HEADER, b"default"))), header={"kind": ("chat",)}
    )
    assert not goes(document({"text": "a"}, ((ROUTE_HEADER, b"to fast"),)), header={"kind": ("chat",)}), (
        "said by anybody"
    )


def test_a_deletion_takes_no_route() -> None:
    routing = Routing(routes=to_fast(max_chars=100), spaces=SPACES)
    for body in (None, {"text": ""}, {"text": " \n"}):
        found = document(body)
        assert routing.place(found) == Placed(document=found, space=SPACES[0], route=DEFAULT)


def test_the_first_route_that_holds_is_taken_and_the_hash_tells_the_space() -> None:
    vip = Route(name="vip", model="robust", vector="vector", when=Conditions(header={"vip": ("yes",)}))
    routing = Routing(routes=[vip, *to_fast(max_chars=10)], spaces=SPACES)
    plain, again = document({"text": "short"}), document({"text": "short"}, (("vip", b"yes"),))
    assert plain.content_hash == again.content_hash
    fast, robust = routing.place(plain), routing.place(again)
    assert (fast.space, fast.route, robust.space, robust.route) == (SPACES[1], "to fast", SPACES[0], "vip")
    assert fast.document.content_hash not in (plain.content_hash, robust.document.content_hash)
    assert robust.document == again, "of the default space nothing is told: an index that had no routes goes on"
    long = routing.place(document({"text": "rather long"}))
    assert (long.space, long.route) == (SPACES[0], DEFAULT)


def test_a_budget_that_is_used_up_chooses_another_model_and_the_hash_tells_it() -> None:
    cheap = Route(name="cheap", model="fast", vector="vector_fast", when=Conditions(metadata={"never": ("x",)}))
    routing = Routing(routes=[cheap], spaces=SPACES, refuge="cheap")
    found = document({"text": "dear"})
    own, spent = routing.place(found), routing.place(found, spent=True)
    assert (own.space, own.route, spent.space, spent.route) == (SPACES[0], DEFAULT, SPACES[1], "cheap")
    assert own.elsewhere == {spent.document.content_hash: True}
    assert spent.elsewhere == {own.document.content_hash: True}
    for told, wanted in ((own, own), (spent, spent)):
        for now in (False, True):
            assert routing.place(found, spent=now, begun=told.document.content_hash) == wanted, "it stays where it is"
    unplanned = Routing(routes=[cheap], spaces=SPACES)
    assert unplanned.place(found, begun=spent.document.content_hash) == replace(
        spent, elsewhere={own.document.content_hash: True}
    ), "also where no budget chooses any more"
    assert unplanned.place(found).elsewhere == {spent.document.content_hash: False}, "and goes home when it comes again"
    assert routing.place(document(None), spent=True) == routing.place(document(None)), "a deletion stays one"


def test_without_routes_nothing_is_told() -> None:
    found = document({"text": "short"})
    assert Routing(routes=(), spaces=SPACES[:1]).place(found) == Placed(document=found, space=SPACES[0])


texts = st.text(max_size=60)
metadata = st.dictionaries(
    st.text(max_size=4), st.none() | st.booleans() | st.integers() | st.text(max_size=4), max_size=3
)
conditions = st.builds(
    Conditions,
    min_chars=st.none() | st.integers(0, 60),
    max_chars=st.none() | st.integers(0, 60),
    language=st.sampled_from([(), ("en",), ("de", "fr")]),
    source=st.sampled_from([(), ("*",), ("a*", "?b[c-"), ("[!]*",)]),
    metadata=st.dictionaries(st.text(max_size=4), st.tuples(st.text(max_size=4)), max_size=2),
)


@given(body=texts, url=st.none() | st.text(max_size=10), own=metadata, when=st.lists(conditions, max_size=4))
def test_a_replay_takes_the_same_way_whatever_was_before(
    body: str, url: str | None, own: dict[str, Any], when: list[Conditions]
) -> None:
    value = {"text": body, "metadata": own} | ({} if url is None else {"url": url})
    try:
        raw = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return
    record = Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"doc", value=raw)
    first, second = decode(record), decode(record)
    if not isinstance(first, Document) or not isinstance(second, Document):
        return
    routes = [Route(name=str(number), model="fast", vector="vector_fast", when=one) for number, one in enumerate(when)]
    routing = Routing(routes=routes, spaces=SPACES)
    placed = routing.place(first)
    assert placed == routing.place(second)
    assert placed.space in SPACES


CONTRACT = {
    "model": {"name": "robust", "dims": 384, "control": ""},
    "similarity": "cosine",
    "fields": {"text": "body", "vector": "vector", "metadata": {"year": "integer"}},
    "split": {"document_vector": "mean"},
    "source": {"topic": "t", "partitions": 4},
    "cuts": [],
    "routes": [
        {"name": "a", "when": {"max_chars": 5}, "model": {"name": "fast", "dims": 256}, "vector": "v_fast"},
        {"name": "b", "when": {"min_chars": 99}, "model": {"name": "robust", "dims": 384}, "vector": "vector"},
        {"name": "c", "when": {"language": ["de"]}, "model": {"name": "fast", "dims": 256}, "vector": "v_fast"},
    ],
}


def test_each_model_has_fields_of_its_own() -> None:
    robust, fast = spaces_of(CONTRACT)
    assert (robust.model, robust.dims, robust.names.vector, robust.names.document) == (
        "robust", 384, "vector", "document_vector",
    )  # fmt: skip
    assert (fast.model, fast.dims, fast.names.vector, fast.names.document) == ("fast", 256, "v_fast", "v_fast_document")
    assert [model["name"] for model in models_in(CONTRACT)] == ["robust", "fast"]
    fields = chunk_mappings(CONTRACT, index_options={"type": "hnsw"})["properties"]
    dims = {name: field["dims"] for name, field in fields.items() if field.get("type") == "dense_vector"}
    assert dims == {"vector": 384, "document_vector": 384, "v_fast": 256, "v_fast_document": 256}


def test_a_route_that_differs_is_named_by_its_number() -> None:
    def changed(number: int, **what: Any) -> list[str]:
        routes: list[Any] = [*CONTRACT["routes"]]
        routes[number] = routes[number] | what
        return differences(CONTRACT, {**CONTRACT, "routes": routes})

    assert changed(0, when={"max_chars": 6}) == ["routes.1.when.max_chars: index 5, worker 6"]
    assert changed(0, model={"name": "quick", "dims": 256}) == [], "a model's name is only a name"
    assert changed(2, vector="v") == ["routes.3.vector: index v_fast, worker v"]
    without = {name: value for name, value in CONTRACT.items() if name != "routes"}
    assert "routes.1.name: index a, worker absent" in differences(CONTRACT, without)
