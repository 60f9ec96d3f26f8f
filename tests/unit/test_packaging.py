"""What the three top-level packages need from the outside."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distributions, packages_distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest


def test_no_dependency_ships_a_top_level_package_of_ours() -> None:
    """Two wheels with a top-level `models` overwrite each other silently."""
    owners = packages_distributions()
    for name in ("streams", "models", "agents"):
        assert set(owners.get(name, [])) <= {"penstock"}


def test_the_workers_environment_has_no_torch() -> None:
    names = {distribution.name.lower() for distribution in distributions()}
    assert not names & {"torch", "transformers", "optimum", "sentence-transformers"}


@pytest.fixture
def index() -> Iterator[str]:
    """A package index with one good release, one that was withdrawn, and one of which a file was."""

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files = [
                {"filename": "some_thing-1.0-py3-none-any.whl", "yanked": False},
                {"filename": "some-thing-1.0.tar.gz", "yanked": "broken build"},
                {"filename": "some_thing-1.0.1-py3-none-any.whl", "yanked": "deletes files"},
                {"filename": "some-thing-1.0.1.tar.gz", "yanked": True},
            ]
            self.send_response(200 if self.path == "/simple/some-thing/" else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"files": files}).encode())

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()


def test_the_audit_finds_withdrawn_releases(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_from_file_location("audit", Path(__file__).parents[2] / "ops" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    audit: Any = module_from_spec(spec)
    spec.loader.exec_module(audit)
    monkeypatch.setattr(audit, "INDEX", index)
    assert audit.reason_of(("some-thing", "1.0")) == ""
    assert audit.reason_of(("some-thing", "1.0.1")) == "deletes files"
    assert audit.reason_of(("some-thing", "2.0")) is None
    assert audit.reason_of(("another", "1.0")) is None
