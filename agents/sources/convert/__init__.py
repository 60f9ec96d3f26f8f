"""Bytes of a file to text: by a child process, which may die, hang or want too much memory, and only it.

kinds     by suffix what can be read, and with which library
formats   one function a format: a path to `Converted`; run in the child alone
epub, rtf  two more of them
builder   what they share: text in parts, dates, the bound of an archive
running   of a PDF's pages what runs along at their edges
decoded   bytes of HTML to characters
pages     of a page of HTML the links, too
child     the process
convert   asks it, bounds it, starts it again
"""

from dataclasses import dataclass, field

from streams.sections import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """What a page of HTML leads to, as it is written there, and where it says that it belongs.

    `robots`: what it asks of crawlers (`noindex`, …), in lower case. `whole`: not one link too many for one page.
    """

    links: tuple[str, ...] = ()
    base: str | None = None
    canonical: str | None = None
    robots: tuple[str, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A document's text, with what the file says of itself. `timestamp`: ISO 8601. Sections are in order, and apart.

    `linked`: of HTML, where it was asked for.
    """

    text: str
    title: str | None = None
    author: str | None = None
    timestamp: str | None = None
    sections: tuple[Section, ...] = field(default=())
    linked: Linked | None = None


class ConversionError(Exception):
    """A file that gives no text, with the reason; another one may."""
