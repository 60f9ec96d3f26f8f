"""What became of the pages of a crawl, one beside the other: which is a document, which is none, which is elsewhere."""

from collections.abc import Iterator
from dataclasses import replace

from agents.sources.pages import Page
from agents.sources.state import State
from agents.sources.web.aim import EXCLUDED, Aim
from agents.sources.web.frontier import Frontier
from agents.sources.web.judging import DISALLOWED, DOCUMENT, ELSEWHERE, FAILED, GONE, MOVED, NOINDEX

HOPS = 10
"""From a page to what it leads to by redirects, at most."""
UNKNOWN = (None, FAILED, DISALLOWED)


class Outcomes:
    """Of one run."""

    def __init__(self, aim: Aim, frontier: Frontier, state: State) -> None:
        self._aim = aim
        self._frontier = frontier
        self._state = state

    def is_published(self, url: str) -> bool:
        """Whether there is a document of this page, in the topic as it is now."""
        before = self._state.published(self._aim.ids.prefix + url)
        return before is not None and before.source == self._aim.seed and before.hash is not None

    def known(self, url: str, *, itself: bool) -> Page | None:
        """What is remembered of a page, and with `itself` not that it is a copy. What it leads to is in its form of
        today, on which `--ignore-query` bears."""
        page = self._state.pages.page(self._aim.seed, url)
        if page and page.became == ELSEWHERE and itself:
            return None
        if page is None or not self._aim.plan.ignored:
            return page
        target = self._aim.canonical(page.target, url) if page.target else None
        links = dict.fromkeys(self._aim.canonical(link, url) for link in page.links)
        return replace(page, target=target, links=tuple(link for link in links if link and link != url))

    def unfound(self) -> Iterator[str]:
        """Documents to which nothing led, in their form of today."""
        for url in self._state.unlisted(self._aim.seed):
            now = self._aim.canonical(url, url)
            if now and self._aim.takes(now) and not self._frontier.knows(now):
                yield now

    def settle(self) -> None:
        """Nothing is left to visit: what says that it is a copy, and of what is no document, is visited for itself."""
        for url, target in self._frontier.all_that(ELSEWHERE):
            if not self.is_elsewhere(url, target, sure=True):
                self._frontier.visit_itself(url)

    def usable(self, url: str, known: Page | None) -> Page:
        """What is remembered of a page, if that is all there is to know where it did not change; else nothing is."""
        if known is None or (known.became == EXCLUDED and self._aim.includes(url)):
            return Page(became=GONE)
        return known if known.became != DOCUMENT or self.is_published(url) else Page(became=GONE)

    def is_none(self, url: str) -> bool:
        """Whether a page was visited and said that it is no document; by a redirect, that another one is it."""
        now = self._aim.canonical(url, url) or url
        end = self._end_of(now, "", (MOVED,))[1]
        became = self._frontier.became(end)[0]
        return became in (GONE, NOINDEX, ELSEWHERE) or (became == DOCUMENT and end != url)

    def goes_round(self, url: str, target: str) -> bool:
        """Whether redirects lead from a page to that, and so back to the page."""
        return self._end_of(target, url, (MOVED,))[1] == url

    def is_elsewhere(self, url: str, target: str, *, sure: bool) -> bool:
        """Whether a page that says it is a copy of `target` may go, because there is a document of that.

        What was not visited may become one, unless it is `sure` that nothing is left to visit. What failed still is one
        where it was. A target that leads back to the page is the page.
        """
        passed, end = self._end_of(target, url, (MOVED, ELSEWHERE))
        if end == url:
            return False
        became = self._frontier.became(end)[0]
        if became in UNKNOWN:
            return passed or (became is None and not sure) or self.is_published(end)
        return passed or became == DOCUMENT

    def _end_of(self, url: str, until: str, by: tuple[str, ...]) -> tuple[bool, str]:
        """Whether it is reached over a page that is elsewhere, and where that ends."""
        passed = False
        for _ in range(HOPS + 1):
            became, target = self._frontier.became(url)
            if url == until or became not in by or target is None:
                break
            passed, url = passed or became == ELSEWHERE, target
        return passed, url
