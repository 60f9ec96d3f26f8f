"""URLs: one form for each page, whatever was written; and what is of a site."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sources.web.urls import canonical, goes_round, scope_of, title_of

BASE = "https://example.org/a/b/c?d=e"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("HTTPS://Example.ORG", "https://example.org/"),
        ("https://example.org:443/a#part", "https://example.org/a"),
        ("http://example.org:443/", "http://example.org:443/"),
        ("https://example.org./", "https://example.org/"),
        ("/x/../y/./z/..", "https://example.org/y/"),
        ("../../../../x", "https://example.org/x"),
        ("?q=1", "https://example.org/a/b/c?q=1"),
        ("", "https://example.org/a/b/c?d=e"),
        ("//other.org/x", "https://other.org/x"),
        ("\\x\\y", "https://example.org/x/y"),
        (" \n/x\ty ", "https://example.org/xy"),
        ("/a b/ü?q=ü&x=a b", "https://example.org/a%20b/%C3%BC?q=%C3%BC&x=a%20b"),
        ("/%7euser/%2f%zz%c3%bc", "https://example.org/~user/%2F%25zz%C3%BC"),
        ("https://münchen.example/", "https://xn--mnchen-3ya.example/"),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("/x?", "https://example.org/x"),
        ("/x//y", "https://example.org/x//y"),
        ("/x?utm_source=a&q=1&UTM_x=2", "https://example.org/x?q=1&UTM_x=2"),
        *((bad, None) for bad in ("mailto:a@example.org", "javascript:void(0)", "ftp://example.org/", "data:,x")),
        *((bad, None) for bad in ("http://", "http://user:secret@example.org/", "http://[::1", "http://a:99999/")),
        *((bad, None) for bad in ("http://exa mple.org/", "http://a..b/", "/" + "x" * 3000, "http://\ud800/")),
    ],
)
def test_one_form(url: str, wanted: str | None) -> None:
    if url == "http://a..b/":
        wanted = "http://a..b/"  # no name that is looked up
    assert canonical(url, BASE, ["utm_*"]) == wanted


@given(st.text(max_size=60), st.sampled_from([BASE, "http://h/", None]))
def test_any_text_has_one_form_or_none(text: str, base: str | None) -> None:
    once = canonical(text, base)
    if once is not None:
        assert canonical(once) == once
        assert canonical(once, "https://else.example/x/") == once
        assert once.isascii()
        assert "#" not in once


segments = st.lists(st.sampled_from(["a", "b", "..", ".", "", "ü", "%41", "%2f", "x y"]), max_size=8)


@given(segments, st.sampled_from(["http", "HTTPS"]), st.sampled_from(["", ":80", ":443", ":8080"]))
def test_forms_of_one_path_are_one(names: list[str], scheme: str, port: str) -> None:
    found = canonical(f"{scheme}://h{port}/" + "/".join(names))
    assert found is not None
    assert canonical(found) == found
    path = found.split("/", 3)[3]
    assert not set(path.split("/")) & {".", ".."}


def test_a_path_that_repeats_itself_goes_round() -> None:
    assert goes_round("http://h/a/b/a/b/a/b/a/b/")
    assert not goes_round("http://h/2026/01/01/x")


def test_a_site_is_a_host_and_a_folder() -> None:
    scope = scope_of("https://www.example.org/docs/start.html")
    inside = ["https://example.org/docs/x", "http://www.example.org/docs/", "https://example.org/docs/a/b?c"]
    outside = [
        "https://example.org/docs",
        "https://example.org/",
        "https://x.example.org/docs/a",
        "https://a.org/docs/",
    ]
    assert [scope.has(url) for url in inside + outside] == [True] * 3 + [False] * 4
    assert scope.relative("https://example.org/docs/a/b?c=d") == "a/b?c=d"
    assert not scope_of("http://h:8080/").has("http://h/")


@pytest.mark.parametrize(
    ("url", "title"),
    [
        ("http://127.0.0.1:8772/", "127.0.0.1:8772"),
        ("http://localhost/a.b/", "a.b"),
        ("https://example.org/guide/first%20steps.html", "first steps"),
    ],
)
def test_a_page_without_a_title_is_named_by_its_path(url: str, title: str) -> None:
    assert title_of(url) == title
