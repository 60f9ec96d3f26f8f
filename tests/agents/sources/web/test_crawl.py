"""Crawls of a real server: what it is asked for, and what is published of it, whatever it answers."""

import asyncio
import gzip
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from aiohttp import web

from agents.sources import Failure
from agents.sources.collecting import Deletes, Options
from agents.sources.web.fetching import Times
from tests.agents.sources.test_failures import standing
from tests.agents.sources.test_run import KilledError
from tests.agents.sources.web.crawling import FAST, HOME, SYNC, Crawled
from tests.kit.website import Special, Website, bomb, generated, page, path_of, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Website]:
    """One for all tests of the module."""
    with serving() as made:
        yield made


@pytest.fixture
def site(server: Website) -> Website:
    """Empty."""
    for table in (server.pages, server.gone, server.moved, server.headers, server.special, server.asked):
        table.clear()
    server.validators = True
    return server


def linking(*links: str, text: str = "Text.", head: str = "") -> str:
    """A page that leads there."""
    return page("Title", text, links, head)


def canonical(to: str) -> str:
    return f'<link rel="canonical" href="{to}">'


def answering(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Special:
    """The same to everybody."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers=headers, body=body)

    return answer


def paths(found: Crawled, site: Website) -> set[str]:
    """Of the documents."""
    return {doc.removeprefix(site.url) for doc in found.texts}


def reasons(failures: list[Failure]) -> str:
    return "\n".join(f"{one.origin}: {one.reason}" for one in failures)


def test_a_second_crawl_fetches_nothing(site: Website) -> None:
    site.pages.update(generated(60))
    crawled = Crawled()
    summary = crawled.crawl(site.url)
    assert (summary.published, summary.changed, summary.failed) == (60, 60, 0)
    assert paths(crawled, site) == set(site.pages)
    assert crawled.texts[site.url + path_of(7)].startswith("Page 7\n\nText 7 of 0.")
    site.asked.clear()
    summary = crawled.crawl(site.url)
    assert site.statuses() == Counter({304: 60})
    assert (summary.published, summary.unchanged, len(crawled.log)) == (0, 60, 60)


def test_without_validators_the_same_bytes_are_not_read_again(site: Website) -> None:
    site.pages.update(generated(12))
    site.validators = False
    crawled = Crawled()
    crawled.crawl(site.url)
    summary = crawled.crawl(site.url)
    assert (summary.published, summary.changed, summary.unchanged) == (0, 0, 12)


def test_edits_deletions_and_redirects(site: Website) -> None:
    site.pages.update(generated(30))
    crawled = Crawled()
    crawled.crawl(site.url)
    site.pages = generated(30, edits={3: 1, 29: 2}, gone={4, 28})
    site.pages["/new"] = site.pages.pop(path_of(20))
    site.moved[path_of(20)] = "/new#part"
    summary = crawled.crawl(site.url)
    assert (summary.published, summary.deleted, summary.failed) == (5, 3, 0)  # two lead to fewer others, too
    assert paths(crawled, site) == set(site.pages)
    assert "Text 29 of 2." in crawled.texts[site.url + path_of(29)]


def test_pages_that_nothing_leads_to_go_and_come_back(site: Website) -> None:
    site.pages.update({"/": linking("a"), "/a": linking("b"), "/b": linking()})
    crawled = Crawled()
    crawled.crawl(site.url)
    site.pages["/a"] = linking(text="No more.")
    assert crawled.crawl(site.url, Options()).gone == 1
    refused = crawled.crawl(site.url, replace(SYNC, max_deletes=Deletes(count=0))).refused
    assert "1 of 3 documents" in str(refused[0])
    site.asked.clear()
    assert crawled.crawl(site.url).deleted == 1
    assert site.statuses() == Counter(), "it went on with the crawl whose deletions were refused"
    assert paths(crawled, site) == {"/", "/a"}
    site.pages["/a"] = linking("b", text="Again.")
    assert crawled.crawl(site.url).published == 2


def test_kills_anywhere_with_edits_between(site: Website) -> None:
    """What was visited in a crawl is not asked for again in it; after the last one all is as it is there."""
    chance = random.Random(7)
    crawled = Crawled()
    edits: dict[int, int] = {}
    for step in range(12):
        gone = set(chance.sample(range(1, 40), 4)) if step % 3 else set[int]()
        edits[chance.randrange(40)] = step
        site.pages = generated(40, edits, gone)
        with suppress(KilledError):
            crawled.crawl(site.url, left=chance.randrange(2, 14))
    site.pages = generated(40, edits, {5, 11})
    crawled.crawl(site.url)  # the last that was killed
    crawled.crawl(site.url)
    wanted = {doc.removeprefix(site.url): text for doc, text in crawled.texts.items()}
    assert wanted.keys() == site.pages.keys()
    for number in set(range(40)) - {5, 11}:
        assert f"Text {number} of {edits.get(number, 0)}." in wanted[path_of(number)]
    last: dict[str, str | None] = {}
    for doc, value in crawled.log:
        assert last.get(doc, "") != value, "repeated"
        last[doc] = value


def test_a_crawl_that_was_killed_asks_for_nothing_twice(site: Website) -> None:
    site.pages.update(generated(40))
    crawled = Crawled()
    with pytest.raises(KilledError):
        crawled.crawl(site.url, left=8)
    before = {doc for doc, _ in crawled.log}
    site.asked.clear()
    summary = crawled.crawl(site.url)
    assert 0 < len(before) == 40 - summary.published
    assert before.isdisjoint(site.url + path for path, _ in site.asked)
    assert set(site.statuses()) == {200}, "what was on its way when it was killed may be counted late"
    site.asked.clear()
    with pytest.raises(KilledError):
        crawled.crawl(site.url, replace(SYNC, again=True), left=8)
    assert site.statuses()[304] == 0
    assert crawled.crawl(site.url).failed == 0


def test_what_aborts_deletes_nothing(site: Website) -> None:
    site.pages.update({"/": linking("a", "b"), "/a": linking("c"), "/b": linking(), "/c": linking()})
    crawled = Crawled()
    crawled.crawl(site.url)
    site.special["/a"] = answering(500)  # so that nobody knows what leads to c
    del site.pages["/b"]
    summary = crawled.crawl(site.url)
    assert "/a: it answers 500, 4 times" in reasons(summary.failures)
    assert (summary.deleted, summary.incomplete) == (1, [f"{site.url}/"])
    assert paths(crawled, site) == {"/", "/a", "/c"}, "what its server says is missing went, and nothing else"
    site.special["/"] = answering(404)
    assert "all begins there" in reasons(crawled.crawl(site.url).failures)
    assert paths(crawled, site) == {"/", "/a", "/c"}
    site.special.clear()
    assert crawled.crawl(site.url).failed == 0


def test_a_page_that_fails_is_a_letter_until_it_can_be_read_or_nothing_leads_there(site: Website) -> None:
    site.pages.update({"/": linking("a", "b"), "/a": linking(), "/b": linking()})
    site.special.update({"/a": answering(500), "/b": answering(500)})
    crawled = Crawled()
    crawled.crawl(site.url, replace(SYNC, dry_run=True))
    assert (crawled.letters, standing(crawled.rows)) == ([], set())
    for _ in range(2):
        crawled.crawl(site.url)
        urls = {f"{site.url}/a", f"{site.url}/b"}
        assert standing(crawled.rows) == urls
        assert {(one.source, one.object, one.reason) for one in crawled.letters} == {
            (f"{site.url}/", url, "it answers 500, 4 times") for url in urls
        }
        assert len(crawled.letters) == 2
    del site.special["/a"]
    crawled.crawl(site.url)
    assert standing(crawled.rows) == {f"{site.url}/b"}
    site.pages["/"] = linking("a")
    crawled.crawl(site.url)
    assert standing(crawled.rows) == set()


def test_a_host_that_is_busy_is_waited_for(site: Website) -> None:
    site.pages.update({"/": linking("a", "b"), "/a": linking(), "/b": linking()})
    left = {"/a": 2, "/b": 1}

    async def busy(request: web.BaseRequest) -> web.StreamResponse:
        left[request.path] -= 1
        if left[request.path] >= 0:
            return web.Response(status=429 if request.path == "/a" else 503, headers={"Retry-After": "0"})
        return web.Response(text=linking(), content_type="text/html")

    site.special.update({"/a": busy, "/b": busy})
    crawled = Crawled()
    assert crawled.crawl(site.url).failed == 0
    assert paths(crawled, site) == {"/", "/a", "/b"}


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (answering(429, {"Retry-After": "86400"}), "wants to be left alone for 86400 s: the crawl is blocked"),
        (answering(503), "times"),
        (answering(403), "requests in a row were refused (403): the crawl is blocked"),
    ],
)
def test_a_crawl_that_is_blocked_says_so_and_is_gone_on_with(site: Website, answer: Special, part: str) -> None:
    site.pages.update(generated(40))
    crawled = Crawled()
    crawled.crawl(site.url)
    before = paths(crawled, site)
    for path in site.pages:
        site.special[path] = answer
    with_known = crawled.crawl(site.url)
    assert with_known.failed
    assert (with_known.deleted, with_known.incomplete) == (0, [f"{site.url}/"])
    fresh = Crawled()
    site.special = {path: answer for path in site.pages if path != "/"}
    if part.startswith("requests"):
        site.pages["/"] = page("Top", "Text.", tuple(site.pages))
        site.special["/"] = answering(403)
        assert "it is for others" in reasons(fresh.crawl(site.url).failures)
    else:
        assert part in reasons(fresh.crawl(site.url).failures)
    site.special.clear()
    assert crawled.crawl(site.url).failed == 0
    assert paths(crawled, site) == before


def test_a_crawl_that_gets_no_farther_is_over(site: Website) -> None:
    """Else what it visited before it was blocked would never be looked at again."""
    site.pages.update({"/": linking("a", "b"), "/b": linking()})
    site.special["/a"] = answering(429, {"Retry-After": "86400"})
    crawled, plan = Crawled(), replace(FAST, concurrency=1)
    for asked in (200, None, 304):
        site.asked.clear()
        assert "the crawl is blocked; 2 pages left" in reasons(crawled.crawl(site.url, plan=plan).failures)
        assert site.asked["/", asked or 0] == (asked is not None)
        assert not site.asked["/b", 200]


def test_pages_that_fail_are_no_reason_to_leave_a_site_alone(site: Website) -> None:
    site.pages["/"] = linking("gone", *(f"bad{number}" for number in range(8)))
    site.pages["/gone"] = linking()
    crawled = Crawled()
    for number in range(8):
        site.special[f"/bad{number}"] = answering(500)
    crawled.crawl(site.url)
    del site.pages["/gone"]
    summary = crawled.crawl(site.url)
    assert (summary.failed, summary.deleted) == (8, 1)


def test_what_always_fails_hides_no_deletion(site: Website) -> None:
    """A page that is gone with its link says so itself; one that is there, and may be hidden, stays and is read; as
    does what leads to a page that fails."""
    names = [f"{number}" for number in range(6)]
    site.pages.update({"/": linking("bad", *names), **{f"/{name}": linking() for name in names}})
    site.pages["/robots.txt"] = f"Sitemap: {site.url}/old.xml\n"
    site.special["/bad"] = answering(500)
    crawled = Crawled()
    crawled.crawl(site.url)
    for name in ("3", "4", "5"):
        del site.pages[f"/{name}"]
    site.moved.update({"/4": "/1", "/0": "/bad"})
    site.pages["/2"] = linking(text="Hidden, and edited.")
    site.pages["/5"] = linking(head='<meta name="robots" content="noindex">')
    site.pages["/"] = linking("bad", "0", "1")
    summary = crawled.crawl(site.url)
    assert {one.origin.removeprefix(site.url) for one in summary.failures} == {"/bad", "/old.xml"}
    assert (summary.deleted, summary.published, summary.incomplete) == (3, 2, [f"{site.url}/"])
    assert paths(crawled, site) == {"/", "/0", "/1", "/2"}
    site.pages["/robots.txt"] = ""
    site.special.clear()
    site.pages["/bad"] = linking()
    assert crawled.crawl(site.url).deleted == 2
    assert paths(crawled, site) == {"/", "/1", "/bad"}, "nothing failed, and nothing leads to it"


def test_a_host_that_never_answers_hides_its_own_pages_alone(site: Website) -> None:
    """The same host by https, where there is nobody: no crawl is held up by that, nor a deletion."""
    dead = site.url.replace("http:", "https:")
    site.pages.update(
        {"/": linking("a", "b", f"{dead}/c"), "/a": linking(), "/b": linking(head=canonical(f"{dead}/b"))}
    )
    crawled = Crawled()
    for edit in range(3):
        site.asked.clear()
        site.pages["/a"] = linking(text=f"Edit {edit}.")
        if edit == 2:
            del site.pages["/b"]
        summary = crawled.crawl(site.url)
        assert "the crawl is blocked" in reasons(summary.failures)
        assert f"Edit {edit}." in crawled.texts[f"{site.url}/a"]
        assert site.asked["/a", 200] == 1
    assert (summary.deleted, paths(crawled, site)) == (1, {"/", "/a"})


def test_parameters_that_are_ignored_later_are_out_of_what_is_remembered(site: Website) -> None:
    site.pages.update({"/": linking("x?utm_a=1", "x?utm_a=2", "y?sid=9&n=1", "r"), "/r": linking("z?sid=1")})
    site.pages.update({path: linking() for path in ("/x", "/x?utm_a=1", "/x?utm_a=2", "/y?sid=9&n=1", "/y?n=1")})
    site.pages.update({"/z": linking(), "/z?sid=1": linking(head=canonical("/r?sid=2"))})
    crawled = Crawled()
    crawled.crawl(site.url)
    site.asked.clear()
    plan = replace(FAST, ignored=("utm_*", "sid"))
    assert crawled.crawl(site.url, plan=plan).failed == 0
    assert paths(crawled, site) == {"/", "/r", "/x", "/y?n=1", "/z"}
    assert not any("sid" in path or "utm" in path for path, _ in site.asked)
    site.special["/r"] = answering(500)
    del site.pages["/x"]
    site.pages["/"] = linking("r")
    assert crawled.crawl(site.url, plan=plan).deleted == 1
    assert paths(crawled, site) == {"/", "/r", "/y?n=1", "/z"}


def test_robots_txt_is_obeyed(site: Website) -> None:
    site.pages.update({"/": linking("a", "private/b", "c"), "/a": linking(), "/private/b": linking(), "/c": linking()})
    site.pages["/robots.txt"] = "User-agent: penstock\nDisallow: /private/\n"
    crawled = Crawled()
    summary = crawled.crawl(site.url)
    assert (paths(crawled, site), summary.failed) == ({"/", "/a", "/c"}, 0)
    assert not any(path == "/private/b" for path, _ in site.asked)
    assert summary.passed_over == {"disallowed by robots.txt": 1}
    site.pages["/robots.txt"] += "Disallow: /a\n"
    summary = crawled.crawl(site.url)
    assert (summary.deleted, summary.incomplete) == (0, [f"{site.url}/"]), "what it led to is not known now"
    site.pages["/robots.txt"] = "User-agent: *\nDisallow: /\n"
    assert "disallows it to penstock" in reasons(crawled.crawl(site.url).failures)
    site.special["/robots.txt"] = answering(503)
    site.asked.clear()
    summary = crawled.crawl(site.url)
    assert "its robots.txt cannot be read (it answers 503)" in reasons(summary.failures)
    assert not site.statuses()
    assert paths(crawled, site) == {"/", "/a", "/c"}


def test_a_delay_that_robots_txt_wants_is_kept(site: Website) -> None:
    site.pages.update({"/": linking("a"), "/a": linking(), "/robots.txt": "User-agent: *\nCrawl-delay: 0.3\n"})
    at: list[float] = []

    async def noted(_: web.BaseRequest) -> web.StreamResponse:
        at.append(asyncio.get_running_loop().time())
        return web.Response(text=linking("a"), content_type="text/html")

    site.special.update({"/": noted, "/a": noted})
    Crawled().crawl(site.url)
    assert at[1] - at[0] >= 0.29


def test_pages_say_that_they_are_none_and_lead_nowhere(site: Website) -> None:
    site.pages.update(
        {
            "/": linking("noindex", "nofollow", "none", "header", "both")
            + '<a href="/ad" rel="nofollow sponsored">Ad</a>',
            "/noindex": linking("below", head='<meta name="Robots" content="NOINDEX, follow">'),
            "/below": linking(),
            "/nofollow": linking("hidden", head='<meta name="penstock" content="nofollow">'),
            "/none": linking("hidden", head='<meta name="robots" content="none">'),
            "/header": linking("hidden"),
            "/both": linking(),
            "/hidden": linking(),
            "/ad": linking(),
        }
    )
    site.headers["/header"] = {"X-Robots-Tag": "penstock: max-snippet:50, nofollow"}
    site.headers["/below"] = {"X-Robots-Tag": "otherbot: noindex, nofollow"}
    site.headers["/both"] = {"X-Robots-Tag": "unavailable_after: 1 Jan 2030, noindex"}
    crawled = Crawled()
    summary = crawled.crawl(site.url)
    assert paths(crawled, site) == {"/", "/below", "/nofollow", "/header"}
    assert summary.passed_over == {"noindex": 3}
    assert not any(path in ("/hidden", "/ad") for path, _ in site.asked)
    assert crawled.crawl(site.url).unchanged == 7


def test_a_page_that_is_elsewhere_is_there_alone(site: Website) -> None:
    site.pages.update(
        {
            "/": linking("a?print=1", "x", "y", "out"),
            "/a?print=1": linking(head=canonical("/a")),
            "/a": linking(head=canonical("/a#top")),
            "/x": linking(head=canonical("y")),
            "/y": linking(head=canonical("x")),
            "/out": linking(head=canonical("https://elsewhere.example/")),
        }
    )
    crawled = Crawled()
    assert crawled.crawl(site.url, plan=replace(FAST, concurrency=1)).failed == 0
    found = paths(crawled, site)
    assert found - {"/x", "/y"} == {"/", "/a", "/out"}
    assert len(found & {"/x", "/y"}) == 1, "each says that it is the other"
    summary = crawled.crawl(site.url)
    assert (summary.published, summary.deleted, paths(crawled, site)) == (0, 0, found)


def test_a_page_that_is_nowhere_else_is_a_document(site: Website) -> None:
    """What it says it is a copy of is missing, is none, fails, or leads back to it; each in any order."""
    site.pages.update(
        {
            "/": linking("slash/", "missing", "noindex", "fails", "chain", "chain2", "early", "loop1", "loop2"),
            "/slash/": linking(head=canonical("/slash")),
            "/missing": linking(head=canonical("/none")),
            "/noindex": linking(head=canonical("/hidden")),
            "/hidden": linking(head='<meta name="robots" content="noindex">'),
            "/fails": linking(head=canonical("/500")),
            "/chain": linking(head=canonical("/chain2")),
            "/chain2": linking(head=canonical("/none")),
            "/early": linking("none2", head=canonical("/none2")),
            "/loop1": linking(head=canonical("/to2")),
            "/loop2": linking(head=canonical("/to1")),
        }
    )
    site.moved.update({"/slash": "/slash/", "/to1": "/loop1", "/to2": "/loop2"})
    site.special["/500"] = answering(500)
    crawled = Crawled()
    summary = crawled.crawl(site.url)
    assert [failure.origin for failure in summary.failures] == [f"{site.url}/500"]
    found = paths(crawled, site)
    assert len(found & {"/loop1", "/loop2"}) == 1, "each says that it is the other"
    wanted = {"/", "/slash/", "/missing", "/noindex", "/fails", "/chain2", "/early"}
    assert found - {"/loop1", "/loop2"} == wanted, "a copy of a copy of nothing is one of a document"
    site.asked.clear()
    summary = crawled.crawl(site.url)
    assert (summary.published, paths(crawled, site), site.asked["/slash/", 304]) == (0, found, 1)
    site.pages |= {"/none": linking(text="There."), "/500": linking()}
    site.special.clear()
    summary = crawled.crawl(site.url)
    assert summary.failed == 0
    assert paths(crawled, site) - {"/loop1", "/loop2"} == {"/", "/slash/", "/noindex", "/early", "/none", "/500"}


def test_a_document_is_kept_when_it_becomes_a_copy_of_nothing(site: Website) -> None:
    site.pages.update({"/": linking("a", "b"), "/a": linking(), "/b": linking()})
    crawled = Crawled()
    crawled.crawl(site.url)
    site.pages["/a"] = linking(text="Edited.", head=canonical("/b"))
    site.pages["/b"] = linking(head=canonical("/old"))
    assert crawled.crawl(site.url).deleted == 1
    assert paths(crawled, site) == {"/", "/b"}
    del site.pages["/b"]
    site.pages["/"] = linking("a")
    assert crawled.crawl(site.url).failed == 0
    assert "Edited." in crawled.texts[f"{site.url}/a"], "its answer is a 304, and what it is a copy of has died"
    assert paths(crawled, site) == {"/", "/a"}


def test_redirects_end(site: Website) -> None:
    site.pages.update({"/": linking("a", "round", "far", "out", "chain0"), "/b": linking()})
    site.moved.update(
        {"/a": "/b", "/round": "/round2", "/round2": "/round", "/far": "//h.example/", "/out": "ftp://x/"}
    )
    site.moved.update({f"/chain{n}": f"/chain{n + 1}" for n in range(20)})
    crawled = Crawled()
    summary = crawled.crawl(site.url)
    assert paths(crawled, site) == {"/", "/b"}
    assert "redirects lead round in a circle" in reasons(summary.failures)
    assert "/chain10: more than 10 redirects" in reasons(summary.failures)
    assert summary.passed_over["redirected out of the site"] == 2
    site.moved["/"] = "https://www.other.example/"
    assert "name that instead" in reasons(crawled.crawl(site.url).failures)


def test_nothing_is_asked_for_where_a_redirect_leads_inside(site: Website) -> None:
    """Nor of the URL itself, without `--allow-private`."""
    site.pages["/"] = linking()
    summary = Crawled().crawl(site.url, manners=replace(HOME, allow_private=False))
    assert "is no public address" in reasons(summary.failures)
    assert not site.asked


def test_bodies_are_bounded_and_may_be_broken(site: Website) -> None:
    names = ("bomb", "huge", "short", "odd", "brotli", "deflate", "raw", "latin", "good")
    site.pages["/"] = linking(*names)

    async def huge(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/html"})
        await answer.prepare(request)
        with suppress(ConnectionError):
            for _ in range(70):
                await answer.write(b" " * 1024**2)
        return answer

    good = linking(text="Good.").encode()
    packed, html = gzip.compress(good), {"Content-Type": "text/html"}
    latin = page("T", "Ärger").encode("latin1")
    site.special.update(
        {
            "/bomb": answering(200, html | {"Content-Encoding": "gzip"}, bomb(70 * 1024**2)),
            "/huge": huge,
            "/short": answering(200, html | {"Content-Encoding": "gzip"}, packed[:-9]),
            "/odd": answering(200, html | {"Content-Encoding": "gzip"}, b"no gzip"),
            "/brotli": answering(200, html | {"Content-Encoding": "br"}, good),
            "/deflate": answering(200, html | {"Content-Encoding": "deflate"}, zlib.compress(good)),
            "/raw": answering(200, html | {"Content-Encoding": "deflate"}, raw_deflate(good)),
            "/latin": answering(200, {"Content-Type": "text/html; charset=iso-8859-1"}, latin),
            "/good": answering(200, html | {"Content-Encoding": "gzip", "ETag": '"ü"'}, packed),
        }
    )
    crawled = Crawled()
    summary = crawled.crawl(site.url)
    said = reasons(summary.failures)
    assert said.count("more than 67108864 bytes, unpacked") == 2
    for part in ("/short: it ends in the midst", "/odd: it cannot be unpacked", "encoded as br"):
        assert part in said
    assert paths(crawled, site) == {"/", "/deflate", "/raw", "/latin", "/good"}
    assert "Ärger" in crawled.texts[f"{site.url}/latin"]


def test_a_body_that_never_ends_is_not_waited_for(site: Website) -> None:
    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/html"})
        await answer.prepare(request)
        await answer.write(b"<html>")
        await asyncio.sleep(600)
        return answer

    site.special["/"] = slow
    summary = Crawled().crawl(site.url, manners=replace(HOME, times=Times(piece_s=0.1)))
    assert "it took too long, 4 times" in reasons(summary.failures)


def raw_deflate(raw: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(raw) + made.flush()


def test_kinds_by_type_and_by_name(site: Website) -> None:
    site.pages["/"] = linking("a.txt", "b.md", "c.png", "d", "e", "f.bin", "table")
    site.pages |= {"/a.txt": "Plain.", "/b.md": "# Mark", "/c.png": "x"}
    site.special["/d"] = answering(200, {"Content-Type": "image/webp"}, b"x")
    site.special["/e"] = answering(200, {"Content-Type": "application/octet-stream"}, b"x")
    site.special["/table"] = answering(200, {"Content-Type": "text/csv", "Last-Modified": MODIFIED}, b"a,b\n1,2\n")
    crawled = Crawled()
    summary = crawled.crawl(site.url)
    assert paths(crawled, site) == {"/", "/a.txt", "/b.md", "/table"}
    wanted = {".png": 1, ".bin": 1, "image/webp": 1, "application/octet-stream": 1}
    assert (summary.passed_over, summary.failed) == (wanted, 0)
    assert crawled.values(f"{site.url}/table")["timestamp"] == "2026-01-30T12:00:00Z"
    titles = [crawled.values(f"{site.url}/{name}")["title"] for name in ("a.txt", "b.md")]
    assert titles == ["a", "Mark"], "by its name, where it has no heading"


MODIFIED = "Fri, 30 Jan 2026 12:00:00 GMT"


def test_sitemaps_lead_to_pages(site: Website) -> None:
    site.pages.update({"/": linking(), "/a": linking(), "/b": linking(), "/docs/c": linking()})
    site.pages["/robots.txt"] = f"Sitemap: {site.url}/index.xml\n"
    sitemap = "<sitemapindex>" + "".join(f"<sitemap><loc>{site.url}/{n}.xml</loc></sitemap>" for n in "123")
    site.pages["/index.xml"] = sitemap + f"<sitemap><loc>{site.url}/index.xml</loc></sitemap></sitemapindex>"
    url = f"<url><loc>{site.url}%s</loc><lastmod>2026-01-30</lastmod></url>"
    site.pages["/1.xml"] = f"<urlset>{url % '/a'}<url><loc>https://elsewhere.example/</loc></url></urlset>"
    packed = gzip.compress(f"<urlset>{url % '/b'}{url % '/docs/c'}</urlset>".encode())
    site.special["/2.xml"] = answering(200, {"Content-Type": "application/gzip"}, packed)
    site.pages["/3.xml"] = '<!DOCTYPE x [<!ENTITY a "b">]><urlset/>'
    crawled = Crawled()
    summary = crawled.crawl(site.url)
    assert paths(crawled, site) == {"/", "/a", "/b", "/docs/c"}
    assert "3.xml: not all of this sitemap can be read: it has a document type" in reasons(summary.failures)
    named = Crawled()
    named.crawl(f"{site.url}/docs/../2.xml")
    assert paths(named, site) == {"/b", "/docs/c"}
    site.pages["/maps/site.xml"] = f"<urlset>{url % '/a'}{url % '/b'}<url><loc>https://h.example/</loc></url></urlset>"
    summary = Crawled().crawl(f"{site.url}/maps/site.xml")
    assert f"3 pages are out of {site.url.removeprefix('http://')}/maps/" in reasons(summary.failures)
    site.pages["/maps/site.xml"] = f"<urlset>{url % '/a'}{url % '/maps/c'}</urlset>"
    site.pages["/maps/c"] = linking()
    summary = Crawled().crawl(f"{site.url}/maps/site.xml")
    assert (summary.failed, summary.passed_over.total(), summary.published) == (0, 1, 1)
    without = Crawled()
    without.crawl(site.url, plan=replace(FAST, sitemaps=False))
    assert paths(without, site) == {"/"}


def test_a_trap_has_an_end(site: Website) -> None:
    async def calendar(request: web.BaseRequest) -> web.StreamResponse:
        number = int(request.query["day"])
        site.special[f"/calendar?day={number + 1}"] = calendar
        links = (f"/calendar?day={number + 1}", f"x/{number}/x/")
        return web.Response(text=linking(*links), content_type="text/html")

    async def deeper(request: web.BaseRequest) -> web.StreamResponse:
        for name in ("a/b/", "x"):
            site.special[f"{request.path}{name}"] = deeper
        return web.Response(text=linking("a/b/"), content_type="text/html")

    site.pages["/"] = linking("/calendar?day=1", "/deep/")
    site.special.update({"/calendar?day=1": calendar, "/deep/": deeper})
    crawled = Crawled()
    summary = crawled.crawl(site.url, plan=replace(FAST, max_pages=50))
    assert (summary.failed, summary.incomplete, len(crawled.texts) <= 50) == (0, [f"{site.url}/"], True)
    assert summary.passed_over["a path that goes round"] == 1
    assert "--max-pages" in crawled.said[-1]
    site.asked.clear()
    crawled.crawl(site.url, plan=replace(FAST, max_pages=50))
    assert site.statuses().total() <= 50, "the next crawl is as long"


def test_depth_is_that_of_the_shortest_way(site: Website) -> None:
    """However late that is found: a slow page leads to it in one link, a fast one in two."""
    late = asyncio.Event()

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.wait_for(late.wait(), 60)
        return web.Response(text=linking("/c"), content_type="text/html")

    async def last(_: web.BaseRequest) -> web.StreamResponse:
        late.set()
        return web.Response(text=linking("/d"), content_type="text/html")

    site.pages.update({"/": linking("a", "slow"), "/a": linking("b"), "/b": linking("c"), "/d": linking("e")})
    site.pages["/e"] = linking()
    site.special.update({"/slow": slow, "/c": last})
    crawled = Crawled()
    crawled.crawl(site.url, plan=replace(FAST, depth=3))
    assert paths(crawled, site) == {"/", "/a", "/b", "/c", "/slow", "/d"}


def test_patterns_and_folders_bound_it(site: Website) -> None:
    site.pages.update({"/docs/": linking("/", "a.html", "drafts/b", "tags?x=1"), "/docs/a.html": linking("drafts/")})
    site.pages.update(
        {"/": linking(), "/docs/drafts/b": linking(), "/docs/drafts/": linking(), "/docs/tags?x=1": linking()}
    )
    crawled = Crawled()
    crawled.crawl(f"{site.url}/docs/")
    assert paths(crawled, site) == {"/docs/", "/docs/a.html", "/docs/drafts/b", "/docs/drafts/", "/docs/tags?x=1"}
    summary = crawled.crawl(f"{site.url}/docs/", exclude=("drafts/", "tags*"))
    assert (summary.deleted, summary.passed_over["excluded"]) == (0, 3)
    summary = crawled.crawl(f"{site.url}/docs/", replace(SYNC, delete_excluded=True), exclude=("drafts/",))
    assert summary.deleted == 2
    fresh = Crawled()
    fresh.crawl(f"{site.url}/docs/", include=("*.html",))
    assert paths(fresh, site) == {"/docs/a.html"}
    fresh.crawl(f"{site.url}/docs/", prefix="web/")
    assert "web/" + f"{site.url}/docs/a.html" in fresh.texts, "an answer that nothing changed is of the other id"


def test_a_dry_run_publishes_and_remembers_nothing(site: Website) -> None:
    site.pages.update(generated(12))
    crawled = Crawled()
    summary = crawled.crawl(site.url, Options(dry_run=True))
    assert (summary.changed, crawled.log, crawled.rows) == (12, [], [])


NAMES = ("a", "b", "c", "d", "e", "f~?q=%C3%BC")


def test_links_of_every_kind(site: Website) -> None:
    site.pages["/"] = (
        '<base href="/sub/"><a href="a">A</a><a href=" b\n">B</a><area href="c"><iframe src="d"></iframe>'
        '<a href="mailto:x@y">M</a><a href="javascript:x()">J</a><a href="http://[">Bad</a><a>None</a><a href="">S</a>'
        '<meta http-equiv="refresh" content="5; URL=\'e\'"><p>Text</p><a href="//other.example/">Out</a>'
        '<a href="f%7e?q=ü#x">F</a>' + "<div>" * 2000
    )
    for name in NAMES:
        site.pages[f"/sub/{name}"] = linking()
    crawled = Crawled()
    assert crawled.crawl(site.url).failed == 0
    assert paths(crawled, site) == {"/", *(f"/sub/{name}" for name in NAMES)}


def test_it_says_who_it_is(site: Website) -> None:
    site.pages["/"] = linking()
    site.agents.clear()
    Crawled().crawl(site.url, manners=replace(HOME, contact="mailto:owner@example.org"))
    (agent,) = site.agents
    assert agent.startswith("Penstock/")
    assert agent.endswith("(+mailto:owner@example.org)")
