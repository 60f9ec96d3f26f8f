"""What came from elsewhere is printed, and never obeyed."""

import functools
import json
import logging
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.table import Table
from rich.text import Text

from agents import commands
from agents.commands.common import say
from agents.commands.run.dlq import _tables
from agents.commands.run.output import console, print_json
from agents.log import setup_logging
from agents.operations.duplicates import Duplicates, Group
from agents.operations.letters import Listed
from agents.settings import Settings
from agents.settings.sections import LogSettings
from agents.terminal import in_line, in_short
from streams.dead_letter import Letter
from streams.errors import PenstockError
from streams.record import Record

TITLE, CLEAR, C1, BIDI, BACK = "\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "\u202ecod.exe", "\rall is well"
HOSTILE = f"key {TITLE}{CLEAR}{C1}{BIDI}{BACK}\x7f\udc80 [red]red[/] :warning:"
SHOWN = r"key \x1b]0;owned\x07\x1b[2J\x9b31m\u202ecod.exe\rall is well\x7f\udc80 [red]red[/] :warning:"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def test_lines_and_tables_show_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("key", "again", box=None)
    table.add_row(HOSTILE, Text(HOSTILE))
    say(HOSTILE)
    console().print(HOSTILE)
    console().print(table)
    told = capsys.readouterr().out
    assert told.count(SHOWN) == 3
    assert told.count(r"\x1b]0;owned") == 4  # rich leaves out BEL and CR of its own texts
    assert not OBEYED.search(told)


def test_a_text_keeps_its_lines_and_a_line_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\n\tb\u2028c")
    assert capsys.readouterr().out == "a\n\tb\\u2028c\n"
    assert in_line("a\n\tb") == r"a\n\tb"


@pytest.mark.parametrize(
    ("text", "most", "told"),
    [
        ("as it is", 8, "as it is"),
        ("between two words", 12, "between two…"),
        ("between two words", 13, "between two…"),
        ("between two words", 11, "between…"),
        ("a" * 40, 30, "a" * 29 + "…"),
        ("word " + "a" * 40, 40, "word " + "a" * 34 + "…"),
        ("", 3, ""),
    ],
)
def test_what_is_too_long_is_cut_between_words(text: str, most: int, told: str) -> None:
    assert in_short(text, most) == told
    assert len(told) <= most


def test_json_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    row = {HOSTILE.replace("\udc80", ""): ["\x85\u2067\x7f", "ü"]}
    print_json(row)
    told = capsys.readouterr().out
    assert json.loads(told) == row
    assert "ü" in told
    assert not OBEYED.search(told)


def test_the_list_of_dead_letters(capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(topic="t", partition=0, offset=1, timestamp_ms=0, key=HOSTILE[:40].encode(), value=b"")
    letter = Letter(record=record, stage="decode", error=HOSTILE, message=HOSTILE, attempt=1, epoch=0, at_ms=0)
    rows = [Listed(letter=letter, standing="open", serves_older=False)]
    console().print(_tables(Settings(), rows, rows, None))
    told = capsys.readouterr().out
    assert not OBEYED.search(told)
    assert r"\x1b]0;owned\x07" in told
    assert "documents.dlq: 1 record, 1 open\n" in told


@pytest.mark.parametrize("error", [PenstockError(HOSTILE), click.UsageError(HOSTILE)])
def test_errors(error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(commands, "cli", fail)
    with pytest.raises(SystemExit):
        commands.main()
    told = capsys.readouterr().err
    assert SHOWN in told
    assert not OBEYED.search(told)


@pytest.mark.parametrize("form", ["console", "json"])
def test_logs(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        setup_logging(LogSettings.model_validate({"format": form}))
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger("agents.x").exception("read %s", HOSTILE, extra={"doc_id": f"{HOSTILE}\nforged"})
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    told = capsys.readouterr().err
    assert not OBEYED.search(told)
    assert "\nforged" not in told
    assert told.count("owned") == 3


def test_commands_print_by_these_ways_only() -> None:
    """Each of the others would obey what it prints."""
    for path in Path(commands.__file__).parent.rglob("*.py"):
        if path.name not in ("common.py", "output.py"):
            assert not re.search(r"click\.s?echo|(?<![.\w])print\(|\bConsole\(", path.read_text()), path


KEY = HOSTILE.replace("\udc80", "")
LETTER = Letter(
    record=Record(
        topic="t",
        partition=0,
        offset=1,
        timestamp_ms=0,
        key=KEY.encode(),
        value=f"{KEY}\xff".encode("latin-1", "replace"),
        headers=((KEY, KEY.encode()), ("null", None)),
    ),
    stage="decode",
    error=KEY,
    message=KEY,
    attempt=1,
    epoch=0,
    at_ms=0,
)
OBJECT = replace(LETTER, stage="source", source=KEY, tag=KEY, doc_id=KEY)
HIT = {"score": 1.0, "id": KEY, "text": KEY, "metadata": {"doc_id": KEY, "title": KEY, "source": KEY, "chunk": 0}}
HIT["penstock"] = {"flags": [KEY]}
ALIKE = Duplicates(index=KEY, documents=2, groups=[Group(documents=[KEY, KEY], similarity=1.0)])
STATUS = {
    "lag": 0,
    "partitions": [],
    "index": KEY,
    "model": KEY,
    "setup": None,
    "workers": [KEY],
    "problem": KEY,
    "dead_letters": {"records": 2, "open": 1, "older_version_served": 0},
    "generations": [
        {"index": KEY, "serving": False, "models": [KEY], "group": KEY, "documents": 1, "lag": 0, "problem": KEY}
        | {"aliases": [KEY], "dims": 1, "chunks": 1, "workers": 0}
    ]
    * 2,
}


async def _given(what: Any, *_: object, **__: object) -> Any:
    return what


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    ("command", "reader", "answer"),
    [
        (["dlq", "show", "0@1"], "dlq._find", Listed(letter=LETTER, standing=None, serves_older=False)),
        (["dlq", "show", "a/b"], "dlq._find", Listed(letter=OBJECT, standing="open", serves_older=False)),
        (["dlq", "list"], "dlq._list", ([Listed(letter=OBJECT, standing="open", serves_older=False)], None)),
        (["dlq", "list"], "dlq._list", ([Listed(letter=LETTER, standing="open", serves_older=True)], KEY)),
        (["search", "x"], "search._search", [HIT]),
        (["index", "duplicates"], "index_duplicates._duplicates", ALIKE),
        (["status"], "status._status", STATUS),
        (["index", "status"], "index_status._status", (STATUS["generations"], {})),
    ],
)
def test_what_commands_read_from_elsewhere(
    command: list[str], reader: str, answer: Any, as_json: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = reader.split(".")
    monkeypatch.setattr(import_module(f"agents.commands.run.{module}"), name, functools.partial(_given, answer))
    found = CliRunner().invoke(commands.cli, [*command, *as_json])
    assert found.exit_code == 0, (found.output, found.exception)
    assert "owned" in found.output
    assert not OBEYED.search(found.output), found.output
