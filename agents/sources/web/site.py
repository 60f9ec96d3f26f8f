"""A site: what a URL leads to, in its scope."""

from collections.abc import Sequence
from dataclasses import dataclass

from agents.sources.collecting import Run, Work
from agents.sources.convert.convert import Converter
from agents.sources.patterns import Patterns
from agents.sources.reading import Ids
from agents.sources.web.aim import Aim, Plan
from agents.sources.web.crawl import Crawl
from agents.sources.web.fetching import TIMES, Client, Times
from agents.sources.web.urls import canonical, scope_of
from streams.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How sites are asked. `contact`: where their owners find us, in the name that we tell. `times`: our patience."""

    contact: str | None = None
    allow_private: bool = False
    times: Times = TIMES


def site_sources(urls: Sequence[str], ids: Ids, patterns: Patterns, plan: Plan, manners: Manners) -> "list[Site]":
    """A source for each URL, in their order, twice the same once. Raises ConfigError for what is none."""
    found: dict[str, Site] = {}
    for url in urls:
        name = canonical(url)
        if name is None:
            shown = f"…@{url.rpartition('@')[2]}" if "@" in url else url  # no password in a log
            raise ConfigError(f"{shown}: a URL such as https://example.org/docs/ is needed, without a login")
        found[name] = Site(name, ids, patterns, plan, manners)
    return list(found.values())


class Site:
    """`Crawled` from one URL, or one sitemap."""

    def __init__(self, url: str, ids: Ids, patterns: Patterns, plan: Plan, manners: Manners) -> None:
        """`url`: in its one form."""
        self._aim = Aim(seed=url, scope=scope_of(url), patterns=patterns, ids=ids, plan=plan)
        self._manners = manners
        self._converter = Converter()
        self._connected: Client | None = None

    @property
    def name(self) -> str:
        """The URL."""
        return self._aim.seed

    async def close(self) -> None:
        """Close the connections, and end the process that converts."""
        await self._converter.close()
        if self._connected:
            await self._connected.close()
        self._connected = None

    def work(self, run: Run) -> Work:
        """A crawl; inside an event loop."""
        if self._connected is None:
            told = self._manners
            self._connected = Client(contact=told.contact, allow_private=told.allow_private, times=told.times)
        return Crawl(self._aim, self._connected, self._converter, run)
