"""A run over a site: page by page from the frontier into the topic, and what each leads to into the frontier.

1. What of the site was visited by this crawl before, in a run that was ended, is not asked for again: what it leads to
   is remembered.
2. Every other page is asked for whether it changed. One that did not leads where it led; of one that did the text is
   published, where it is another one.
3. That it was visited is written in the transaction of its record.
4. Once nothing is left to visit, a document is gone whose own page says that it is none; and one to which nothing led,
   if nothing failed. Where something did, it is visited, too, to say so itself.
"""

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from agents.sources import Failure, Listed, Outgoing, PassedOver
from agents.sources.collecting import Collector, Run
from agents.sources.convert import Converted
from agents.sources.convert.convert import Converter
from agents.sources.convert.kinds import HTML
from agents.sources.pages import Crawl as Number
from agents.sources.pages import Page
from agents.sources.publish import Transactions
from agents.sources.reading import Origin, document_of
from agents.sources.state import Row
from agents.sources.web.addresses import REFUSED
from agents.sources.web.aim import Aim
from agents.sources.web.asking import ATTEMPTS, Asking, Visited, clock, passes
from agents.sources.web.fetching import AGENT, Asked, Client, Denied, Fetched, Missing, Moved, Other, Unchanged
from agents.sources.web.frontier import Entry, Frontier
from agents.sources.web.hosts import Hosts
from agents.sources.web.judging import DISALLOWED, DOCUMENT, ELSEWHERE, FAILED, GONE, MOVED, judge
from agents.sources.web.outcomes import HOPS, Outcomes
from agents.sources.web.robots import Robots
from agents.sources.web.sitemap import is_sitemap
from agents.sources.web.sitemaps import entries
from agents.sources.web.urls import host_of, title_of
from agents.terminal import counted
from streams.sections import BELOW

FLUSH_S = 1.0
"""What was visited is written so often, and more often where there is much of it."""
SLOW_S = 10.0
HELP = "(runbook: A crawl is blocked)"


class Crawl:
    """`Work` of one site."""

    def __init__(self, aim: Aim, client: Client, converter: Converter, run: Run) -> None:
        self._aim = aim
        self._plan = aim.plan
        self._client = client
        self._converter = converter
        self._run = run
        self._summary = run.summary
        self._pages = run.state.pages
        self._collector = Collector(aim.seed, run)
        self._hosts = Hosts(
            delay_s=aim.plan.delay_s, concurrency=aim.plan.concurrency, backoff_s=aim.plan.backoff_s, now=clock
        )
        self._to: Transactions | None = None
        self._number = self._progress = 0
        self._complete = self._over = True
        self._before = 0
        self._flushed_at = 0.0
        self._tasks: dict[asyncio.Task[Visited], tuple[Entry, Page | None, float]] = {}

    async def try_out(self) -> None:
        """All of it is asked for, and nothing is published."""
        await self._crawl()

    async def publish_all(self, to: Transactions) -> None:
        """As `Work` says."""
        self._to = to
        await self._crawl()

    async def _crawl(self) -> None:
        last = self._pages.crawl(self._aim.seed)
        fresh = last.over or self._run.options.again or self._to is None
        self._number = last.number + fresh
        self._run.state.begin_listing()
        if fresh and self._to:
            await self._to.publish([], [self._pages.crawl_row(self._aim.seed, Number(self._number, over=False))])
        with Frontier() as self._frontier, tempfile.TemporaryDirectory(prefix="penstock-site-") as folder:
            self._outcomes = Outcomes(self._aim, self._frontier, self._run.state)
            self._asking = Asking(self._client, self._converter, self._hosts, Path(folder))
            self._robots = Robots(self._asking.patiently, Path(folder) / "robots")
            try:
                await self._begin(Path(folder) / "sitemap")
                await self._visit_all()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
            self._summary.passed_over += Counter({ELSEWHERE: self._frontier.count(ELSEWHERE)})
            await self._end()

    async def _begin(self, scratch: Path) -> None:
        """The URL itself, or what the sitemap there names; and what the site's own sitemaps name."""
        seed, named, guessed, beyond = self._aim.seed, list[str](), None, 0
        if is_sitemap(seed):
            named = [seed]
        else:
            self._frontier.offer(seed, 0)
            rules = await self._robots.of(host_of(seed))
            if self._plan.sitemaps and not rules.unreachable:
                named, guessed = list(rules.sitemaps), f"{host_of(seed)}/sitemap.xml"
        async for found in entries(self._asking.patiently, named, guessed, scratch):
            if isinstance(found, Failure):
                self._fail(found.origin, found.reason)
            elif url := self._aim.canonical(found.url, seed):
                self._offer(url, 0, changed=found.changed)
                beyond += not self._aim.scope.has(url)
        if beyond and is_sitemap(seed):
            self._summary.passed_over[f"out of {self._aim.scope}"] += beyond
            if not self._frontier.left:
                self._fail(seed, f"{beyond} pages are out of {self._aim.scope}: `penstock ingest web {host_of(seed)}/`")

    async def _visit_all(self) -> None:
        while True:
            wait_s = await self._start()
            if not self._tasks and not self._frontier.left:
                await self._flush(now=True)
                self._look_again()
                self._outcomes.settle()
                if not self._frontier.left:
                    return
            elif self._tasks:
                timeout = None if wait_s == float("inf") else wait_s
                done, _ = await asyncio.wait(self._tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    entry, known, begun = self._tasks.pop(task)
                    visited = task.result()
                    self._hosts.end(host_of(entry.url), begun, visited.answer)
                    self._handle(entry, known, visited)
                    await self._flush()
            else:
                await self._flush(now=True)
                await asyncio.sleep(min(wait_s, 1.0))
            self._show()
            await self._flush(now=clock() - self._flushed_at >= FLUSH_S)

    def _look_again(self) -> None:
        """Where something failed, documents to which nothing led: each says itself whether it is still there."""
        for url in self._outcomes.unfound() if not self._complete else ():
            room = self._frontier.visited + self._frontier.left < self._plan.max_pages
            if room and not self._hosts.of(host_of(url)).given_up:
                self._frontier.offer(url, self._plan.depth or 0)

    async def _flush(self, *, now: bool = False) -> None:
        if self._to is None:
            return
        if now:
            self._flushed_at = clock()
            await self._collector.flush(self._to)
        else:
            await self._collector.flush_when_full(self._to)

    def _keep(self, row: Row) -> None:
        if self._to:
            self._collector.keep(*row)

    def _show(self) -> None:
        visited = self._frontier.visited - self._before
        left = self._frontier.left + len(self._tasks)
        self._run.report(f"crawling {self._aim.seed}", visited, visited + left)

    async def _start(self) -> float:
        """Ask for as many pages as may be asked for now. Returns for how many seconds there is nothing to do."""
        wait_s = float("inf")
        for host in list(self._frontier.waiting):
            while host in self._frontier.waiting and not self._is_left_alone(host):
                if (host_s := self._hosts.wait_s(host)) > 0:
                    wait_s = min(wait_s, host_s)
                    break
                entry = self._frontier.next(host, clock())
                if entry is None:
                    wait_s = min(wait_s, max(0.0, self._frontier.next_due(host) - clock()))
                    break
                await self._start_one(host, entry)
                await self._flush()
                await asyncio.sleep(0)  # a signal is heard among many that need not be asked for
        return wait_s

    def _is_left_alone(self, host: str) -> bool:
        """Whether nothing of it is visited any more in this run: the next one goes on there, if it ever answered."""
        why = self._hosts.of(host).given_up
        if why:
            left = self._frontier.drop(host)
            self._over = self._over and not self._hosts.of(host).answered
            later = "" if REFUSED in why else f", run it again later {HELP}"
            self._fail(host, f"{why}: the crawl is blocked; {counted(left, 'page')} left{later}")
        return bool(why)

    async def _start_one(self, host: str, entry: Entry) -> None:
        url = entry.url
        if entry.again and not entry.itself:
            await self._flush(now=True)  # then what it leads to is known
        known = self._outcomes.known(url, itself=entry.itself)
        if self._to and known and self._pages.visited(self._aim.seed, url, self._number):
            self._before += not entry.again
            self._follow(entry, known)
            return
        rules = await self._robots.of(host)
        if self._hosts.slow_down(host, rules.delay_s) and rules.delay_s >= SLOW_S:
            self._run.wait(f"the robots.txt of {host} wants {rules.delay_s:.0f} s between two requests")
        if rules.unreachable:
            self._frontier.put_off(entry, 0.0)
            refused = REFUSED in rules.unreachable
            why = rules.unreachable if refused else f"its robots.txt cannot be read ({rules.unreachable})"
            self._hosts.of(host).given_up = why
        elif not rules.allow(url):
            self._disallowed(entry, known)
        elif not entry.again and self._frontier.visited + len(self._tasks) >= self._plan.max_pages:
            self._frontier.put_off(entry, 0.0)
            left = sum(self._frontier.drop(one) for one in list(self._frontier.waiting))
            self._complete = False
            self._run.wait(f"{self._plan.max_pages} pages were visited: {left} more are left out (--max-pages)")
        else:
            usable = self._outcomes.usable(url, None if self._run.options.again else known)
            asked = Asked(url=url, etag=usable.etag, modified=usable.modified)
            task = asyncio.create_task(self._asking.visit(asked, usable.body))
            self._tasks[task] = entry, known, self._hosts.begin(host)

    def _disallowed(self, entry: Entry, known: Page | None) -> None:
        """What it leads to is not known any more: where it was, what only that leads to is not gone."""
        self._frontier.done(entry, DISALLOWED)
        self._summary.pass_over(PassedOver(kind=DISALLOWED))
        if known:
            self._complete = False
            self._stays(entry.url)
        if entry.url == self._aim.seed:
            self._fail(entry.url, f"its robots.txt disallows it to {AGENT}: the crawl is blocked {HELP}")

    def _handle(self, entry: Entry, known: Page | None, visited: Visited) -> None:
        answer = visited.answer
        match answer:
            case Unchanged() if known:
                self._unchanged(entry, known)
            case Fetched() if known and visited.same:
                self._unchanged(entry, replace(known, etag=answer.etag, modified=answer.modified), known)
            case Fetched():
                self._fetched(entry, visited, answer)
            case Moved(to):
                self._moved(entry, self._aim.canonical(to, entry.url))
            case Missing(status) if entry.url == self._aim.seed:
                self._failed(entry, f"it answers {status}, and all begins there")
            case Missing():
                self._became(entry, Page(became=GONE))
            case Denied(status) if entry.url == self._aim.seed or (known and known.became == DOCUMENT):
                self._failed(entry, f"it answers {status}: it is for others {HELP}")
            case Denied(status):
                self._became(entry, Page(became=f"answers {status}"))
            case Other(type=told, etag=etag, modified=modified):
                self._became(entry, Page(became=told, etag=etag, modified=modified))
            case _ if passes(answer) and entry.tries + 1 < ATTEMPTS:
                self._frontier.put_off(entry, clock() + self._plan.backoff_s * 2.0**entry.tries)
            case _:
                why = getattr(answer, "reason", None) or f"it answers {getattr(answer, 'status', '')}"
                self._failed(entry, f"{why}" + (f", {ATTEMPTS} times" if passes(answer) else ""))

    def _unchanged(self, entry: Entry, known: Page, before: Page | None = None) -> None:
        self._summary.unchanged += 1
        if before and known != before:
            self._keep(self._pages.page_row(self._aim.seed, entry.url, known))
        self._follow(entry, known)
        self._visited(entry.url)

    def _fetched(self, entry: Entry, visited: Visited, answer: Fetched) -> None:
        url, converted = entry.url, visited.converted
        if visited.option:
            self._complete = False  # elsewhere it may have been read
            self._stays(url)
            self._frontier.done(entry, answer.kind)
            self._summary.pass_over(PassedOver(kind=answer.kind, option=visited.option))
            return
        if converted is None:
            self._failed(entry, visited.error or "it cannot be read", links=answer.kind == HTML)
            return
        is_elsewhere = partial(self._outcomes.is_elsewhere, url, sure=entry.itself)
        judged = judge(self._aim, url, converted, answer, is_elsewhere)
        page = judged.page
        if not judged.whole:
            self._fail(url, f"it has more links than are followed: the first {len(page.links)} are")
        if page.became == DOCUMENT and not self._publish(entry, converted, answer):
            self._follow(entry, page)
            return
        self._summary.changed += not entry.itself
        self._became(entry, page)

    def _publish(self, entry: Entry, converted: Converted, answer: Fetched) -> bool:
        url, state = entry.url, self._run.state
        self._stays(url)
        moment = converted.timestamp or answer.changed or entry.changed
        heading = next((section.heading for section in converted.sections if section.heading), None)
        title = converted.title or (heading.partition(BELOW)[0] if heading else title_of(url))
        origin = Origin(uri=url, shown=url, relative=url)
        found = document_of(replace(converted, timestamp=moment, title=title), origin, self._aim.ids)
        failure = self._collector.take(url, found, keep=self._to is not None) if isinstance(found, Outgoing) else found
        if failure:
            self._summary.fail(failure)
            self._letter(url, failure)
            return False
        for doc, published in state.left(self._aim.seed, url):
            if self._to:
                self._collector.leave(doc, published, some=True)
        return True

    def _moved(self, entry: Entry, target: str | None) -> None:
        if target is None or not self._aim.scope.has(target):
            if entry.url == self._aim.seed:
                self._failed(entry, f"it leads out of its own site, to {target or 'no URL'}: name that instead")
            else:
                self._became(entry, Page(became="redirected out of the site"))
        elif self._outcomes.goes_round(entry.url, target):
            self._failed(entry, "redirects lead round in a circle")
        elif entry.hops >= HOPS:
            self._failed(entry, f"more than {HOPS} redirects")
        else:
            self._became(entry, Page(became=MOVED, target=target))

    def _became(self, entry: Entry, page: Page) -> None:
        """That is what it is now."""
        self._keep(self._pages.page_row(self._aim.seed, entry.url, page))
        self._follow(entry, page)
        self._visited(entry.url)

    def _visited(self, url: str) -> None:
        self._progress += 1
        self._collector.mend(url)
        self._keep(self._pages.visit_row(self._aim.seed, url, self._number))

    def _follow(self, entry: Entry, page: Page) -> None:
        """What a page leads to is offered; and the page is done.

        A document that is a copy of what was none may be one no more.
        """
        depth, became = self._frontier.depth_of(entry.url), page.became
        if became == DOCUMENT and page.target:
            elsewhere = self._outcomes.is_elsewhere(entry.url, page.target, sure=entry.itself)
            became = ELSEWHERE if elsewhere else DOCUMENT
        self._frontier.done(entry, became, page.target)
        if became == DOCUMENT:
            self._stays(entry.url)
        elif became not in (MOVED, ELSEWHERE) and not entry.again:
            self._summary.pass_over(PassedOver(kind=page.became))
        if page.target:
            self._offer(page.target, depth, hops=entry.hops + 1 if page.became == MOVED else 0)
        for link in page.links:
            self._offer(link, depth + 1)

    def _stays(self, url: str) -> None:
        """Its document, if it has one, is not gone."""
        self._run.state.add_listed(Listed(id=url, tag=""))

    def _failed(self, entry: Entry, reason: str, *, links: bool = True) -> None:
        """It is not known what it is; nor, with `links`, what it leads to."""
        self._frontier.done(entry, FAILED)
        self._stays(entry.url)
        if links:
            self._fail(entry.url, reason)
        else:
            self._summary.fail(Failure(origin=entry.url, reason=reason))
        self._letter(entry.url, Failure(origin=entry.url, reason=reason))

    def _letter(self, url: str, failure: Failure) -> None:
        """The page is a dead letter until it can be read, or nothing leads there."""
        if self._to:
            self._collector.fail(url, failure)

    def _fail(self, origin: str, reason: str) -> None:
        self._complete = False
        self._summary.fail(Failure(origin=origin, reason=reason))

    def _offer(self, url: str, depth: int, *, hops: int = 0, changed: str | None = None) -> None:
        """A page that something leads to, unless it is none of ours."""
        if not self._aim.scope.has(url):
            return
        kind = self._aim.why_not(url)
        if kind:
            if self._frontier.leave(url):
                self._summary.pass_over(PassedOver(kind=kind))
        elif self._plan.depth is not None and depth > self._plan.depth:
            if self._frontier.leave(url, far=True) and self._pages.page(self._aim.seed, url):
                self._complete = False  # it is still there, for all that is known
        else:
            self._frontier.offer(url, depth, hops=hops, changed=changed)

    async def _end(self) -> None:
        """What is gone. Where not all could be read, that is only what says so itself.

        A crawl that is not over stays open for the next run, unless this one did not get any farther: then the next
        one looks at all pages again.
        """
        state, seed = self._run.state, self._aim.seed
        if not self._complete:
            self._summary.incomplete.append(seed)
            state.leave_out(seed, lambda url: not self._outcomes.is_none(url))
        elif not self._run.options.delete_excluded:
            state.leave_out(seed, lambda url: not self._aim.includes(url))
        if self._to is None:
            self._collector.to_delete(complete=True)
            return
        await self._collector.mend_others(self._to, complete=self._over and self._complete)
        await self._flush(now=True)
        if self._complete:
            for url in self._pages.unvisited(seed, self._number):
                self._keep(self._pages.page_row(seed, url, None))
                self._keep(self._pages.visit_row(seed, url, None))
                await self._flush()
        await self._collector.delete_gone(self._to, complete=True)
        waits = self._collector.refused and not self._run.options.watched  # the next run does not visit it all again
        if (self._over or not self._progress) and not waits:
            self._keep(self._pages.crawl_row(seed, Number(self._number, over=True)))
            await self._flush(now=True)
