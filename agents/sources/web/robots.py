"""robots.txt (RFC 9309): what of a host may be asked for, how fast, and where its sitemaps are."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from protego import Protego

from agents.sources.web.fetching import AGENT, Answer, Asked, Fetched, Moved
from agents.sources.web.urls import canonical

LARGEST_BYTES = 512 * 1024
"""Of a robots.txt that is read; what is behind is nobody's rule (RFC 9309, 2.5)."""
MANY_HOSTS = 1_000
HOPS = 5
UNREACHABLE = (429, 503)

Get = Callable[[Asked, Path], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one host. `unreachable`: why they are not known, so that nothing of it may be asked for now."""

    parsed: Protego | None = None
    unreachable: str | None = None

    def allow(self, url: str) -> bool:
        """Whether this may be asked for."""
        if self.unreachable:
            return False
        return self.parsed is None or self.parsed.can_fetch(url, AGENT)

    @property
    def delay_s(self) -> float:
        """What it asks for between two requests; 0 where it does not."""
        return float((self.parsed and self.parsed.crawl_delay(AGENT)) or 0.0)

    @property
    def sitemaps(self) -> tuple[str, ...]:
        """That it names."""
        return tuple(self.parsed.sitemaps) if self.parsed else ()


class Robots:
    """Of the hosts that were asked last, for one run."""

    def __init__(self, get: Get, scratch: Path) -> None:
        """`get`: asks once, or several times, and waits as long as the host wants. `scratch`: a file of its own."""
        self._get = get
        self._scratch = scratch
        self._known: OrderedDict[str, Rules] = OrderedDict()

    async def of(self, host: str) -> Rules:
        """By scheme, host and port."""
        if host not in self._known:
            self._known[host] = await self._read(f"{host}/robots.txt")
            if len(self._known) > MANY_HOSTS:
                self._known.popitem(last=False)
        self._known.move_to_end(host)
        return self._known[host]

    async def _read(self, url: str) -> Rules:
        """Where there is none, or none for us, all may be asked for; where nobody knows, nothing."""
        for _ in range(HOPS + 1):
            asked = Asked(url=url, largest=LARGEST_BYTES, cut=True, kinds=False)
            answer = await self._get(asked, self._scratch)
            match answer:
                case Fetched():
                    return Rules(Protego.parse(self._scratch.read_bytes().decode("utf-8-sig", errors="replace")))
                case Moved(to):
                    found = canonical(urljoin(url, to))
                    if found is None:
                        return Rules()
                    url = found
                case _:
                    return _without(answer)
        return Rules()


def _without(answer: Answer) -> Rules:
    """Where it is not there to be read."""
    match answer:
        case _ if (status := getattr(answer, "status", None)) is not None and status not in UNREACHABLE:
            return Rules()
        case _:
            return Rules(unreachable=getattr(answer, "reason", None) or f"it answers {status}")
