"""Sitemaps: every form that there is, however it comes in pieces; and what is none."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sources.web.sitemap import Entry, Reader, SitemapError, is_sitemap

URLSET = """<?xml version="1.0"?><!-- c --><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
 xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
<url><loc> https://h/a?x=1&amp;y=2 </loc><lastmod>2026-01-30</lastmod><image:image><image:loc>https://h/i.png</image:loc>
</image:image></url><url><loc><![CDATA[https://h/b]]></loc></url><url/></urlset>"""
INDEX = """<s:sitemapindex xmlns:s="x"><s:sitemap><s:loc>https://h/1.xml.gz</s:loc></s:sitemap></s:sitemapindex>"""
FOUND = [Entry(url="https://h/a?x=1&y=2", changed="2026-01-30T00:00:00Z"), Entry(url="https://h/b")]


def read(text: str | bytes, size: int = 1 << 20) -> list[Entry]:
    raw, reader, found = text.encode() if isinstance(text, str) else text, Reader(), list[Entry]()
    for at in range(0, len(raw), size):
        found += reader.feed(raw[at : at + size])
    return found + list(reader.feed(b"", last=True))


@given(st.integers(1, 200))
def test_pages_and_sitemaps_in_any_pieces(size: int) -> None:
    assert read(URLSET, size) == FOUND
    assert read(INDEX, size) == [Entry(url="https://h/1.xml.gz", index=True)]
    assert read("\ufeffhttps://h/a\r\n\nhttps://h/ü\n", size) == [Entry(url="https://h/a"), Entry(url="https://h/ü")]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><urlset><url><loc>&a;</loc></url></urlset>', "document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><urlset/>', "document type"),
        ("<html><body/></html>", "first element is html"),
        ("<urlset><url><loc>https://h/</loc>", "no XML"),
        ("<urlset>" + "<a>" * 100, "nested too deeply"),
        ("<urlset>&undefined;</urlset>", "no XML"),
        ("<urlset>" + "<url><loc>https://h/</loc></url>" * 50_001 + "</urlset>", "more than 50000"),
        ("http://x\n" * 50_001, "more than 50000"),
        ("https://h/\nService is under maintenance", "neither XML nor lines of URLs: 'Service is under maintenance'"),
    ],
)
def test_what_is_none_is_said(text: str, part: str) -> None:
    with pytest.raises(SitemapError, match=part):
        read(text)


def test_a_line_that_is_too_long_is_left_out() -> None:
    text = f"https://h/a\nhttps://h/{'x' * 20_000}\nhttps://h/b"
    assert read(text, 900) == read(text) == [Entry(url="https://h/a"), Entry(url="https://h/b")]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:00:00-05:00", "soon"])
def test_a_moment_that_utc_cannot_say_is_none(moment: str) -> None:
    text = f"<urlset><url><loc>https://h/a</loc><lastmod>{moment}</lastmod></url></urlset>"
    assert read(text) == [Entry(url="https://h/a")]


@given(st.binary(max_size=300))
def test_any_bytes_end(raw: bytes) -> None:
    with suppress(SitemapError):
        assert len(read(raw, 7)) <= 300


def test_which_urls_are_meant_as_sitemaps() -> None:
    urls = ("http://h/sitemap.xml", "http://h/a.XML.gz?x", "http://h/", "http://h/a.html")
    assert [is_sitemap(url) for url in urls] == [True, True, False, False]
