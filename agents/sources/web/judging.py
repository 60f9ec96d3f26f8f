"""What a page is that was read: a document, or what else; and what it leads to."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from agents.sources.convert import Converted, Linked
from agents.sources.pages import Page, fitting
from agents.sources.web.aim import EXCLUDED, Aim, base_of
from agents.sources.web.fetching import Fetched

DOCUMENT, MOVED, GONE = "document", "moved", "gone"
FAILED, DISALLOWED = "failed", "disallowed by robots.txt"
ELSEWHERE, NOINDEX, EMPTY = "elsewhere by its rel=canonical", "noindex", "without text"


@dataclass(frozen=True, slots=True)
class Judged:
    """`whole`: it has not more links than are followed."""

    page: Page
    whole: bool


def judge(aim: Aim, url: str, converted: Converted, answer: Fetched, is_elsewhere: Callable[[str], bool]) -> Judged:
    """By its own word, and its server's. `is_elsewhere`: whether what it says it is a copy of is a document, or may be.

    Its canonical URL is believed where that is of this site. Of a document that is kept: it may come into being.
    """
    linked = converted.linked or Linked()
    robots = {*answer.robots, *linked.robots}
    links = aim.links(url, linked) if not robots & {"nofollow", "none"} else ()
    kept = fitting(url, links)
    page = Page(became=DOCUMENT, etag=answer.etag, modified=answer.modified, body=answer.body, links=kept)
    target = aim.canonical(linked.canonical, base_of(url, linked)) if linked.canonical else None
    copied = target if target and target != url and aim.takes(target) else None
    if robots & {"noindex", "none"}:
        page = replace(page, became=NOINDEX)
    elif copied and is_elsewhere(copied):
        page = replace(page, became=ELSEWHERE, target=copied)
    elif not converted.text.strip():
        page = replace(page, became=EMPTY)
    elif not aim.includes(url):
        page = replace(page, became=EXCLUDED)
    else:
        page = replace(page, target=copied)
    return Judged(page, whole=linked.whole and len(kept) == len(links))
