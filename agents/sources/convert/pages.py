"""A page of HTML as a crawler wants it: its text, and where it leads. Run in the child process, as `formats`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agents.sources.convert import Converted, Linked, formats
from agents.sources.convert.decoded import decoded

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser

MANY_LINKS = 20_000
LONGEST = 2_000
"""Characters of a link."""
LINKS = "a[href],area[href],frame[src],iframe[src]"
CRAWLERS = ("robots", "penstock")
NOT_FOLLOWED = ("nofollow", "sponsored", "ugc")


def page(path: Path, charset: str | None) -> Converted:
    """Where it has no text, links may be all that it is for. `charset`: as its server says."""
    tree = formats.parsed(decoded(path.read_bytes(), charset))
    linked = _linked(tree)  # before navigation goes
    return replace(formats.of_tree(tree), linked=linked)


def _linked(tree: "LexborHTMLParser") -> Linked:
    links: dict[str, None] = {}
    whole = True
    for node in tree.css(LINKS):
        told = node.attributes
        link = (told.get("href") or told.get("src") or "").strip()
        if not link or len(link) > LONGEST or set((told.get("rel") or "").lower().split()) & set(NOT_FOLLOWED):
            continue
        if len(links) == MANY_LINKS and link not in links:
            whole = False
            break
        links[link] = None
    robots: list[str] = []
    for node in tree.css("meta[name][content]"):
        if (node.attributes.get("name") or "").lower() in CRAWLERS:
            robots += re.split(r"[\s,]+", (node.attributes.get("content") or "").lower()[:LONGEST])
    for node in tree.css("meta[http-equiv][content]"):
        if (node.attributes.get("http-equiv") or "").lower() == "refresh":
            found = re.search(r"url\s*=\s*['\"]?([^'\"]+)", node.attributes.get("content") or "", re.IGNORECASE)
            if found:
                links[found[1].strip()[:LONGEST]] = None
    return Linked(
        links=tuple(links),
        base=_first(tree, "base[href]"),
        canonical=_first(tree, 'link[rel="canonical"][href]'),
        robots=tuple(word for word in robots if word),
        whole=whole,
    )


def _first(tree: "LexborHTMLParser", selector: str) -> str | None:
    node = tree.css_first(selector)
    return (node.attributes.get("href") or "")[: LONGEST + 1] or None if node else None
