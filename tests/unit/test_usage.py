"""Mistakes on the command line that must not pass for a success. Nothing is connected to."""

import pytest
from click.testing import CliRunner

from agents.commands import cli


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
