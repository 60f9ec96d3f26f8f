"""What Elasticsearch and its client say when they do not do what was asked, as errors of our own, for people."""

from collections.abc import Iterator
from contextlib import contextmanager

from elasticsearch import ApiError, ConnectionTimeout, SSLError, TransportError
from elasticsearch import ConnectionError as ElasticConnectionError
from elasticsearch.helpers import ScanError

from streams.errors import AwayError, PenstockError, RefusedError

RETRIED = frozenset({429, 500, 502, 503, 504})
INDEX_GONE = "index_not_found_exception"
GONE = frozenset({INDEX_GONE, "security_exception"})
ACCESS = {
    401: " (elasticsearch.api_key, or username and password: are they right, and not revoked?)",
    403: " (ops/elasticsearch has the privileges that are needed)",
}
SHUT = frozenset({"cluster_block_exception", "index_closed_exception"})
"""Somebody, or a full disk, shut the index for a while: that is never a document's fault."""


def index_gone(alias: str) -> RefusedError:
    """What a worker says whose index was deleted, made anew or restored; `alias`: it, or the one for writing."""
    return RefusedError(
        f"{alias.partition('-write-')[0]} is gone: the index, or its registry, was deleted, made anew or restored, or "
        "a new epoch began. `penstock index create`, then start again: claims about an old index are void, and its "
        "topic is processed from the start"
    )


@contextmanager
def translated(url: object, then: str = "") -> Iterator[None]:
    """Whatever the client raises inside is an error of our own outside. `then`: what to do, such as `; try again`."""
    try:
        yield
    except (ApiError, TransportError, ScanError) as exc:
        raise failed(exc, url, then) from exc


def failed(exc: ApiError | TransportError | ScanError, url: object, then: str = "") -> PenstockError:
    """One line about a failed request, for people: AwayError when the same one may succeed later."""
    match exc:
        case ApiError():
            away, told = exc.status_code in RETRIED, answer_of(exc)
        case ScanError():
            away, told = False, f"gave a part of an index only: {exc}"
        case _:
            away = isinstance(exc, ElasticConnectionError | ConnectionTimeout) and not isinstance(exc, SSLError)
            told = f"cannot be reached ({exc.message}): is it up, and is elasticsearch.url right?"
    return (AwayError if away else PenstockError)(f"Elasticsearch at {url} {told}{then}")


def answer_of(exc: ApiError) -> str:
    """The status and the server's own words, cut; with what to look at when access was refused."""
    error = exc.body.get("error", exc.body) if isinstance(exc.body, dict) else exc.body
    reason = str(error.get("reason", error) if isinstance(error, dict) else error)[:300]
    return f"answered {exc.status_code}: {reason}{ACCESS.get(exc.status_code, '')}"
