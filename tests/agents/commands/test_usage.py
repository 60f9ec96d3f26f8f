"""Mistakes on the command line that must not pass for a success, and stops. Nothing is connected to."""

from collections import Counter
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from agents import commands
from agents.commands import cli
from agents.commands.run.demo import KEPT
from agents.local import stack
from agents.operations.compare import read_queries
from agents.operations.epoch import Bumped
from agents.operations.redrive import Replayed
from agents.settings.environment import CACHE_VARIABLE
from agents.sources.collecting import Options, Summary
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
@pytest.mark.parametrize("before", ["nothing", "kept", "running"])
def test_a_demo_that_ends_early_leaves_what_was_there_and_says_what_runs(
    reason: BaseException, keep: bool, before: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    server = stack.Server(name="kafka", version="4", port=9092, pid=1, started_at=0.0, log="")
    running, done = [server] if before == "running" else [], list[str]()
    if before == "kept":
        (folder / "kafka").mkdir(parents=True)
        (folder / KEPT).touch()

    def end_early(*_: object, **__: object) -> None:
        running[:] = [server]
        raise reason

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(stack, "status", lambda _: running)
    monkeypatch.setattr(stack, "down", lambda _: done.append("down"))
    monkeypatch.setattr(stack, "wipe", lambda _: done.append("wipe"))
    monkeypatch.setattr(import_module("agents.commands.run.demo"), "_run", end_early)
    found = CliRunner().invoke(cli, ["demo", *(["--keep"] if keep else [])])
    assert found.exit_code == 1
    assert (f"penstock local down --dir {folder}" in found.output) == keep
    assert (
        done
        == {
            ("nothing", True): ["wipe"],
            ("nothing", False): ["wipe", "down", "wipe"],
            ("kept", True): [],
            ("kept", False): ["down"],
            ("running", True): [],
            ("running", False): [],
        }[before, keep]
    )


def test_what_is_still_up_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever kept the demo's servers, and takes `local down` for what stops them."""
    server = stack.Server(name="kafka", version="4", port=9092, pid=1, started_at=0.0, log="")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(stack, "down", lambda _: [])
    monkeypatch.setattr(stack, "status", lambda folder: [server] if folder == tmp_path / "demo" else [])
    said = CliRunner().invoke(cli, ["local", "down"]).output.splitlines()
    assert said[0] == f"nothing was running in {tmp_path / 'local'}"
    assert f"`penstock local down --dir {tmp_path / 'demo'}`" in said[1]


def test_servers_that_come_up_without_a_download_say_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = stack.Server(name="kafka", version="4", port=9092, pid=1, started_at=0.0, log="its.log")
    monkeypatch.setattr(stack, "up", lambda *_: {"kafka": 2.0})
    monkeypatch.setattr(stack, "status", lambda _: [server])
    found = CliRunner().invoke(cli, ["local", "up", "--dir", str(tmp_path)])
    assert found.output == "kafka 4 on 127.0.0.1:9092 (started in 2.0 s; log its.log)\n"


def test_questions_that_cannot_be_read_are_named_once(tmp_path: Path) -> None:
    missing = tmp_path / "questions"
    with pytest.raises(PenstockError) as caught:
        read_queries(missing)
    assert str(caught.value) == f"--queries {missing} cannot be read: No such file or directory"
    missing.write_bytes(b"\xff")
    with pytest.raises(PenstockError, match="is not UTF-8 text"):
        read_queries(missing)


def test_a_contract_is_shown_as_json_and_not_as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = {"format": 1, "source": {"log": None, "topic": "dokumente-für-alle"}}
    row = dict.fromkeys(("dims", "documents", "chunks", "workers", "lag", "group", "problem"))
    rows: list[dict[str, object]] = [{**row, "index": "docs", "serving": True, "aliases": [], "models": ["m"]}]

    async def found(_: object) -> object:
        return rows, {"docs": contract}

    monkeypatch.setattr(import_module("agents.commands.run.index_status"), "_status", found)
    said = CliRunner().invoke(cli, ["index", "status"]).output
    assert "  source.log: null\n  source.topic: dokumente-für-alle\n" in said


def test_an_epoch_that_begins_says_why_and_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def bumped(*_: object) -> Bumped:
        return Bumped(epoch=2, reason="by hand", made=True)

    monkeypatch.setattr(import_module("agents.commands.run.index_epoch"), "bump", bumped)
    said = CliRunner().invoke(cli, ["index", "epoch", "bump", "--why", "other keys"]).output.splitlines()
    assert said[0] == "epoch 2 begins: by hand: other keys"
    assert said[1].startswith("start the workers")


def test_what_came_of_a_replay_is_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def replayed(*_: object) -> Replayed:
        return Replayed(outcomes=Counter(dead_lettered=1, stored=2), problems=["t/0@1: why"])

    monkeypatch.setattr(import_module("agents.commands.run.dlq_replay"), "_replay", replayed)
    found = CliRunner().invoke(cli, ["dlq", "replay"])
    assert (found.exit_code, found.output.splitlines()[-1]) == (1, "1 dead-lettered again, 2 stored")


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


def test_a_demo_of_other_documents_does_not_answer_with_those_that_were_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    (folder / "kafka").mkdir(parents=True)
    (folder / KEPT).write_text("/home/u/papers")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(stack, "status", lambda _: [])
    said = CliRunner().invoke(cli, ["demo"])
    assert isinstance(said.exception, PenstockError)
    assert "the documents of /home/u/papers, and would answer with these, too" in str(said.exception)
    assert f"`penstock local wipe --dir {folder}`" in str(said.exception)


def test_what_excluded_documents_are_deleted_by_has_to_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.md").touch()
    said = CliRunner().invoke(cli, ["ingest", "files", str(tmp_path), "--delete-excluded"])
    assert "--delete-excluded says what `--sync` deletes" in str(said.exception)


@pytest.mark.parametrize(
    ("summary", "options", "told"),
    [
        (
            Summary(published=10, changed=8, unchanged=30, deleted=1),
            Options(),
            ["10 documents of 8 new or changed files published to the topic t; 30 files unchanged, 1 document deleted"],
        ),
        (
            Summary(changed=1, unchanged=2, gone=3),
            Options(dry_run=True, sync=True),
            [
                "1 file to read, 2 unchanged; nothing was published; the files were listed, and none was opened: "
                "`--strict --dry-run` says what would fail in them",
                "3 documents gone from where they came from would be deleted",
            ],
        ),
        (
            Summary(passed_over=Counter({".png": 8, ".jpg": 4, ".exe": 3, ".o": 2, ".a": 1}), gone=1),
            Options(dry_run=True, strict=True),
            [
                "0 files to read, 0 unchanged; nothing was published; what is to be read was read",
                "1 document gone from where they came from: `--sync` deletes them",
                "passed over 18: 8 .png, 4 .jpg, 3 .exe, 2 .o, … (`--json` has them all)",
            ],
        ),
    ],
    ids=["a run", "a dry run", "passed over"],
)
def test_what_an_ingest_says_of_itself(
    summary: Summary, options: Options, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import_module("agents.commands.run.ingest")._print(summary, options, "t", "file")
    assert capsys.readouterr().out.splitlines() == told
