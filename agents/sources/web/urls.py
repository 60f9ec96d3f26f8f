"""URLs: one form for all that lead to the same page (RFC 3986, 6.2, and as browsers do), and the scope of a site."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

from agents.sources.reading import stem_of

LONGEST_URL = 2_000
"""Characters. Longer ones come from loops, and a document's id is a keyword."""
REPEATS = 3
"""Of one segment of a path, at most: `/a/b/a/b/a/b/` is a relative link that goes round."""
PORTS = {"http": 80, "https": 443}
_STRIPPED = "".join(map(chr, range(33)))
_ENCODED = re.compile("%([0-9A-Fa-f]{2})")
_STRAY = re.compile("%(?![0-9A-Fa-f]{2})")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HOST = re.compile(r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]")


def canonical(url: str, base: str | None = None, ignored: Sequence[str] = ()) -> str | None:
    """Its one form; relative ones by their base. None for what is none of http, or names nothing that can be asked.

    `ignored`: patterns of query parameters that change nothing, such as `utm_*`. The same again gives the same.
    """
    url = url.strip(_STRIPPED).translate({9: None, 10: None, 13: None})
    before, mark, behind = url.partition("?")
    try:
        parts = urlsplit(urljoin(base or "", before.replace("\\", "/") + mark + behind))
        scheme, host, port = parts.scheme.lower(), _host(parts), parts.port
    except ValueError:
        return None
    if scheme not in PORTS or not host or parts.username is not None:
        return None
    place = host if port in (None, PORTS[scheme]) else f"{host}:{port}"
    path = _without_dots(_encoded(parts.path, "/:@!$&'()*+,;=")) or "/"
    found = urlunsplit((scheme, place, path, _query(parts.query, ignored), ""))
    return found if len(found) <= LONGEST_URL else None


def _host(parts: SplitResult) -> str | None:
    host = (parts.hostname or "").rstrip(".")
    if ":" in host:
        host = f"[{host}]"
    elif not host.isascii():
        host = host.encode("idna").decode().lower()  # UnicodeError is a ValueError
    return host if _HOST.fullmatch(host) else None


def _encoded(text: str, kept: str) -> str:
    """Percent signs before what needs them, and before nothing else; hexadecimal digits in upper case."""

    def one(found: re.Match[str]) -> str:
        byte = int(found[1], 16)
        return chr(byte) if byte in _PLAIN else f"%{byte:02X}"

    return _ENCODED.sub(one, quote(_STRAY.sub("%25", text), safe=kept + "%", errors="replace"))


def _query(query: str, ignored: Sequence[str]) -> str:
    pairs = _encoded(query, "/:@!$&'()*+,;=?").split("&")
    return "&".join(
        pair for pair in pairs if not any(fnmatch.fnmatchcase(pair.partition("=")[0], one) for one in ignored)
    )


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4. An empty segment is one, too."""
    names: list[str] = []
    parts = path.split("/")[1:]
    for number, name in enumerate(parts):
        last = number == len(parts) - 1
        if name == "..":
            if names:
                names.pop()
        elif name != ".":
            names.append(name)
            continue
        if last:
            names.append("")
    return "/" + "/".join(names) if parts else ""


def goes_round(url: str) -> bool:
    """Whether its path repeats itself, as relative links do that lead nowhere: it would have no end."""
    names = [name for name in urlsplit(url).path.split("/") if name]
    return any(names.count(name) > REPEATS for name in set(names))


def host_of(url: str) -> str:
    """Scheme, host and port: what has one robots.txt, and is asked so often."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def name_of(url: str) -> str:
    """The last part of its path."""
    return urlsplit(url).path.rpartition("/")[2]


def title_of(url: str) -> str:
    """Of a page that says none: the last part of its path that has a name, without what says its kind; or its host."""
    parts = urlsplit(url)
    named = [part for part in parts.path.split("/") if part]
    if not named:
        return parts.netloc
    name = unquote(named[-1])
    return name if parts.path.endswith("/") else stem_of(name)


@dataclass(frozen=True, slots=True)
class Scope:
    """A host, with or without `www.`, by http or https, and the folder that a URL is in."""

    place: str
    folder: str

    def __str__(self) -> str:
        return self.place + self.folder

    def has(self, url: str) -> bool:
        """Of a URL in its one form."""
        parts = urlsplit(url)
        return _place(parts) == self.place and parts.path.startswith(self.folder)

    def relative(self, url: str) -> str:
        """Path and query below the folder, for patterns."""
        parts = urlsplit(url)
        return parts.path.removeprefix(self.folder) + (f"?{parts.query}" if parts.query else "")


def scope_of(url: str) -> Scope:
    """As `wget --no-parent`: of `/docs/` and of `/docs/start.html` it is `/docs/`, of `/docs` all."""
    parts = urlsplit(url)
    return Scope(_place(parts), parts.path.rpartition("/")[0] + "/")


def _place(parts: SplitResult) -> str:
    return parts.netloc.removeprefix("www.")
