"""`penstock model add`, and what other commands of models say of a service."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agents.commands import cli
from streams.errors import ConfigError, PenstockError
from tests.kit.service import DIMS, Service, serving, vector_of


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where models are."""
    monkeypatch.setenv("PENSTOCK_MODEL__DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def served() -> Iterator[Service]:
    with serving() as made:
        yield made


def add(served: Service, *more: str, name: str = "served", dims: int = DIMS) -> Result:
    options = ["--url", served.url, "--model", "m", "--dims", str(dims), "--max-tokens", "600"]
    return CliRunner().invoke(cli, ["model", "add", name, *options, *more])


def test_a_service_is_added_listed_and_verified(served: Service, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.key = "k3y"
    (models / "key").write_text("k3y")
    monkeypatch.setenv("PENSTOCK_SERVICE__KEY_FILE", str(models / "key"))
    done = add(served)
    assert done.exit_code == 0, done.output
    assert f"added served: m at {served.url}/embeddings, {DIMS} dims, 600 tokens (a token a byte" in done.output
    told = json.loads(add(served, "--json", name="other").stdout)
    assert (told["name"], told["dims"], told["agreement"] > 0.999) == ("other", DIMS, True)
    assert "k3y" not in done.output + json.dumps(told)
    listed = CliRunner().invoke(cli, ["model", "list"]).output
    assert f"m at {served.url}/embeddings" in listed
    rows = json.loads(CliRunner().invoke(cli, ["model", "list", "--json"]).stdout)
    assert [row["kind"] for row in rows] == ["service", "service"]
    verified = CliRunner().invoke(cli, ["model", "verify", "served"])
    assert verified.output.startswith(
        "ok: served on the service at 127.0.0.1, files unchanged, least golden cosine 1.0"
    )
    served.vectors = lambda texts: [vector_of(text, model="x") for text in texts]  # type: ignore[assignment,return-value]
    with pytest.raises(PenstockError, match="another model"):
        raise CliRunner().invoke(cli, ["model", "verify", "served"]).exception or AssertionError


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--url", "https://me:p4ss@x/v1"), "--url: a login does not belong there: service.key_file"),
        (("--url", "nowhere"), "--url: it has to begin with http:// or https://"),
        (("--key-header", "a b"), "--key-header a b: letters, digits and - only"),
        (("--tokenizer", "/none"), "--tokenizer /none cannot be read"),
        (("--dims", "33"), "--dims 33: m has 32"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], part: str, served: Service, models: Path) -> None:
    found = add(served, *arguments).exception
    assert isinstance(found, ConfigError)
    assert (part in str(found), "p4ss" in str(found)) == (True, False), str(found)
    assert list(models.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", ".x"])
def test_a_name_is_that_of_a_folder(name: str, served: Service) -> None:
    assert "without slashes" in str(add(served, name=name).exception)


def test_what_is_missing_is_named(served: Service) -> None:
    found = CliRunner().invoke(cli, ["model", "add", "x", "--url", served.url, "--model", "m", "--dims", "3"])
    assert (found.exit_code, "Missing option '--max-tokens'" in found.output) == (2, True)
