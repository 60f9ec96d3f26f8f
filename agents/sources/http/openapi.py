"""The interface as an OpenAPI 3.1 document. A test holds it against the routes, and answers against its schemas."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from agents.sources.http.call import LARGEST_WAIT_S, WAIT_S
from agents.sources.http.lines import TYPES as LINES
from agents.sources.http.problems import CONTENT_TYPE
from agents.sources.http.uploads import JSON, TYPES
from streams.record import MAX_ID_CHARS

_PLACE = {
    "id": {"type": "string", "description": "The document's id: the record's key."},
    "topic": {"type": "string"},
    "partition": {"type": "integer", "minimum": 0},
    "offset": {"type": "integer", "minimum": 0},
}
_STATE = {
    "type": "string",
    "enum": ["searchable", "deleted", "superseded", "published", "rejected"],
    "description": "searchable: a search finds it; deleted: a search does not find it any more (a DELETE, or an empty "
    "text); superseded: a newer record of the document is there; published: not known in time, and still on its way; "
    "rejected: a dead letter.",
}
_TEXT = {"type": ["string", "null"]}
_SCHEMAS: dict[str, Any] = {
    "Document": {
        "type": "object",
        "description": "A document, as a record's value. Exactly one of `text` and `chunks`; an empty text deletes it.",
        "properties": {
            "id": {"type": "string", "maxLength": MAX_ID_CHARS, "description": "In a path: the same, or left out."},
            "text": _TEXT,
            "chunks": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["text"],
                    "properties": {"text": {"type": "string"}, "metadata": {"type": ["object", "null"]}},
                    "additionalProperties": False,
                },
            },
            "sections": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["start", "end"],
                    "properties": {
                        "start": {"type": "integer", "minimum": 0},
                        "end": {"type": "integer", "minimum": 0},
                        "page": {"type": ["integer", "null"], "minimum": 1},
                        "heading": _TEXT,
                    },
                    "additionalProperties": False,
                },
            },
            "title": _TEXT,
            "url": _TEXT,
            "author": _TEXT,
            "timestamp": {"type": ["string", "integer", "null"], "description": "ISO 8601, or epoch milliseconds."},
            "metadata": {"type": ["object", "null"]},
        },
        "additionalProperties": False,
    },
    "Published": {
        "type": "object",
        "description": "The broker has acknowledged the record, which is at this place.",
        "required": ["id", "topic", "partition", "offset"],
        "properties": {**_PLACE, "state": _STATE, "detail": {"type": "string"}},
        "additionalProperties": False,
    },
    "Line": {
        "type": "object",
        "description": "What became of one line: its place, or why it was not published.",
        "required": ["line", "status"],
        "properties": {
            "line": {"type": "integer", "minimum": 1},
            "status": {"type": "integer"},
            **_PLACE,
            "title": {"type": "string"},
            "detail": {"type": "string"},
            "retry_after": {"type": "integer", "minimum": 1, "description": "Seconds; of 429 and 503."},
        },
        "if": {"properties": {"status": {"const": 200}}},
        "then": {"required": ["id", "topic", "partition", "offset"]},
        "else": {"required": ["title", "detail"]},
        "additionalProperties": False,
    },
    "Problem": {
        "type": "object",
        "description": "RFC 9457. Of a dead letter with the members of Published, too.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            **_PLACE,
            "state": _STATE,
        },
        "additionalProperties": False,
    },
    "Health": {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": ["ok", "unavailable"]},
            "reasons": {"type": "array", "items": {"type": "string"}},
        },
        "additionalProperties": False,
    },
}
_WHY = {
    "400": "The request is not what it should be: id, query or encoding.",
    "401": "No token, or one that is not known.",
    "403": "The token may not publish documents of this id.",
    "408": "The body stopped coming.",
    "413": "Larger than the server, or the topic, takes.",
    "415": "Of no kind that is read, or packed in another way than gzip.",
    "421": "Without tokens: asked for under a name that is not this machine's.",
    "422": "No document; nothing was published. Or, with `wait`, a dead letter.",
    "429": "The workers are behind: `--max-lag`. Nothing was published.",
    "500": "A fault of the server.",
    "503": "Kafka is away, the server is stopping, or too much is asked for at once.",
}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: str, content_type: str = JSON) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": _ref(schema)}}}


def _problems(*statuses: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status in statuses:
        found[status] = _json(_WHY[status], "Problem", CONTENT_TYPE)
        if status in ("429", "503"):
            found[status]["headers"] = _RETRY
    return found


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Percent-encoded UTF-8. Slashes may stand as they are.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS},
}
_WAIT = (
    _query(
        "wait",
        "Answer when a search finds it, or after a deletion does not any more.",
        {"type": "string", "enum": ["searchable"]},
    ),
    _query(
        "timeout",
        "Seconds to wait at most; then the answer is 202.",
        {"type": "number", "exclusiveMinimum": 0, "maximum": LARGEST_WAIT_S, "default": WAIT_S},
    ),
)
_PUBLISHED = {
    "200": _json("The broker has it; with `wait`, its state is known.", "Published"),
    "202": _json("The broker has it, and whether a search finds it was not known in time.", "Published"),
}


def _one(summary: str, statuses: Sequence[str], parameters: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [_ID, *_WAIT, *parameters],
        "responses": {**_PUBLISHED, **_problems(*statuses)},
    }


def document() -> dict[str, Any]:
    """The whole of it."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    put = _one(
        "Publish a document, in place of whatever it was",
        ("400", "401", "403", "408", "413", "415", "421", "422", "429", "500", "503"),
        (
            _query("filename", "Of a file: its kind by its suffix, and its title.", {"type": "string"}),
            _query("title", "Of a file that does not say its own.", {"type": "string"}),
            _query("url", "Of a file: where it is from.", {"type": "string"}),
        ),
    )
    put["requestBody"] = {
        "required": True,
        "description": "The document, or a file that it is made of. May be packed: Content-Encoding: gzip.",
        "content": {JSON: {"schema": _ref("Document")}, **dict.fromkeys(sorted(TYPES), binary)},
    }
    lines = {"schema": _ref("Document")}
    results = "A result for each line, in order, as soon as it is known. Lines without one were not read."
    post = {
        "summary": "Publish many documents, one a line, each with its `id`",
        "requestBody": {"required": True, "content": dict.fromkeys(LINES, lines)},
        "responses": {
            "200": _json(results, "Line", LINES[0]),
            **_problems("400", "401", "413", "415", "421", "429", "500", "503"),
        },
    }
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    health = {"200": _json("It is.", "Health"), "503": _json("It is not, and why.", "Health")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": version("penstock"),
            "description": "Documents to searchable vectors. A success is sent after the broker's acknowledgement.",
        },
        "security": [{"token": []}, {}],
        "paths": {
            "/documents/{id}": {
                "put": put,
                "delete": _one(
                    "Delete a document, whether or not there is one",
                    ("400", "401", "403", "421", "422", "429", "500", "503"),
                ),
            },
            "/documents": {"post": post},
            "/livez": {
                "get": {"summary": "Is it alive?", "security": [], "responses": {"200": _json("It is.", "Health")}}
            },
            "/readyz": {"get": {"summary": "Does it take documents?", "security": [], "responses": health}},
            "/metrics": {"get": {"summary": "Metrics", "responses": {"200": text, **_problems("401", "421", "500")}}},
            "/openapi.json": {
                "get": {
                    "summary": "This document",
                    "security": [],
                    "responses": {"200": {"description": "It.", "content": {JSON: {"schema": {"type": "object"}}}}},
                }
            },
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
