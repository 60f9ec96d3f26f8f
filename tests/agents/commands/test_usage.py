"""Mistakes on the command line that must not pass for a success, and stops. Nothing is connected to."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from agents import commands
from agents.commands import cli
from agents.local import stack
from agents.settings import CACHE_VARIABLE
from streams.errors import PenstockError


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("search", ""), "TEXT is empty"),
        (("search", " \t\n"), "TEXT is empty"),
        (("dlq", "replay", "--stage", "decod"), "'decod' is not one of"),
        (("dlq", "list", "--stage", "Index"), "'Index' is not one of"),
    ],
)
def test_a_mistake_is_wrong_usage(arguments: tuple[str, ...], part: str) -> None:
    found = CliRunner().invoke(cli, arguments)
    assert (found.exit_code, part in found.output) == (2, True), found.output


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), PenstockError("a step failed")], ids=["interrupted", "failed"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_demo_that_ends_early_says_what_it_leaves_running(
    reason: BaseException, keep: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wiped: list[Path] = []

    def end_early(*_: object) -> None:
        raise reason

    server = stack.Server(name="kafka", version="4", port=9092, pid=1, started_at=0.0, log="")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(stack, "status", lambda _: [server])
    monkeypatch.setattr(stack, "wipe", wiped.append)
    monkeypatch.setattr(import_module("agents.commands.run.demo"), "_run", end_early)
    found = CliRunner().invoke(cli, ["demo", *(["--keep"] if keep else [])])
    assert found.exit_code == 1
    assert (f"penstock local down --dir {tmp_path / 'demo'}" in found.output) == keep
    assert wiped == ([] if keep else [tmp_path / "demo"])


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [("", 1, "with --yes nobody is asked"), ("n\n", 1, "nothing was done"), (KeyboardInterrupt(), 130, "")],
    ids=["nobody there", "no", "Ctrl-C"],
)
def test_what_is_not_confirmed_is_not_done_and_says_so(
    answer: object, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(_: int = -1) -> str:
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)

    monkeypatch.setattr("sys.argv", ["penstock", "index", "drop", "documents-a-000001"])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(readline=read, isatty=lambda: False, encoding="utf-8"))
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert (ended.value.code, said in capsys.readouterr().err) == (code, True)
