"""Bytes of a file to text: by a child process, which may die, hang or want too much memory, and only it.

kinds     by suffix what can be read, and with which library
formats   one function a format: a path to `Converted`; run in the child alone
child     the process
convert   asks it, bounds it, starts it again
"""

from dataclasses import dataclass, field

from streams.sections import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A document's text, with what the file says of itself. `timestamp`: ISO 8601. Sections are in order, and apart."""

    text: str
    title: str | None = None
    author: str | None = None
    timestamp: str | None = None
    sections: tuple[Section, ...] = field(default=())


class ConversionError(Exception):
    """A file that gives no text, with the reason; another one may."""
