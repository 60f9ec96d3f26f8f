"""Whatever the product tells people to run exists, and no refusal leaves them without a way on."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agents.commands import cli
from streams.epochs import begin_epoch

ROOT = Path(__file__).parents[3]
HOLE = "…"
"""Stands for what a message fills in."""
BY_HAND = (
    "choose another",
    "Choose another",
    "delete it",
    "export",
    "give it more",
    "let the workers settle everything, stop them, and try again",
    "promote another one first",
    "set it back",
    "stop them first",
    "take the others out of the alias",
    "there is nothing to go back to",
    "nothing was changed",
)
"""What a refusal may ask for beside a command of ours."""


def text_of(node: ast.AST) -> str:
    """All that the strings inside say, with `…` for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(part) for part in node.values)
    return "".join(text_of(child) for child in ast.iter_child_nodes(node))


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    filled = part.value if isinstance(part, ast.FormattedValue) else part
    name = filled.func if isinstance(filled, ast.Call) else filled
    is_way = isinstance(name, ast.Name) and name.id in ("way", "begin_epoch")
    return begin_epoch(None, "penstock") if is_way else HOLE


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the product, parsed."""
    for package in ("agents", "models", "streams"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def messages() -> list[tuple[str, str]]:
    """Every string of the product, with its place."""
    return [
        (f"{name}:{node.lineno}", text_of(node))
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant)
    ]


def refusals() -> list[tuple[str, str]]:
    """What each RefusedError says, with its place."""
    return [
        (f"{name}:{call.lineno}", text_of(call))
        for name, tree in modules()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "RefusedError"
    ]


def commands_in(text: str) -> list[list[str]]:
    """Arguments of each `penstock …` between backquotes."""
    return [words.split()[1:] for words in re.findall(r"`(?:[A-Z_]+=\S+ )*(penstock [^`]+)`", text)]


def problem(words: list[str]) -> str | None:
    """Why a command line would be no command of ours; None when it is one."""
    command: click.Command = cli
    context = click.Context(cli, info_name="penstock")
    while isinstance(command, click.Group):
        name = words[0] if words else ""
        if not name or name == HOLE:
            return None
        if "|" in name:
            return next((why for one in name.split("|") if (why := problem_of(command, context, one))), None)
        found = command.get_command(context, name)
        if found is None:
            return f"{name} is no command of {command.name}"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known.add("--help")
    wrong = [word for word in words if word.startswith("-") and word.split("=")[0].rstrip(",") not in known]
    return f"{command.name} has no {wrong[0]}" if wrong else None


def problem_of(group: click.Group, context: click.Context, name: str) -> str | None:
    """Whether a group lacks a command."""
    return None if group.get_command(context, name) else f"{name} is no command of {group.name}"


@pytest.mark.parametrize("place", ["the code", "README.md", "runbook.md", "ops/prometheus/rules.yml"])
def test_every_command_that_is_named_exists(place: str) -> None:
    rows = messages() if place == "the code" else [(place, (ROOT / place).read_text())]
    named = [(where, words) for where, text in rows for words in commands_in(text)]
    if place.endswith(".md"):
        blocks = re.findall(r"```sh\n(.*?)```", rows[0][1], re.DOTALL)
        lines = [re.sub(r"#.*", "", line) for block in blocks for line in block.splitlines()]
        named += [(place, line.split()[1:]) for line in lines if line.startswith("penstock ")]
    assert named or place.endswith(".yml")
    assert not [(where, words, why) for where, words in named if (why := problem(words))]


def test_the_first_example_makes_what_a_worker_needs_before_it_starts() -> None:
    lines = re.findall(r"^ +penstock (.*)$", cli.help or "", re.MULTILINE)
    assert not [line for line in lines if problem(line.split())]
    assert [line.split()[:2] for line in lines] == [
        ["local", "up"],
        ["model", "export"],
        ["ingest", "files"],  # which makes the topic
        ["index", "create"],
        ["worker"],
    ]


def test_a_refusal_names_a_way_on() -> None:
    rows = refusals()
    assert len(rows) > 20
    without = [row for row in rows if not commands_in(row[1]) and not any(hint in row[1] for hint in BY_HAND)]
    assert not without, without


def test_what_would_be_no_command_is_found() -> None:
    assert problem(["index", "create", "--model", "NAME"]) is None
    assert problem(["index", "make"]) == "make is no command of index"
    assert problem(["dlq", "replay", "--all"]) == "replay has no --all"
