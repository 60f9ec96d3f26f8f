"""Any site, edits and kills at random, with a server and a converter in memory: what is reachable is published."""

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents.sources.collecting import Summary
from agents.sources.convert import Converted, Linked
from agents.sources.patterns import Patterns
from agents.sources.reading import Ids
from agents.sources.state import Row, State
from agents.sources.web.aim import Aim, Plan
from agents.sources.web.crawl import Crawl
from agents.sources.web.fetching import Answer, Asked, Broken, Fetched, Missing, Moved, Unchanged
from agents.sources.web.urls import scope_of
from tests.agents.sources.test_run import KilledError, MemoryTransactions, run_of
from tests.agents.sources.web.crawling import SYNC

HOST = "http://h"
NAMES = "abcdef"
Site = dict[str, Any]
"""By name: a text with links, perhaps a `copy` of another one, or `none` at all; `{"to": name}` for a redirect;
`{"fails": True}`; what is missing is missing."""

Steps = list[tuple[Site, list[tuple[int, bool]]]]
"""A site, and the runs over it that are killed: at which transaction, and whether after it."""


class MemoryServer:
    """`Client` and `Converter` of a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.answers: list[tuple[str, type[Any]]] = []

    async def get(self, asked: Asked, path: Path) -> Answer:
        """With an ETag that is of the whole page."""
        await asyncio.sleep(0)
        answer = self._answer(asked, path)
        self.answers.append((asked.url, type(answer)))
        return answer

    def _answer(self, asked: Asked, path: Path) -> Answer:
        told = self.site.get(asked.url.rpartition("/")[2] or "top")
        if told is None or asked.url.endswith(("robots.txt", ".xml")):
            return Missing(404)
        if "to" in told:
            return Moved(f"/{told['to']}")
        if "fails" in told:
            return Broken("it answers 500", passes=False)
        raw = orjson.dumps(told)
        tag = hashlib.sha256(raw).hexdigest()
        if asked.etag == tag:
            return Unchanged()
        path.write_bytes(raw)
        return Fetched(kind=".html", body=tag, etag=tag)

    async def convert_page(self, path: Path, _: str | None) -> Converted:
        """What `_answer` wrote."""
        told = orjson.loads(path.read_bytes())  # noqa: ASYNC240 - small
        links, copy = tuple(f"/{name}" for name in told["links"]), told.get("copy")
        robots = ("noindex",) if told.get("none") else ()
        linked = Linked(links=links, canonical=f"/{copy}" if copy else None, robots=robots)
        return Converted(text=told["text"], linked=linked)


class Topic:
    """What stays between runs."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str | None]] = []
        self.rows: list[Row] = []

    def crawl(self, server: MemoryServer, *, many: int, left: int = -1, after: bool = False) -> Summary:
        """One run. Raises KilledError, with what was committed before kept."""
        plan = Plan(delay_s=0.0, concurrency=2, backoff_s=0.0)
        aim = Aim(seed=f"{HOST}/", scope=scope_of(f"{HOST}/"), patterns=Patterns(), ids=Ids(), plan=plan)
        summary = Summary()
        with State("log") as state:
            state.take(self.rows)
            to = MemoryTransactions(state, many, left, after=after)
            fake: Any = server
            try:
                asyncio.run(Crawl(aim, fake, fake, run_of(state, SYNC, summary)).publish_all(to))
            finally:
                self.log += to.log
                self.rows += to.rows
        return summary

    def crawl_killed(self, steps: Steps, many: int) -> Site:
        """Runs over one site after the other, each killed at a transaction, or after it. Returns the last site."""
        for site, killed in steps:
            for left, after in killed:
                with suppress(KilledError):
                    self.crawl(MemoryServer(site), many=many, left=left, after=after)
        return site

    @property
    def texts(self) -> dict[str, str]:
        """Of what a worker indexes, by name."""
        newest = {doc.removeprefix(f"{HOST}/") or "top": value for doc, value in self.log}
        return {name: orjson.loads(value)["text"] for name, value in newest.items() if value is not None}


def reachable(site: Site) -> dict[str, str]:
    """Texts, by name."""
    found: dict[str, str] = {}
    waiting, seen = ["top"], set[str]()
    while waiting:
        name = waiting.pop()
        told = site.get(name)
        if name in seen or told is None:
            continue
        seen.add(name)
        if "to" in told:
            waiting.append(told["to"])
        elif "text" in told:
            found[name] = told["text"]
            waiting += [*told["links"], told.get("copy", name)]
    return found


names = st.sampled_from(NAMES)
page = st.fixed_dictionaries({"text": st.sampled_from(["x", "y", "z"]), "links": st.lists(names, max_size=3)})
moved = st.fixed_dictionaries({"to": names})
copy = st.fixed_dictionaries({"text": st.just("x"), "links": st.lists(names, max_size=2), "copy": names})
none = st.fixed_dictionaries({"text": st.just("x"), "links": st.lists(names, max_size=2), "none": st.just(True)})
sites = st.fixed_dictionaries({"top": page}, optional=dict.fromkeys(NAMES, page | moved))


def led_to(site: Site, name: str) -> str:
    """By redirects."""
    for _ in site:
        name = site.get(name, {}).get("to", name)
    return name


kills = st.tuples(st.integers(1, 5), st.booleans())
COPIES = st.fixed_dictionaries({"top": page}, optional=dict.fromkeys(NAMES, page | moved | copy | none))
STEPS = st.lists(st.tuples(sites, st.lists(kills, max_size=3)), min_size=1, max_size=4)


def goes_round(site: Site) -> bool:
    """Whether redirects do: that is a failure."""
    for name in site:
        at, hops = name, 0
        while "to" in site.get(at, {}):
            at, hops = site[at]["to"], hops + 1
            if hops > len(site):
                return True
    return False


@hypothesis_settings(max_examples=60)
@given(STEPS, st.integers(1, 3))
def test_after_any_edits_and_kills_all_that_is_reachable_is_there(steps: Steps, many: int) -> None:
    topic = Topic()
    site = topic.crawl_killed(steps, many)
    if goes_round(site):
        return
    topic.crawl(MemoryServer(site), many=many)  # one that was killed before an edit
    topic.crawl(MemoryServer(site), many=many)
    assert topic.texts == reachable(site)
    last: dict[str, str | None] = {}
    for doc, value in topic.log:
        assert last.get(doc, "") != value, "repeated"
        last[doc] = value
    again = MemoryServer(site)
    assert topic.crawl(again, many=many).published == 0
    assert {kind for url, kind in again.answers if url.rpartition("/")[2] in {*reachable(site), ""}} == {Unchanged}


@hypothesis_settings(max_examples=60)
@given(STEPS, st.sets(names, min_size=1), st.integers(1, 3))
def test_what_fails_deletes_only_what_is_missing(steps: Steps, failing: set[str], many: int) -> None:
    topic = Topic()
    for site, _ in steps[:-1]:
        topic.crawl(MemoryServer(site), many=many)
    before = topic.texts
    site = steps[-1][0] | {name: {"fails": True} for name in failing}
    summary = topic.crawl(MemoryServer(site), many=many)
    gone = before.keys() - topic.texts.keys()
    if summary.failed:
        assert before.keys() - site.keys() <= gone, "what is missing is found out, whatever is hidden"
        ends = [site.get(led_to(site, name), {"text": "missing"}) for name in gone & site.keys()]
        assert all("text" in end for end in ends), "it leads where nothing failed"
        assert not any("text" in site[name] for name in gone & site.keys())
    else:
        assert topic.texts == reachable(site)
    assert topic.texts.items() >= reachable(site).items()


@hypothesis_settings(max_examples=60)
@given(st.lists(st.tuples(COPIES, st.lists(kills, max_size=2)), min_size=1, max_size=4), st.integers(1, 3))
def test_what_says_that_it_is_a_copy_is_there_or_elsewhere(steps: Steps, many: int) -> None:
    """Whatever copies and redirects lead to, and in which order it is visited and edited."""
    topic = Topic()
    site = topic.crawl_killed(steps, many)
    if goes_round(site):
        return
    for _ in range(2):
        topic.crawl(MemoryServer(site), many=many)
    texts = topic.texts
    for name, text in reachable(site).items():
        at = name
        for _ in range(2 * len(NAMES)):
            at = at if at in texts else site.get(at, {}).get("copy") or site.get(at, {}).get("to") or at
        assert at in texts or "none" in site[name], f"{name} is not there"
        assert texts.get(name, text) == text
    assert not [name for name in texts if name not in reachable(site) or "none" in site[name]]
    assert topic.crawl(MemoryServer(site), many=many).published == 0
    assert topic.texts == texts
