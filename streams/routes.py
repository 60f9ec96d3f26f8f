"""Which model a document goes to: the first route whose conditions all hold, else the default one. Pure.

A function of the record and of the index contract alone, so a replay never takes another route. Each model has a field
of its own for its vectors; a document's chunks are written with one of them, and replaced as a whole.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import cache
from typing import Any

import orjson

from streams.form import is_own
from streams.language import recognised
from streams.plan import Space, told_language
from streams.record import Document

DEFAULT = "default"
"""The route of what no other one takes: to `model.name`."""
ROUTE_HEADER = "penstock.route"
"""Of a record that is made again from its chunks: the route that these were written by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """All that are given must hold.

    `min_chars`, `max_chars`: of the text, both included, without the white space around it, which chunks do not keep.
    `language`: its tag, as the producer says in `metadata.language`, or as recognised. `source`: patterns (`*`, `?`,
    `[…]`) of the document's URL. `metadata`, `header`: for each name the values that it may have.
    """

    min_chars: int | None = None
    max_chars: int | None = None
    language: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`model`: by its name. `vector`: the field of its vectors."""

    name: str
    model: str
    vector: str
    when: Conditions


def route_of(document: Document, routes: Sequence[Route]) -> Route | None:
    """The one that a document takes; None: the default. Recognises the language only where a route asks for it."""
    texts = texts_of(document)
    if not texts:
        return None  # a deletion has no vectors
    return next((route for route in routes if _holds(document, texts, route)), None)


def texts_of(document: Document) -> list[str]:
    """What a document says; nothing for a deletion."""
    if document.chunks:
        return [chunk.text for chunk in document.chunks]
    return [document.text] if document.text and document.text.strip() else []


def _holds(document: Document, texts: Sequence[str], route: Route) -> bool:
    when, chars = route.when, sum(len(text.strip()) for text in texts)
    if when.min_chars is not None and chars < when.min_chars:
        return False
    if when.max_chars is not None and chars > when.max_chars:
        return False
    if when.source and not any(_pattern(one).match(document.url or "") for one in when.source):
        return False
    if any(not _has(document.metadata.get(name), values) for name, values in when.metadata.items()):
        return False
    if when.header and not _has_headers(document, route):
        return False
    return not when.language or (told_language(document.metadata) or recognised(texts)) in when.language


def _has_headers(document: Document, route: Route) -> bool:
    """The last header of a name counts. A record that is made of chunks has none but the route that these took."""
    headers = dict(document.record.headers)
    if ROUTE_HEADER in headers and is_own(document.record):
        return headers[ROUTE_HEADER] == route.name.encode()
    told = {name: (value or b"").decode(errors="replace") for name, value in headers.items()}
    return all(told.get(name) in values for name, values in route.when.header.items())


def _has(value: Any, wanted: Iterable[str]) -> bool:
    """Whether a value, or one of a list, is one of these; numbers and booleans are compared as JSON has them."""
    found = value if isinstance(value, list) else [value]
    return any(_text(one) in wanted for one in found if one is not None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A document with the space where its vectors belong, and the route by which it comes there; None where there are
    none.

    Its content hash tells the space, too: what goes elsewhere than before has changed, though it says the same.
    `elsewhere`: the hashes that it has in other spaces, and whether it may stay there.
    """

    document: Document
    space: Space
    route: str | None = None
    elsewhere: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Of one index. `spaces`: of its models, the default one first; each route's field is one of theirs. `refuge`: the
    route that documents take, whatever their own, while the budget of a day is used up."""

    routes: Sequence[Route]
    spaces: Sequence[Space]
    refuge: str | None = None

    def place(self, document: Document, *, spent: bool = False, begun: str | None = None) -> Placed:
        """By its own route, or by the refuge where the budget is `spent`; but where it is `begun` in a space, by the
        hash that it has there, it stays: a replay must not mix two of them."""
        default = self.spaces[0]
        if not self.routes:
            return Placed(document=document, space=default)
        if not texts_of(document):
            return Placed(document=document, space=default, route=DEFAULT)
        own = route_of(document, self.routes)
        name = own.name if own else DEFAULT
        home, refuge = self.space_of(name), self.space_of(self.refuge or name)
        hashes = {self._told(document, space): space for space in self.spaces}
        space = hashes.get(begun or "", refuge if spent else home)
        if space is not home:
            name = self.refuge if self.refuge and space is refuge else self._any_to(space)
        return Placed(
            document=replace(document, content_hash=self._told(document, space)),
            space=space,
            route=name,
            elsewhere={told: one in (home, refuge) for told, one in hashes.items() if one is not space},
        )

    def space_of(self, name: str) -> Space:
        """Where a route ends."""
        vectors = {route.name: route.vector for route in self.routes}
        return next((one for one in self.spaces if one.names.vector == vectors.get(name)), self.spaces[0])

    def _any_to(self, space: Space) -> str:
        return next((route.name for route in self.routes if route.vector == space.names.vector), DEFAULT)

    def _told(self, document: Document, space: Space) -> str:
        """The content hash of a document in a space."""
        if space is self.spaces[0]:
            return document.content_hash
        return hashlib.sha256(f"{document.content_hash} {space.names.vector}".encode()).hexdigest()
