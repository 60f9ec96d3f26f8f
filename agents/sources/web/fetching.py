"""One request: what is asked, and what comes of it, as a value. Neither redirects nor retries are followed here.

The size of a body is bounded as it is when it is unpacked, while it is read; so is the time that all of it takes.
"""

import email.utils
import errno
import hashlib
import re
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import aiohttp
from yarl import URL

from agents.sources.convert.kinds import HTML, kind_of
from agents.sources.media import media_type
from agents.sources.web.addresses import REFUSED, socket_factory
from agents.sources.web.urls import name_of

LARGEST_BODY = 64 * 1024**2
PIECE_BYTES = 256 * 1024
AGENT = "penstock"
"""What robots.txt, and robots' tags, call us by."""
TYPES = {
    "text/html": HTML,
    "application/xhtml+xml": HTML,
    "text/plain": ".txt",
    "text/rtf": ".rtf",
    "text/markdown": ".md",
    "text/x-rst": ".rst",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/epub+zip": ".epub",
    "application/pdf": ".pdf",
    "application/rtf": ".rtf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.oasis.opendocument.presentation": ".odp",
}
VALUED = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
"""Words of robots' tags that have a value behind a colon."""
_EARLY = re.compile(r" 0\d{3}\b")
"""A year that a header's parser takes for one of two digits."""
FULL = (errno.ENOSPC, errno.EDQUOT)
UNSAID = ("", "application/octet-stream", "binary/octet-stream", "text/plain")
"""Types that say less than a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`etag`, `modified`: of what is known of it. `largest`: bytes; what is more is left out where `cut`.

    `kinds`: only what can be made text of.
    """

    url: str
    etag: str | None = None
    modified: str | None = None
    largest: int = LARGEST_BODY
    cut: bool = False
    kinds: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A body, in a file. `kind`: how it is read. `body`: its hash. `robots`: what its headers ask of us.

    `modified`: `Last-Modified` as it came. `changed`: the same in ISO 8601, unless it is the moment of the answer.
    """

    kind: str
    body: str
    charset: str | None = None
    etag: str | None = None
    modified: str | None = None
    changed: str | None = None
    robots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unchanged:
    """304."""


@dataclass(frozen=True, slots=True)
class Moved:
    """To that, which may be relative."""

    to: str


@dataclass(frozen=True, slots=True)
class Missing:
    """404 or 410."""

    status: int


@dataclass(frozen=True, slots=True)
class Busy:
    """429 or 503. `after_s`: when it wants to be asked again."""

    status: int
    after_s: float | None


@dataclass(frozen=True, slots=True)
class Denied:
    """Another status of 4xx: not for us."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Of a type that is not taken."""

    type: str
    etag: str | None = None
    modified: str | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """No answer, or none that can be used, and why. `passes`: it may be another one the next time.

    `alive`: somebody answered all the same.
    """

    reason: str
    passes: bool
    alive: bool = True


Answer = Fetched | Unchanged | Moved | Missing | Busy | Denied | Other | Broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds: to connect, between two pieces of a body, and for all of it."""

    connect_s: float = 15.0
    piece_s: float = 30.0
    all_s: float = 180.0


TIMES = Times()


class Client:
    """Connections. Environment and cookies count for nothing: a proxy would be asked for what must not be."""

    def __init__(self, *, contact: str | None, allow_private: bool, times: Times = Times()) -> None:
        told = f"Penstock/{version('penstock')} (+{contact})" if contact else f"Penstock/{version('penstock')}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, socket_factory=socket_factory(allow_private=allow_private), ttl_dns_cache=60
            ),
            timeout=aiohttp.ClientTimeout(total=times.all_s, sock_connect=times.connect_s, sock_read=times.piece_s),
            headers={"User-Agent": told, "Accept-Encoding": "gzip, deflate", "Accept": "text/html,*/*;q=0.8"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Twice is harmless."""
        await self._session.close()

    async def get(self, asked: Asked, path: Path) -> Answer:
        """Ask once; a body goes into that file."""
        headers = {"If-None-Match": asked.etag, "If-Modified-Since": asked.modified}
        try:
            async with self._session.get(
                URL(asked.url, encoded=True),
                headers={name: value for name, value in headers.items() if value},
                allow_redirects=False,
            ) as answer:
                return await self._taken(asked, answer, path)
        except aiohttp.ConnectionTimeoutError:
            return Broken("nobody answers", passes=True, alive=False)
        except TimeoutError:
            return Broken("it took too long", passes=True)
        except aiohttp.ClientConnectorCertificateError as exc:
            return Broken(f"its certificate is none that is trusted: {exc.certificate_error}", passes=False)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            if isinstance(exc, OSError) and exc.errno in FULL:
                return no_copy(path, exc)
            reason = " ".join(str(exc).split())[:300].replace(" ssl:default", "") or type(exc).__name__
            if REFUSED in reason:  # said by us, inside of what the client says
                reason = reason[reason.rfind("[") + 1 :].removesuffix("]")
            passes = REFUSED not in reason and not isinstance(exc, ValueError)
            return Broken(reason, passes=passes, alive=not isinstance(exc, aiohttp.ClientConnectorError))

    async def _taken(self, asked: Asked, answer: aiohttp.ClientResponse, path: Path) -> Answer:
        status, headers = answer.status, answer.headers
        if status == 304 and (asked.etag or asked.modified):
            return Unchanged()
        if status in (301, 302, 303, 307, 308) and "Location" in headers:
            return Moved(headers["Location"].encode(errors="surrogateescape").decode(errors="replace"))
        if status in (404, 410):
            return Missing(status)
        if status in (429, 503):
            return Busy(status, _seconds(headers.get("Retry-After")))
        if 400 <= status < 500 and status != 408:
            return Denied(status)
        if status not in (200, 203):
            return Broken(f"it answers {status}", passes=status >= 500 or status == 408)
        media = media_type(headers)
        kind = _kind(media.name, asked.url)
        if asked.kinds and kind is None:
            told = _plain(media.name)
            etag, modified = _plain(headers.get("ETag")), _plain(headers.get("Last-Modified"))
            return Other(type=told or "without a type", etag=etag, modified=modified)
        body = await _read(asked, answer, path)
        if isinstance(body, Broken):
            return body
        return Fetched(
            kind=kind or "",
            body=body,
            charset=media.charset,
            etag=_plain(headers.get("ETag")),
            modified=_plain(headers.get("Last-Modified")),
            changed=changed_at(headers.get("Last-Modified"), headers.get("Date")),
            robots=asked_of_us(headers.getall("X-Robots-Tag", [])),
        )


def no_copy(path: Path, exc: OSError) -> Broken:
    """Of a body, in that file."""
    why = f"no copy can be made in {path.parent} ({exc.strerror or exc}): make room there, or set TMPDIR to a folder"
    return Broken(f"{why} with more", passes=False)


def _plain(header: str | None) -> str | None:
    """None for what cannot be written down."""
    return header if header and header.isascii() and header.isprintable() and len(header) <= 500 else None


def asked_of_us(tags: Iterable[str]) -> tuple[str, ...]:
    """Words such as `noindex`, of values of `X-Robots-Tag`: one may begin with the name of whom it is for."""
    found: list[str] = []
    for tag in tags:
        words = [word.strip().lower() for word in tag[:2_000].split(",")]
        name, mark, first = words[0].partition(":")
        if mark and name.strip() not in VALUED:
            if name.strip() not in (AGENT, "*"):
                continue
            words[0] = first.strip()
        found += words
    return tuple(found)


def _kind(told: str, url: str) -> str | None:
    """By its type; by its name where the type says less."""
    named = kind_of(name_of(url))
    return named if told in UNSAID and named and named != HTML else TYPES.get(told)


async def _read(asked: Asked, answer: aiohttp.ClientResponse, path: Path) -> "str | Broken":
    """The hash of what is in the file then."""
    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        return Broken(f"it is encoded as {encoding[:40]}, which was not asked for", passes=False)
    unpacking = _Unpacking(encoding)
    hashed, left = hashlib.sha256(), asked.largest
    with path.open("wb") as opened:
        try:
            async for packed in answer.content.iter_chunked(PIECE_BYTES):
                for piece in unpacking.pieces(packed):
                    opened.write(piece[:left])
                    hashed.update(piece[:left])
                    left -= len(piece)
                    if left < 0 and asked.cut:
                        return hashed.hexdigest()[:32]
                    if left < 0:
                        return Broken(f"more than {asked.largest} bytes, unpacked", passes=False)
        except zlib.error as exc:
            return Broken(f"it cannot be unpacked: {exc}", passes=True)
    if not unpacking.ended:
        return Broken("it ends in the midst of it", passes=True)
    return hashed.hexdigest()[:32]


class _Unpacking:
    """Gives bounded pieces, however much a few bytes are of."""

    def __init__(self, encoding: str) -> None:
        self._packed = encoding not in ("", "identity")
        self._raw = encoding == "deflate"  # with zlib's header or without: servers do both
        self._inflate = zlib.decompressobj(wbits=47 if self._packed and not self._raw else 15)
        self._first = True

    @property
    def ended(self) -> bool:
        """Whether nothing is missing at its end."""
        return not self._packed or self._first or self._inflate.eof

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """Raises zlib.error."""
        if not self._packed:
            yield packed
            return
        if self._first and self._raw and packed and (packed[0] & 0x0F) != 8:
            self._inflate = zlib.decompressobj(wbits=-15)
        self._first = self._first and not packed
        while packed and not self._inflate.eof:
            yield self._inflate.decompress(packed, PIECE_BYTES)
            packed = self._inflate.unconsumed_tail


def _seconds(told: str | None) -> float | None:
    """Of `Retry-After`: seconds, or a moment."""
    if told is None:
        return None
    if told.strip().isdecimal():
        return float(told.strip()[:9])
    moment = _moment(told)
    return None if moment is None else max(0.0, moment - time.time())


def _moment(told: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(told or "").timestamp()
    except (ValueError, OverflowError):
        return None


def changed_at(modified: str | None, date: str | None) -> str | None:
    """A page that was modified when it was asked for is made anew for everybody: that is no date of it. Nor is a
    year before 1000, of which one of our time would be made."""
    changed, now = _moment(modified) if not _EARLY.search(modified or "") else None, _moment(date)
    if changed is None or changed < 0 or (now is not None and now - changed < 2):
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(changed))
