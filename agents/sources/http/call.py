"""A request, and who sent it."""

import asyncio
from dataclasses import dataclass

from aiohttp.web_request import BaseRequest

from agents.sources.http.problems import ProblemError
from agents.sources.http.tokens import Token

LARGEST_WAIT_S = 300.0
WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`route`: as in the OpenAPI document. `doc_id`: in its path, decoded. `token`: None where none are used.

    `stopping`: set once nothing new is begun.
    """

    request: BaseRequest
    route: str
    doc_id: str
    token: Token | None
    stopping: asyncio.Event

    @property
    def source(self) -> str:
        """In metrics."""
        return f"http/{self.token.name}" if self.token else "http"

    def require_allowed(self, doc_id: str) -> None:
        """Raises ProblemError (403) where the token may not publish this document."""
        if self.token and not self.token.allows(doc_id):
            raise ProblemError(
                403, f"the token {self.token.name} may not publish documents of this id: its prefixes differ"
            )

    @property
    def wait_s(self) -> float | None:
        """How long to wait until a search finds the document; None: not at all. Raises ProblemError (400)."""
        query = self.request.rel_url.query
        wait, told = query.get("wait"), query.get("timeout", str(WAIT_S))
        if wait is None:
            return None
        if wait != "searchable":
            raise ProblemError(400, "`wait` may be `searchable` only")
        try:
            seconds = float(told)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds <= LARGEST_WAIT_S:
            raise ProblemError(400, f"`timeout` is a number of seconds, {LARGEST_WAIT_S:.0f} at most")
        return seconds
