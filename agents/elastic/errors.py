"""What Elasticsearch and its client say when they do not do what was asked, as errors of our own, for people."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from elasticsearch import ApiError, SSLError, TransportError
from elasticsearch.helpers import ScanError

from streams.errors import AwayError, PenstockError, RefusedError

INDEX_GONE = "index_not_found_exception"
EXISTS = "resource_already_exists_exception"
GONE = frozenset({INDEX_GONE, "security_exception"})
ACCESS = {
    401: " (elasticsearch.api_key, or username and password: are they right, and not revoked?)",
    403: " (ops/elasticsearch has the privileges that are needed)",
}
INDEX_CLOSED = "index_closed_exception"
SHUT = frozenset({"cluster_block_exception", INDEX_CLOSED})
"""Somebody, or a full disk, shut the index or the cluster for a while: that is never a document's fault."""
NO_TLS = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG")
"""What the several OpenSSL say of an answer in plain text."""
CONNECTING = re.compile(r"Cannot connect to host \S+ ssl:\S+ \[(.*)\]", re.DOTALL)
"""How aiohttp says it; `ssl:default` of http://, too."""


def passes(status: int, kind: str | None) -> bool:
    """Whether the same request, or item of a bulk, may succeed later, by itself. `kind`: the type of its error."""
    return status in (408, 429) or status >= 500 or kind in SHUT


def kind_of(exc: ApiError) -> str | None:
    """The type of the error in an answer; None where none is told, as by something else than Elasticsearch."""
    kind = _error_in(exc).get("type")
    return kind if isinstance(kind, str) else None


def index_gone(alias: str) -> RefusedError:
    """What a worker says whose index was deleted, made anew or restored; `alias`: it, or the one for writing."""
    return RefusedError(
        f"{alias.partition('-write-')[0]} is gone: the index, or its registry, was deleted, made anew or restored, or "
        "a new epoch began. `penstock index create`, then start again: claims about an old index are void, and its "
        "topic is processed from the start. Was there never one of this name? Then elasticsearch.alias is another's"
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
            away, told = passes(exc.status_code, kind_of(exc)), answer_of(exc)
            then = then if away else ""  # the same once more has the same answer
        case ScanError():
            away, told = False, f"gave a part of an index only: {exc}"
        case _:
            away = not isinstance(exc, SSLError)
            told = f"cannot be reached ({_reason(exc)}): is it up, and is elasticsearch.url right?"
            if NO_TLS.search(exc.message):
                told = "answers without TLS: is it http:// in elasticsearch.url?"
    return (AwayError if away else PenstockError)(f"Elasticsearch at {url} {told}{then}")


def _reason(exc: TransportError) -> str:
    """The client's own words, but where these are Python's for an address."""
    found = CONNECTING.fullmatch(exc.message)
    reason = found[1] if found else exc.message
    return "no connection" if "Connect call failed" in reason else reason


def answer_of(exc: ApiError) -> str:
    """The status and the server's own words, cut, with their cause; and what to look at when access was refused."""
    error, kind = _error_in(exc), kind_of(exc)
    causes = [cause for cause in error.get("root_cause") or [] if isinstance(cause, dict)]
    said = [str(each.get("reason")) for each in (error, *causes[:1]) if each.get("reason")]
    reason = ": ".join(dict.fromkeys(said)) or str(error or exc.body)
    if kind == INDEX_CLOSED:
        index = error.get("index") or "the index"
        reason = f"{index} is closed: open it (`POST /{index}/_open`)"
    access = "" if kind in SHUT else ACCESS.get(exc.status_code, "")
    return f"answered {exc.status_code}: {reason[:400]}{access}"


def _error_in(exc: ApiError) -> dict[str, Any]:
    error = exc.body.get("error") if isinstance(exc.body, dict) else None
    return error if isinstance(error, dict) else {"reason": error} if error else {}
