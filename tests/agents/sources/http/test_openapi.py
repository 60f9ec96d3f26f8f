"""The OpenAPI document says what the server does: every route and method, and every status that a test has seen."""

from typing import Any

import jsonschema

from agents.sources.http.openapi import document
from tests.agents.sources.http.running import Running
from tests.agents.sources.http.test_documents import with_server


def refs(node: Any) -> list[str]:
    """All that is referred to."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [one for child in node.values() for one in refs(child)]
    return [one for child in node for one in refs(child)] if isinstance(node, list) else []


def test_routes_and_methods_are_those_of_the_server() -> None:
    async def scenario(server: Running) -> None:
        answer = await server.api.ask("GET", "/openapi.json")
        described = {
            path: {name.upper() for name in methods if name in ("get", "put", "post", "delete", "patch", "head")}
            for path, methods in answer.body["paths"].items()
        }
        assert described == {path: set(handlers) for path, handlers in server.server._routes.items()}

    with_server(scenario)


def test_it_is_whole() -> None:
    found = document()
    for ref in refs(found):
        node: Any = found
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
    for schema in found["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for methods in found["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert all(response["description"] for response in operation["responses"].values())


def test_every_field_of_a_document_is_one_that_workers_know() -> None:
    from streams import record

    assert set(document()["components"]["schemas"]["Document"]["properties"]) == set(record._FIELDS)


def test_metrics_count_what_was_answered() -> None:
    async def scenario(server: Running) -> None:
        await server.api.put("a", {"text": "x"})
        await server.api.ask("GET", "/nowhere/42")
        text = (await server.api.ask("GET", "/metrics")).body
        assert 'penstock_source_objects_total{outcome="published",source="http"} 1.0' in text
        assert 'penstock_http_request_seconds_count{method="PUT",route="/documents/{id}",status="200"} 1.0' in text
        assert 'route="other",status="404"' in text
        assert "nowhere" not in text
        assert (await server.api.ask("GET", "/readyz")).body == {"status": "ok"}

    with_server(scenario)
