"""All sitemaps of a site, those that indexes lead to included."""

import gzip
import zlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, cast

from agents.sources import Failure
from agents.sources.web.fetching import Asked, Denied, Fetched, Missing, Moved
from agents.sources.web.robots import Get
from agents.sources.web.sitemap import LARGEST_BYTES, Entry, Reader, SitemapError
from agents.sources.web.urls import canonical

MANY_SITEMAPS = 2_000
PIECE_BYTES = 256 * 1024
GZIP_MAGIC = b"\x1f\x8b"


async def entries(get: Get, named: Sequence[str], guessed: str | None, scratch: Path) -> AsyncIterator[Entry | Failure]:
    """Pages that they name. A failure where one cannot be read to its end; `guessed` may be missing.

    `scratch`: a file of its own.
    """
    waiting, seen = deque(named or ([guessed] if guessed else [])), set[str]()
    while waiting:
        url = canonical(waiting.popleft())
        if url is None or url in seen:
            continue
        if len(seen) == MANY_SITEMAPS:
            yield Failure(origin=url, reason=f"more than {MANY_SITEMAPS} sitemaps: the others are not read")
            return
        seen.add(url)
        answer = await get(Asked(url=url, largest=LARGEST_BYTES, kinds=False), scratch)
        match answer:
            case Moved(to):
                waiting.appendleft(canonical(to, url) or "")
            case Missing() | Denied() if not named:
                pass
            case Fetched():
                try:
                    for entry in _read(scratch):
                        if entry.index:
                            waiting.append(entry.url)
                        else:
                            yield entry
                except SitemapError as exc:
                    if named or not _is_page(scratch):
                        yield Failure(origin=url, reason=f"not all of this sitemap can be read: {exc}")
            case _:
                why = getattr(answer, "reason", None) or f"it answers {getattr(answer, 'status', '')}"
                yield Failure(origin=url, reason=f"this sitemap cannot be read: {why}")


def _read(path: Path) -> "list[Entry]":
    """Raises SitemapError."""
    found, reader, left = list[Entry](), Reader(), LARGEST_BYTES
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        with cast(IO[bytes], gzip.open(raw)) if packed else raw as opened:
            try:
                while piece := opened.read(PIECE_BYTES):
                    left -= len(piece)
                    if left < 0:
                        raise SitemapError(f"more than {LARGEST_BYTES} bytes, unpacked")
                    found += reader.feed(piece)
            except (OSError, EOFError, zlib.error) as exc:
                raise SitemapError(f"it cannot be unpacked: {exc}") from None
            found += reader.feed(b"", last=True)
    return found


def _is_page(path: Path) -> bool:
    """Whether it is one of those that a site has for all that it does not know."""
    with path.open("rb") as opened:
        begin = opened.read(1024).lstrip().lower()
    return begin.startswith((b"<!doctype html", b"<html"))
