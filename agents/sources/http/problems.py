"""What a client is told that does not get what it asked for: problem+json (RFC 9457), and never a traceback."""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

import orjson
from aiohttp import web

CONTENT_TYPE = "application/problem+json"
SERVER = {"Server": "penstock"}
"""In place of a version, which whoever looks for a weakness would like to know."""


class ProblemError(Exception):
    """An answer that is none of success. `detail`: for people, with the way on. `more`: further members.

    `retry_after_s`: when the same request may succeed. `close`: the connection cannot be used any more.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.close = close
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, ceil(retry_after_s)))

    def body(self) -> dict[str, object]:
        """As JSON; of a line, too."""
        told: dict[str, object] = {
            "status": self.status,
            "title": HTTPStatus(self.status).phrase,
            "detail": self.detail,
        }
        return self.more | told

    def response(self) -> web.Response:
        """To send."""
        body = orjson.dumps({"type": "about:blank", **self.body()})
        answer = web.Response(status=self.status, body=body, content_type=CONTENT_TYPE, headers=SERVER | self.headers)
        if self.close:
            answer.force_close()
        return answer


def too_large(what: str, limit: int) -> ProblemError:
    """Of what is not read to its end."""
    return ProblemError(413, f"{what} is larger than {limit} bytes: divide it", close=True)


def busy(what: str) -> ProblemError:
    """Of what there is too much of at the same time."""
    return ProblemError(503, f"{what}: try again", retry_after_s=1)
