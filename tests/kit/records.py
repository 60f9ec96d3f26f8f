"""Records of every kind that a producer may send, each made of five parts by name and a seed.

A `Recipe` is what a finding prints: `bake(Recipe(…))` gives the very same bytes again. The parts are drawn from
generators of their own, so that one of them can be made plain without changing the others.
"""

import functools
import hashlib
import json
import random
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import orjson

Headers = tuple[tuple[bytes, bytes | None], ...]

NAMES = ("id", "text", "chunks", "sections", "title", "url", "author", "timestamp", "metadata")
WORDS = ("offset", "partition", "broker", "consumer", "lag", "index", "shard", "vector", "document", "claim", "replay")
DOCUMENTS = 60
"""Documents that the plain keys share: most records are a newer version of one of them."""
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SEQUELS = ("", "commit", "abort")
"""What becomes of a batch: published at once, or in a transaction with this end."""
INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a record is made. `room`: bytes that its largest part may have."""

    seed: int
    room: int = 1000
    key: str = "plain"
    value: str = "plain"
    headers: str = "none"
    timestamp: str = "now"

    @property
    def odd(self) -> tuple[str, ...]:
        """Parts that are not the plain ones, as `key=none`."""
        return tuple(f"{name}={getattr(self, name)}" for name in PARTS if getattr(self, name) != PLAIN[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Baked:
    """A record as it goes over the wire."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int

    @property
    def size_bytes(self) -> int:
        """Of everything, roughly."""
        headers = sum(len(name) + len(value or b"") + 4 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records that are sent together."""

    recipes: tuple[Recipe, ...]
    codec: str = "none"
    sequel: str = ""

    @property
    def odd(self) -> tuple[str, ...]:
        """What is not plain about it."""
        own = (f"codec={self.codec}", f"sequel={self.sequel}")
        parts = [part for part in own if part not in ("codec=none", "sequel=")]
        return tuple(dict.fromkeys([*parts, *(part for recipe in self.recipes for part in recipe.odd)]))


@functools.lru_cache(64)
def bake(recipe: Recipe) -> Baked:
    """The bytes of a record; the same ones every time, but for the time `now`."""
    key, value, headers, timestamp = (
        random.Random(f"{recipe.seed} {name} {getattr(recipe, name)} {recipe.room}") for name in PARTS
    )
    made = KEYS[recipe.key](key, recipe.room)
    return Baked(
        key=made,
        value=VALUES[recipe.value](value, recipe.room, made),
        headers=HEADERS[recipe.headers](headers, recipe.room),
        timestamp_ms=TIMESTAMPS[recipe.timestamp](timestamp),
    )


def recipes(rng: random.Random, *, limit: int, without: frozenset[str] = frozenset()) -> Iterator[Recipe]:
    """Endless. `limit`: of the largest, in bytes; few are that large. `without`: parts to leave out, as `key=none`."""
    choices = {name: [kind for kind in kinds if f"{name}={kind}" not in without] for name, kinds in PARTS.items()}
    while True:
        large = rng.random()
        room = rng.randint(limit // 2, limit) if large < 0.01 else int(10 ** rng.uniform(1, 4.5))
        parts: dict[str, Any] = dict(PLAIN)
        for name in rng.choices([("value",), ("key",), ("headers",), ("timestamp",), tuple(PARTS)], [6, 3, 2, 1, 4])[0]:
            parts[name] = rng.choice(choices[name])
        recipe = Recipe(seed=rng.getrandbits(40), room=min(room, limit), **parts)
        if bake(recipe).size_bytes <= limit:
            yield recipe


def batches(rng: random.Random, count: int, *, limit: int, without: frozenset[str] = frozenset()) -> Iterator[Batch]:
    """Batches with about so many records in all."""
    stream = recipes(rng, limit=limit, without=without)
    codecs = [codec for codec in CODECS if f"codec={codec}" not in without]
    sequels = [sequel for sequel in SEQUELS if f"sequel={sequel}" not in without]
    while count > 0:
        size = rng.choice([1, 1, 2, 5, 20, 100])
        chosen: list[Recipe] = []
        room = limit
        for recipe in (next(stream) for _ in range(min(size, count))):
            if (room := room - bake(recipe).size_bytes) > 0 or not chosen:
                chosen.append(recipe)
        count -= len(chosen)
        sequel = rng.choices(sequels, [6, 1, 1][: len(sequels)])[0]
        if any(recipe.headers == "not UTF-8" for recipe in chosen):
            sequel = ""  # a client library makes the transactions, and takes no such header
        yield Batch(recipes=tuple(chosen), codec=rng.choice(codecs), sequel=sequel)


def plainer(recipe: Recipe) -> Iterator[Recipe]:
    """The same with one part made plain."""
    for name in PARTS:
        if getattr(recipe, name) != PLAIN[name]:
            changes: dict[str, Any] = {name: PLAIN[name]}
            yield replace(recipe, **changes)


# keys


def _plain_key(rng: random.Random, _: int) -> bytes:
    return b"doc-%d" % rng.randrange(DOCUMENTS)


def _long_key(number: int) -> bytes:
    """Around the 480 bytes above which an id is hashed, and the 512 that Elasticsearch takes."""
    size = 470 + 10 * (number % 14)
    return (chr(0x430 + number % 26) * size).encode()[: size - size % 2] if number % 2 else b"%c" % (97 + number) * size


KEYS: dict[str, Callable[[random.Random, int], bytes | None]] = {
    "plain": _plain_key,
    "none": lambda rng, room: None,
    "empty": lambda rng, room: b"",
    "not UTF-8": lambda rng, room: rng.choice([b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80"]) + rng.randbytes(4),
    "long": lambda rng, room: _long_key(rng.randrange(26)),
    "huge": lambda rng, room: b"k" * room,
    "NUL": lambda rng, room: b"doc\0%d" % rng.randrange(9),
    "control": lambda rng, room: b"\x1b[31mred\x1b[0m\r\n\t\x07%d\x7f" % rng.randrange(9),
    "bidi": lambda rng, room: f"\u202eabc\u2066\u200f{rng.randrange(9)}\ufeff\u2028".encode(),
    "looks hashed": lambda rng, room: b"sha256:" + hashlib.sha256(_long_key(rng.randrange(26))).hexdigest().encode(),
    "looks like a chunk": lambda rng, room: b"doc-%d#%d" % (rng.randrange(DOCUMENTS), rng.randrange(3)),
    "case": lambda rng, room: rng.choice([b"Case", b"case", b"CASE", b"case ", b" case", b"c\xcc\xa7", b"\xc3\xa7"]),
    "any": lambda rng, room: any_text(rng, rng.randint(1, 60)).encode(errors="ignore") or b"any",
    "bytes": lambda rng, room: rng.randbytes(rng.randint(1, 40)),
    "path": lambda rng, room: rng.choice([b"..", b".", b"/a/b", b"_doc", b"_bulk", b"%00", b'"', b"\\", b"'", b"*"]),
}


# values


def any_text(rng: random.Random, length: int) -> str:
    """Characters of every kind, lone surrogates included."""
    kinds: list[Callable[[], str]] = [
        lambda: chr(rng.randrange(0x20, 0x7F)),
        lambda: chr(rng.randrange(0x20)),
        lambda: chr(rng.randrange(0x80, 0x2FFF)),
        lambda: chr(rng.randrange(0x300, 0x36F)),  # combining
        lambda: chr(rng.randrange(0x4E00, 0x9FFF)),
        lambda: chr(rng.randrange(0x1F300, 0x1FAFF)) + rng.choice(["", "\u200d", "\ufe0f", "\U0001f3fd"]),
        lambda: rng.choice("\u2028\u2029\ufeff\u200b\u202e\u2066\ufffe\uffff\ufdd0\x85\xa0\xad\u3000"),
        lambda: chr(rng.randrange(0xE000, 0xF8FF)),
        lambda: chr(rng.randrange(0x10000, 0x110000)),
        lambda: rng.choice(" \n\t\r\f\v"),
        lambda: rng.choice(WORDS) + " ",
    ]
    chosen = rng.sample(kinds, rng.randint(1, 4))
    return "".join(rng.choice(chosen)() for _ in range(length))


def sentences(rng: random.Random, length: int) -> str:
    """Ordinary text of about so many characters."""
    text, made = [], 0
    while made < length:
        text.append(" ".join(rng.choices(WORDS, k=rng.randint(3, 14))).capitalize() + rng.choice([". ", "! ", ".\n\n"]))
        made += len(text[-1])
    return "".join(text)[: max(1, length)]


def any_json(rng: random.Random, depth: int = 4) -> Any:
    """A value of any type."""
    scalars: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.choice([0, -1, 1, 2**31, 2**53 + 1, INT64_MAX, -(2**63), 2**64 - 1, rng.getrandbits(63)]),
        lambda: rng.choice([0.0, -0.0, 1e308, 5e-324, 0.1, rng.uniform(-1e9, 1e9)]),
        lambda: any_text(rng, rng.randint(0, 30)).encode(errors="ignore").decode(),
        lambda: rng.choice(
            ["", " ", ".", "a.b", ".a", "_id", "{}", "%s", "null", "NaN", "\0", "2026-01-01", "é" * 400]
        ),
    ]
    kind = rng.random()
    if depth and kind < 0.2:
        return [any_json(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    if depth and kind < 0.45:
        return {any_name(rng): any_json(rng, depth - 1) for _ in range(rng.randint(0, 4))}
    return rng.choice(scalars)()


def dump(value: Any) -> bytes:
    """JSON; also of integers of any size."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def any_name(rng: random.Random) -> str:
    """Of a field."""
    odd = ["", ".", "a.b", "a..b", ".a", "a.", "_id", "_source", "\0", " ", "*", "k" * 300, "doc_id", "custom", "chunk"]
    known = rng.random() < 0.4
    return (
        rng.choice(NAMES if known else odd) if rng.random() < 0.8 else any_text(rng, 5).encode(errors="ignore").decode()
    )


def _full(rng: random.Random, room: int) -> dict[str, Any]:
    return {
        "text": sentences(rng, rng.randint(1, max(2, room))),
        "title": sentences(rng, 30),
        "url": "https://example.org/" + rng.choice(WORDS),
        "author": rng.choice(WORDS),
        "timestamp": rng.choice([1_790_000_000_000, "2026-11-21T13:00:00+01:00", "2026-11-21", 0, -1]),
        "metadata": {
            "lang": "en",
            "tags": rng.choices(WORDS, k=3),
            "page": rng.randrange(99),
            "deep": {"a": {"b": 1.5}},
        },
    }


def _mutated(rng: random.Random, room: int) -> Any:
    """A valid record with some of its nodes replaced by anything."""
    body: Any = _full(rng, min(room, 3000))
    if rng.random() < 0.3:
        del body["text"]
        body["chunks"] = [{"text": sentences(rng, 40), "metadata": {"page": n}} for n in range(rng.randint(0, 4))]
    elif rng.random() < 0.5:
        body |= _sectioned(rng, min(room, 3000))
    for _ in range(rng.randint(1, 3)):
        node: Any = body
        while True:
            places = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not places:
                break
            place = rng.choice(places)
            if isinstance(node[place], dict | list) and rng.random() < 0.6:
                node = node[place]
                continue
            node[place] = any_json(rng)
            break
        if rng.random() < 0.3:
            body[any_name(rng)] = any_json(rng)
    return body


def _sectioned(rng: random.Random, room: int) -> dict[str, Any]:
    """A text with very many sections, or few; mostly in order, and apart."""
    text = sentences(rng, max(2, room // 2))
    count = min(len(text), rng.choice([1, 3, 40, 10**6]), max(1, room // 60))
    bounds = sorted(rng.sample(range(len(text) + 1), count + 1)) if count < len(text) else [0, len(text)]
    sections: list[dict[str, Any]] = [
        {"start": start, "end": end, "page": number // 3 + 1, "heading": rng.choice([*WORDS, None, "A › B", "A"])}
        for number, (start, end) in enumerate(pairwise(bounds))
    ]
    if rng.random() < 0.2:
        rng.choice(sections)[rng.choice(["start", "end", "page"])] = rng.choice([-1, 0, 1, len(text) + 1, 2**40, None])
    return {"text": text, "sections": sections}


def _corrupted(rng: random.Random, room: int) -> bytes:
    """Valid JSON with bytes changed, left out, put in or doubled."""
    raw = bytearray(orjson.dumps(_full(rng, min(room, 3000))))
    for _ in range(rng.choice([1, 1, 2, 8])):
        start = rng.randrange(len(raw) or 1)
        end = min(len(raw), start + rng.choice([1, 1, 2, 16]))
        part = raw[start:end]
        raw[start:end] = rng.choice([b"", rng.randbytes(len(part)), part * 2, b'"', b"\\", b"{", b"[", b"\xff", b"\0"])
    return bytes(raw)


def _deep(rng: random.Random, room: int) -> bytes:
    """Nested as deep as its room allows, in any place."""
    depth = min(rng.choice([19, 20, 21, 100, 250, 252, 254, 256, 300, 1000, 1024, 5000, 10**6]), max(1, room // 6))
    before, after = rng.choice([("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
    nested = (before * depth + "1" + after * depth).encode()
    where = rng.choice(
        [
            b"%b",
            b'{"text":"a","metadata":%b}',
            b'{"text":"a","metadata":{"k":%b}}',
            b'{"text":"a","id":%b}',
            b'{"text":%b}',
            b'{"chunks":%b}',
            b'{"chunks":[{"text":"a","metadata":{"k":%b}}]}',
            b'{"text":"a","timestamp":%b}',
            b'{"text":"a","unknown":%b}',
        ]
    )
    return where % nested if rng.random() < 0.9 else where % nested[: rng.randrange(len(nested))]


def _wide(rng: random.Random, room: int) -> Any:
    count = max(1, room // 12)
    many: Any = rng.choice([{f"k{n}": n for n in range(count)}, [*range(count)], [{"a": 1}] * count, [[]] * count])
    place = rng.choice(["metadata", "text", "id", "chunks", "sections", "unknown", "timestamp", "nested"])
    return {"text": "a", **({"metadata": {"k": many}} if place == "nested" else {place: many})}


def _numbers(rng: random.Random, room: int) -> bytes:
    digits = str(rng.randrange(1, 9)) * min(room, rng.choice([19, 20, 40, 400, 5000, 10**6]))
    number = rng.choice(
        [
            digits,
            "-" + digits,
            digits + ".5",
            "0." + digits,
            "1e" + digits,
            "1e400",
            "-1e400",
            "1e-400",
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "-0.0",
            "00",
            "1.",
            ".5",
            "0x10",
            "1_0",
            str(2**63),
            str(2**64),
            "-9e18",
        ]
    ).encode()
    where = rng.choice(
        [
            b"%b",
            b'{"text":%b}',
            b'{"text":"a","timestamp":%b}',
            b'{"text":"a","metadata":{"n":%b}}',
            b'{"text":"a","id":%b}',
        ]
    )
    return where % number


def _surrogates(rng: random.Random, room: int) -> bytes:
    text = rng.choice(
        [rb"\ud800", rb"\udfff", rb"\ud83d\ude00", rb"\ude00\ud83d", b"\xed\xa0\x80", rb"\u0000", rb"\uD800x"]
    )
    name = rng.choice([b"text", b"title", b"author", b"id", b"url"])
    return rng.choice(
        [
            b'{"text":"a","%b":"%b"}' % (name, text),
            b'{"text":"a","metadata":{"%b":"%b"}}' % (text, text),
            b'{"chunks":[{"text":"%b"}]}' % text,
            b'{"text":"a","%b":1}' % text,
        ]
    )


def _doubled(rng: random.Random, room: int) -> bytes:
    again = orjson.dumps({rng.choice(NAMES): any_json(rng)})[1:-1]
    return b"{" + b",".join([orjson.dumps(_full(rng, 100))[1:-1], again, again, b'"text":"the last one"']) + b"}"


def _chunks(rng: random.Random, room: int) -> Any:
    """Many tiny ones; fewer with metadata each; some bad."""
    style = rng.random()
    if style < 0.4:
        return {"chunks": [{"text": f"{n}"} for n in range(max(1, room // 14))]}
    chunks = [
        {"text": sentences(rng, rng.randint(1, 200)), "metadata": {f"k{k}": n for k in range(rng.randint(0, 5))}}
        for n in range(max(1, min(room // 250, 400)))
    ]
    if style < 0.6:
        rng.choice(chunks)["text"] = any_json(rng)
    if style < 0.7:
        rng.choice(chunks)["metadata"] = any_json(rng)
    return {"chunks": chunks}


def _shared(rng: random.Random, room: int) -> Any:
    """Metadata that every chunk of a long text gets a copy of."""
    half = room // 2
    metadata = {f"key-{n}": rng.choice(WORDS) for n in range(half // 24 + 1)}
    return {"text": sentences(rng, half), "metadata": metadata}


def _unbroken(rng: random.Random, room: int) -> Any:
    """One word, or text without any place to split it at."""
    alphabet = rng.choice(["a", "abcdef0123456789", "ABCxyz+/", "漢字仮名", "é", "\u0301", "🙂", "\u200b", "."])
    return {"text": "".join(rng.choices(alphabet, k=max(1, room // len(alphabet[0].encode()))))}


def _field(rng: random.Random, room: int) -> Any:
    name = rng.choice(["title", "url", "author", "id", "timestamp"])
    text = rng.choice(["x", "é", "\0", "\x1b[2J", "漢", " ", "a b ", "\u202e"]) * rng.choice(
        [1, 100, 8191, 8192, 11000, 33000]
    )
    return {"text": "a", name: text[: max(1, room)]}


def _stamp(rng: random.Random, _: int) -> Any:
    value = rng.choice(
        [
            rng.randint(-(10**20), 10**20),
            rng.choice(["", "now", "0001-01-01", "9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59-14:00"]),
            rng.choice(["0001-01-01T00:00:00+14:00", "2026-W01-1", "20260101", "2026-02-30", "2026-01-01T25:00"]),
            rng.choice([253402300799999, 253402300800000, -62135596800000, -62135596800001, 1.5, 1e300]),
            any_json(rng, 1),
        ]
    )
    return {"text": "a", "timestamp": value}


def _identified(rng: random.Random, _: int, key: bytes | None) -> Any:
    own = (key or b"").decode(errors="replace")
    return {"text": "with an id", "id": rng.choice([own, own, own + "x", None, 1, [own], {"id": own}, "", own.upper()])}


def _dumped(make: Callable[[random.Random, int], Any]) -> Callable[[random.Random, int, bytes | None], bytes]:
    return lambda rng, room, key: dump(make(rng, room))


def _raw(
    make: Callable[[random.Random, int], bytes | None],
) -> Callable[[random.Random, int, bytes | None], bytes | None]:
    return lambda rng, room, key: make(rng, room)


VALUES: dict[str, Callable[[random.Random, int, bytes | None], bytes | None]] = {
    "plain": _dumped(lambda rng, room: {"text": f"Record {rng.random()}: " + sentences(rng, 80)}),
    "null": _raw(lambda rng, room: None),
    "nothing": _raw(lambda rng, room: b""),
    "full": _dumped(_full),
    "empty text": _dumped(lambda rng, room: {"text": ""}),
    "white space": _dumped(
        lambda rng, room: {"text": rng.choice([" ", "\n", "\t", "\u3000", "\u200b", "\r\n"]) * room}
    ),
    "bytes": _raw(lambda rng, room: rng.randbytes(room)),
    "not JSON": _raw(
        lambda rng, room: rng.choice([b"{", b"[]", b"null", b"true", b"\xef\xbb\xbf{}", b'"a"', b"'", b"\0"])
    ),
    "corrupted": _raw(_corrupted),
    "mutated": _dumped(_mutated),
    "deep": _raw(_deep),
    "wide": _dumped(_wide),
    "numbers": _raw(_numbers),
    "surrogates": _raw(_surrogates),
    "doubled": _raw(_doubled),
    "unknown name": _dumped(lambda rng, room: {"text": "a", rng.choice(["x", "tekst", "é"]) * max(1, room // 5): 1}),
    "any text": _dumped(lambda rng, room: {"text": any_text(rng, min(room, 20_000)).encode(errors="ignore").decode()}),
    "unbroken": _dumped(_unbroken),
    "chunks": _dumped(_chunks),
    "sections": _dumped(_sectioned),
    "shared metadata": _dumped(_shared),
    "tree": _dumped(lambda rng, room: {"text": "a", "metadata": {any_name(rng): any_json(rng, 7) for _ in range(4)}}),
    "field": _dumped(_field),
    "timestamp": _dumped(_stamp),
    "id": lambda rng, room, key: dump(_identified(rng, room, key)),
    "any JSON": _dumped(lambda rng, room: any_json(rng, 6)),
}


# headers and timestamps

OURS = ("topic", "partition", "offset", "stage", "exception.message", "exception.class.name", "connector.name")


def _ours(rng: random.Random, _: int) -> Headers:
    """Named like those of a dead letter, as a record has that was once one."""
    names = [f"__connect.errors.{name}".encode() for name in OURS]
    names += [b"penstock.attempt", b"penstock.epoch", b"penstock.value.sha256", b"penstock.value.bytes", b"penstock.x"]
    values: list[bytes | None] = [b"", b"0", b"-1", b"x", b"\xff", None, b"0" * 64]
    return tuple((name, rng.choice(values)) for name in rng.sample(names, rng.randint(1, len(names))))


HEADERS: dict[str, Callable[[random.Random, int], Headers]] = {
    "none": lambda rng, room: (),
    "some": lambda rng, room: ((b"trace", b"00-1-2"), (b"trace", b"again"), ("schlüssel".encode(), b"\xff\0")),
    "null": lambda rng, room: ((b"a", None), (b"", None), (b"", b"")),
    "not UTF-8": lambda rng, room: ((rng.choice([b"\xff", b"a\xc3", b"\xed\xa0\x80"]), rng.randbytes(3)), (b"b", b"c")),
    "many": lambda rng, room: tuple((b"h%d" % n, b"v") for n in range(max(1, min(room // 8, 20_000)))),
    "huge": lambda rng, room: ((b"large", b"h" * room), (b"n" * (room // 4), b"")),
    "ours": _ours,
}

TIMESTAMPS: dict[str, Callable[[random.Random], int]] = {
    "now": lambda rng: int(time.time() * 1000),
    "none": lambda rng: -1,
    "zero": lambda rng: 0,
    "seconds": lambda rng: int(time.time()) - rng.randrange(10**6),
    "microseconds": lambda rng: 1_790_000_000_000_000 + rng.getrandbits(40),
    "nanoseconds": lambda rng: 1_790_000_000_000_000_000 + rng.getrandbits(50),
    "largest": lambda rng: INT64_MAX - rng.randrange(3),
}

PARTS: dict[str, dict[str, Any]] = {"key": KEYS, "value": VALUES, "headers": HEADERS, "timestamp": TIMESTAMPS}
PLAIN = {name.name: name.default for name in fields(Recipe) if name.name in PARTS}


def partition_of(key: bytes | None, partitions: int) -> int:
    """A key belongs to one partition."""
    return zlib.crc32(key or b"") % partitions
