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


@pytest.fixture
def audit() -> Any:
    """The script `ops/audit.py` as a module."""
    spec = spec_from_file_location("audit", Path(__file__).parents[2] / "ops" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    audit = module_from_spec(spec)
    spec.loader.exec_module(audit)
    return audit


def test_the_audit_finds_withdrawn_releases(index: str, audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "INDEX", index)
    assert audit.reason_of(("some-thing", "1.0")) == ""
    assert audit.reason_of(("some-thing", "1.0.1")) == "deletes files"
    assert audit.reason_of(("some-thing", "2.0")) is None
    assert audit.reason_of(("another", "1.0")) is None


@pytest.mark.parametrize(
    ("withdrawn", "holes", "offline_ok", "code"),
    [
        ("found", "", False, 1),
        ("found", "unknown", True, 1),
        ("", "unknown", False, 3),
        ("", "unknown", True, 0),
        ("unknown", "", False, 3),
        ("", "", False, 0),
    ],
)
def test_an_audit_that_could_not_look_does_not_pass(
    audit: Any, capsys: pytest.CaptureFixture[str], withdrawn: str, holes: str, offline_ok: bool, code: int
) -> None:
    looks = [
        audit.Looked(["some 1.0"] if state == "found" else [], "some 2.0" if state == "unknown" else "")
        for state in (withdrawn, holes)
    ]
    assert audit.verdict(looks, offline_ok=offline_ok) == code
    assert ("NOT LOOKED UP: some 2.0" in capsys.readouterr().out) == ("unknown" in (withdrawn, holes))


def test_an_audit_without_a_network_says_so(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the index: every release is unknown, and none is clean."""
    monkeypatch.setattr(audit, "INDEX", "http://127.0.0.1:1/simple")
    look = audit._withdrawn()
    assert (look.found, "releases were withdrawn" in look.unknown) == ([], True)
