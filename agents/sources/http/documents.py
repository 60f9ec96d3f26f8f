"""One document: published, replaced or deleted. A success is sent after the broker's acknowledgement, never before."""

import orjson
from aiohttp import web

from agents.sources import Failure, Outgoing
from agents.sources.http import Limits
from agents.sources.http.body import whole
from agents.sources.http.call import Call
from agents.sources.http.log import Log, Place
from agents.sources.http.metrics import Metrics
from agents.sources.http.problems import ProblemError
from agents.sources.http.room import Room
from agents.sources.http.uploads import Uploads, kind_in
from agents.sources.http.waiting import Waiting
from agents.sources.reading import checked


class Documents:
    """`PUT` and `DELETE` of `/documents/{id}`."""

    def __init__(self, log: Log, waiting: Waiting, uploads: Uploads, held: Room, limits: Limits) -> None:
        self._log = log
        self._waiting = waiting
        self._uploads = uploads
        self._held = held
        self._limits = limits

    async def put(self, call: Call) -> web.StreamResponse:
        """Publish it. Raises ProblemError."""
        wait_s, kind = call.wait_s, kind_in(call)
        self._require_document(call)
        await self._log.require_room()
        if kind is not None:
            outgoing = await self._uploads.document(call, kind)
            with self._held.held(len(outgoing.value or b"")):
                place = await self._log.publish(outgoing)
        else:
            limit = self._log.largest
            async with whole(call.request, "the document", limit, self._held, idle_s=self._limits.idle_s) as body:
                place = await self._log.publish(_checked(call.doc_id, body))
        return await self._answer(call, place, wait_s)

    async def delete(self, call: Call) -> web.StreamResponse:
        """Publish its deletion, whether or not there is such a document. Raises ProblemError."""
        wait_s = call.wait_s
        self._require_document(call)
        place = await self._log.publish(_checked(call.doc_id, None))
        return await self._answer(call, place, wait_s)

    def _require_document(self, call: Call) -> None:
        """Raises ProblemError where the id is none, or is not the token's."""
        _checked(call.doc_id, None)
        call.require_allowed(call.doc_id)

    async def _answer(self, call: Call, place: Place, wait_s: float | None) -> web.Response:
        told: dict[str, object] = {"id": call.doc_id, **as_json(place)}
        status = 200
        if wait_s is not None:
            found = await self._waiting.until_searchable(call.doc_id, place, wait_s)
            if found.state == "rejected":
                raise ProblemError(
                    422,
                    "the workers could not make vectors of it, and it is a dead letter: `penstock dlq list` has the "
                    "reason; the older version stays, where there is one",
                    more={**told, "state": found.state},
                )
            told |= {"state": found.state} | ({"detail": found.why} if found.why else {})
            status = 202 if found.state == "published" else 200
        return web.Response(status=status, body=orjson.dumps(told), content_type="application/json")


def as_json(place: Place) -> dict[str, object]:
    """Members of an answer."""
    return {"topic": place.topic, "partition": place.partition, "offset": place.offset}


def _checked(doc_id: str, value: bytes | None) -> Outgoing:
    made = checked(doc_id.encode(), value, doc_id)
    if isinstance(made, Failure):
        raise ProblemError(422, made.reason)
    return made


def outcome_of(problem: ProblemError) -> str:
    """In `Metrics.objects`."""
    if problem.status in (401, 403, 413, 415, 429):
        return "refused"
    return "failed" if problem.status >= 500 else "invalid"


def count(metrics: Metrics, call: Call, problem: ProblemError | None) -> None:
    """What became of the one document of a call."""
    done = "deleted" if call.request.method == "DELETE" else "published"
    rejected = problem is not None and problem.more.get("state") == "rejected"  # published all the same
    metrics.count(call.source, done if problem is None or rejected else outcome_of(problem))
