"""The command line starts at once: what a help text, or a command, loads is bounded by name."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from agents.commands import COMMANDS, cli

SERVERS = {"aiohttp", "aiokafka", "elastic_transport", "elasticsearch", "httpx", "requests", "ssl", "urllib3"}
MODELS = {"numpy", "onnxruntime", "openvino", "semantic_text_splitter", "tokenizers"}
STREAMS = {"faust", "mode", "venusian"}
REST = {"asyncio", "orjson", "prometheus_client", "pydantic", "pydantic_core", "pydantic_settings", "rich", "structlog"}
HEAVY = SERVERS | MODELS | STREAMS | REST | {"agents.commands.run", "agents.settings"}

TOLD = "import atexit, json, sys\natexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
MAIN = TOLD + "sys.argv[0] = 'penstock'\nfrom agents.main import main\nmain()\n"
EVERY_HELP = (
    TOLD + "import click\nfrom click.testing import CliRunner\nfrom agents.commands import cli\n"
    "def ask(group, words):\n"
    "    for name in group.list_commands(click.Context(group)):\n"
    "        command = group.get_command(click.Context(group), name)\n"
    "        found = CliRunner().invoke(cli, [*words, name, '--help'], prog_name='penstock')\n"
    "        assert found.exit_code == 0, found.output\n"
    "        if isinstance(command, click.Group):\n"
    "            ask(command, [*words, name])\n"
    "ask(cli, [])\n"
)


def loaded(code: str, *arguments: str, **variables: str) -> tuple[int, str, set[str]]:
    """Exit code and output of a fresh process, and the modules that it had loaded when it ended."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=own | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    *said, modules = done.stderr.splitlines()
    return done.returncode, done.stdout + "\n".join(said), set(json.loads(modules))


def commands(group: click.Group, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], "Show the chunks nearest to TEXT"),
        (["--version"], "version"),
        (["completion", "bash"], "_PENSTOCK_COMPLETE=bash_complete"),
        (["completion", "zsh"], "#compdef penstock"),
        (["completion", "fish"], "complete --no-files --command penstock"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_help_text_loads_click_and_no_command(arguments: list[str], told: str) -> None:
    code, output, modules = loaded(MAIN, *arguments)
    assert (code, told in output) == (0, True), output
    assert sorted(HEAVY & modules) == []
    ours = {name for name in modules if name.startswith("agents.commands.")}
    wanted = {"agents.commands.common", "agents.commands.lazy"}
    assert ours - {"agents.commands.completion"} == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("penstock ", set(COMMANDS)),
        ("penstock st", {"status"}),
        ("penstock index ep", {"epoch"}),
        ("penstock status --", {"--config", "--json", "--watch", "--help"}),
        ("penstock dlq list --stage ", {"source", "decode", "split", "quality", "registry", "embed", "index"}),
        ("penstock local up --dir /tmp --kafka", {"--kafka-port"}),
    ],
)
def test_completion_loads_no_more(line: str, wanted: set[str]) -> None:
    """Nor does it read the settings, or look for the servers: `--config` may name a file that is not there yet."""
    *before, word = line.split(" ")
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(before)), "_PENSTOCK_COMPLETE": "bash_complete"}
    code, output, modules = loaded(MAIN, **variables)
    assert (code, {row.partition(",")[2] for row in output.split()}) == (0, wanted)
    assert sorted(HEAVY & modules) == []
    assert all(name.startswith(word) for name in wanted)


def test_the_help_of_every_command_loads_no_more() -> None:
    code, output, modules = loaded(EVERY_HELP)
    assert code == 0, output
    assert sorted((HEAVY - {"asyncio", "ssl"}) & modules) == []  # click's own test runner loads those


def test_the_list_of_commands_says_what_they_say() -> None:
    for name, lazy in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.name == name
        assert lazy.help == command.get_short_help_str(1000)
        assert lazy.short_help() == command.get_short_help_str()


def test_every_command_and_group_has_an_example() -> None:
    def commands(command: click.Command, context: click.Context) -> Iterator[click.Command]:
        yield command
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            assert isinstance(command, click.Group)
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, click.Context(inner))

    found = list(commands(cli, click.Context(cli)))
    assert len(found) > 40
    assert [command.name for command in found if "Example" not in (command.help or "")] == []


def test_mistakes_are_what_they_were() -> None:
    for arguments, told in (
        (["serch"], "No such command 'serch'. Did you mean 'search'?"),
        (["nothing-like-it"], "No such command 'nothing-like-it'.\n"),
        (["--jsn"], "No such option: --jsn"),
        (["status", "--jsn"], "Did you mean --json?"),
        (["index", "creat"], "No such command 'creat'. Did you mean 'create'?"),
        (["index", "epoch", "bmup"], "No such command 'bmup'. Did you mean 'bump'?"),
        (["ingest", "flies"], "No such command 'flies'. Did you mean 'files'?"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'."),
    ):
        found = CliRunner().invoke(cli, arguments)
        assert (found.exit_code, found.output.count("Error: ")) == (2, 1), found.output
        assert told in found.output


@pytest.mark.parametrize("arguments", [["--help"], ["completion", "bash"], ["config", "show"]])
def test_a_full_disk_behind_the_output_is_one_line(arguments: list[str]) -> None:
    code = "import sys\nsys.argv[0] = 'penstock'\nfrom agents.main import main\nmain()\n"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        1,
        "penstock: the output could not be written: No space left on device\n",
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_the_null_device(closed: str) -> None:
    """Nothing else gets their numbers; a worker says that a setting is wrong, if to nobody, by its exit code."""
    code = (
        "import sys\nfrom agents.main import main, open_closed_streams\nopen_closed_streams()\n"
        "assert [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)] == [0, 1, 2]\n"
        "sys.argv[0] = 'penstock'\nmain()\n"
    )
    for arguments, expected in (("--version", 0), ("config show", 0), ("worker", 2)):
        command = f'exec "$0" -c "$1" {arguments} {closed}'
        environment = {**os.environ, "PENSTOCK_LOG__LEVEL": "loud"} if expected else None
        done = subprocess.run(["sh", "-c", command, sys.executable, code], env=environment, capture_output=True)
        assert (done.returncode, b"Traceback" in done.stderr) == (expected, False), done.stderr
