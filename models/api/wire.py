"""OpenAI's wire format for embeddings, as many services speak it. Pure.

https://platform.openai.com/docs/api-reference/embeddings

    POST …/embeddings {"model", "input": [text, …], "encoding_format", "dimensions"?}
    200 {"data": [{"index", "embedding": base64 of float32, or a list of numbers}, …], "usage": {"prompt_tokens"}}
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from yarl import URL

from models.manifest import ServiceManifest
from streams.plan import Vectors

PATH = "embeddings"
SAID_CHARS = 300
"""Of what a service says in an error."""
SECRET_WORDS = ("key", "token", "secret", "sig", "password", "auth")


class WrongAnswerError(Exception):
    """It answered 200 with something that cannot be used; the message says why, for people. `cosine`: where
    another model would answer so, of a text whose vector is known; -1 where it has another length."""

    def __init__(self, reason: str, *, cosine: float | None = None) -> None:
        super().__init__(reason)
        self.cosine = cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectored:
    """Vectors of the texts, float32, in their order. `bad`: rows that are zero or not finite. `tokens`: as the service
    counted them; None where it does not say."""

    vectors: Vectors
    bad: tuple[int, ...] = ()
    tokens: int | None = None


def endpoint(url: str) -> str:
    """Where to post to, of the address that people have of a service. Raises ValueError with what is wrong with it.

    `https://x.org/v1` stands for `https://x.org/v1/embeddings`; a query (Azure's `api-version`) stays.
    """
    try:
        parsed = URL(url)
    except ValueError as exc:
        raise ValueError(f"it is no URL: {exc}") from exc
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("it has to begin with http:// or https://, and a host")
    if parsed.user or parsed.password:
        raise ValueError("a login does not belong there: service.key_file names a file with the key")
    if secret := next((name for name in parsed.query if any(word in name.lower() for word in SECRET_WORDS)), None):
        raise ValueError(f"a key does not belong there ({secret}=…): service.key_file names a file with it")
    if parsed.fragment:
        raise ValueError("it has a fragment (#…), which is sent to nobody")
    path = parsed.path.rstrip("/")
    return str(parsed if path.endswith(f"/{PATH}") else parsed.with_path(f"{path}/{PATH}", keep_query=True))


def shown_url(url: str) -> str:
    """For messages and logs: without its query."""
    return str(URL(url).with_query(None))


def body_of(manifest: ServiceManifest, texts: Sequence[str]) -> bytes:
    """A request for the vectors of these texts."""
    return orjson.dumps(
        {"model": manifest.model, "input": list(texts), "encoding_format": manifest.encoding}
        | ({"dimensions": manifest.dims} if manifest.asks_dims else {})
    )


def vectors_in(raw: bytes, count: int, dims: int | None) -> Vectored:
    """The vectors in an answer, scaled to length 1. `dims`: None takes whatever they have, all the same.

    Raises WrongAnswerError where there are not `count` of them, each once, of this length.
    """
    try:
        told = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise WrongAnswerError(f"it answered 200 and no JSON ({len(raw)} bytes)") from exc
    rows = told.get("data") if isinstance(told, dict) else None
    if not isinstance(rows, list):
        raise WrongAnswerError(f"its answer has no list `data`: {said_in(raw)}")
    if len(rows) != count:
        raise WrongAnswerError(f"it gave {len(rows)} vectors of {count} texts")
    found = [_vector(row) for row in _in_order(rows)]
    if not all(map(len, found)):
        raise WrongAnswerError("it gave a vector of 0 dims")
    width = len(found[0]) if dims is None else dims
    if wrong := next((len(one) for one in found if len(one) != width), 0):
        raise WrongAnswerError(f"it gave vectors of {wrong} dims, and {width} are needed", cosine=-1.0)
    return _scaled(np.stack(found), _usage(told))


def _in_order(rows: Sequence[Any]) -> list[Any]:
    """By their `index`; as they come where none has one."""
    if not all(isinstance(row, dict) for row in rows):
        raise WrongAnswerError("its `data` has something else than objects")
    places = [row.get("index") for row in rows]
    if all(place is None for place in places):
        return list(rows)
    by_place = {place: row for place, row in zip(places, rows, strict=True) if type(place) is int}
    if by_place.keys() != set(range(len(rows))):
        raise WrongAnswerError("the `index` of its vectors are not those of the texts, each once")
    return [by_place[place] for place in range(len(rows))]


def _vector(row: dict[str, Any]) -> Vectors:
    given = row.get("embedding")
    try:
        if isinstance(given, str):
            return np.frombuffer(base64.b64decode(given, validate=True), dtype="<f4").astype(np.float32)
        if isinstance(given, list):
            found = np.asarray([np.nan if one is None else one for one in given], dtype=np.float32)
            if found.ndim == 1:
                return found
    except (binascii.Error, ValueError, TypeError, OverflowError) as exc:
        raise WrongAnswerError(f"an `embedding` cannot be read: {exc}") from exc
    raise WrongAnswerError("an `embedding` is neither base64 nor a list of numbers")


def _scaled(vectors: Vectors, tokens: int | None) -> Vectored:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    good = np.isfinite(lengths) & (lengths > 0)
    scaled = np.zeros_like(vectors)
    scaled[good] = vectors[good] / lengths[good, None]
    return Vectored(vectors=scaled, bad=tuple(np.flatnonzero(~good).tolist()), tokens=tokens)


def _usage(told: dict[str, Any]) -> int | None:
    usage = told.get("usage")
    counts = [usage.get(name) for name in ("prompt_tokens", "total_tokens")] if isinstance(usage, dict) else []
    return next((count for count in counts if type(count) is int and count > 0), None)


def said_in(raw: bytes) -> str:
    """What a service says in an error: the message in its JSON, or the text; cut, and without control characters."""
    try:
        told = orjson.loads(raw)
    except orjson.JSONDecodeError:
        told = raw[: 4 * SAID_CHARS].decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(told, dict) and told.get(name):
            told = told[name]
    text = told if isinstance(told, str) else orjson.dumps(told).decode()
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:SAID_CHARS]


def largest_answer(count: int, dims: int | None) -> int:
    """Bytes that an answer may have: more is none. As some services give numbers whatever they are asked for."""
    return 2**20 + count * (dims or 2**16) * 40
