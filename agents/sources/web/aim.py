"""What a crawl is after: where it begins, what is of it, how far it goes, and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass

from agents.sources.convert import Linked
from agents.sources.patterns import Patterns
from agents.sources.reading import Ids
from agents.sources.web.urls import Scope, canonical, goes_round, name_of

EXCLUDED = "excluded"
NO_DOCUMENTS = (
    *(".avif", ".bmp", ".gif", ".ico", ".jpeg", ".jpg", ".png", ".svg", ".tif", ".tiff", ".webp"),
    *(".avi", ".m4a", ".m4v", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".ogg", ".ogv", ".wav", ".webm", ".wmv"),
    *(".css", ".js", ".map", ".mjs", ".wasm", ".eot", ".otf", ".ttf", ".woff", ".woff2"),
    *(".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"),
    *(".apk", ".bin", ".deb", ".dmg", ".exe", ".iso", ".jar", ".msi", ".rpm", ".whl"),
)
"""Suffixes of what nobody needs to ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How far, and how fast. `depth`: links from the beginning. `ignored`: parameters of queries that change nothing.

    `delay_s`, `concurrency`: between two requests of a host, and at once. `backoff_s`: the first of many.
    """

    depth: int | None = None
    max_pages: int = 100_000
    delay_s: float = 0.25
    concurrency: int = 4
    sitemaps: bool = True
    ignored: tuple[str, ...] = ()
    backoff_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """`seed`: where it begins, in its one form."""

    seed: str
    scope: Scope
    patterns: Patterns
    ids: Ids
    plan: Plan

    def canonical(self, url: str, base: str) -> str | None:
        """As `urls.canonical`."""
        return canonical(url, base, self.plan.ignored)

    def includes(self, url: str) -> bool:
        """Whether a page of the site may be a document, by its path."""
        return self.patterns.takes(self.scope.relative(url))

    def takes(self, url: str) -> bool:
        """Whether it is visited, if something leads there."""
        return self.scope.has(url) and self.why_not(url) is None

    def why_not(self, url: str) -> str | None:
        """Why a page of the site is not visited, whatever leads there; None when it is."""
        name = name_of(url).lower()
        suffix = name[name.rfind(".") :] if "." in name else ""
        if suffix in NO_DOCUMENTS:
            return suffix
        if goes_round(url):
            return "a path that goes round"
        return EXCLUDED if url != self.seed and not self.includes(url) else None

    def links(self, url: str, linked: Linked) -> Sequence[str]:
        """Those of a page that stay within the site, in their one form, in order."""
        base = base_of(url, linked)
        found = (self.canonical(link, base) for link in linked.links)
        return list(dict.fromkeys(link for link in found if link and link != url and self.scope.has(link)))


def base_of(url: str, linked: Linked) -> str:
    """What the links of a page are relative to."""
    return (canonical(linked.base, url) if linked.base else None) or url
