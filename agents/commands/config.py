"""`penstock config check|show|try`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import CONFIG, json_option, settings_option
from agents.commands.lazy import Group

if TYPE_CHECKING:
    from agents.settings import Settings


@click.group(cls=Group)
def config() -> None:
    """Validate and show the settings, and try them on records.

    \b
    Example: penstock config check --config penstock.toml
    """


@config.command()
@settings_option
def check(settings: "Settings") -> None:
    """Validate the settings, connect, load the model and compare with the index, as a worker does at start.

    \b
    Example: penstock config check --config penstock.toml
    """
    from agents.commands.run.config_check import check as run

    run(settings)


@config.command()
@settings_option
@json_option
def show(settings: "Settings", as_json: bool) -> None:
    """Print the effective settings, secrets masked, and where each came from.

    \b
    Example: PENSTOCK_SPLIT__MAX_CHARS=800 penstock config show
    """
    from agents.commands.run.config_show import show as run

    run(settings, click.get_current_context().meta[CONFIG], as_json=as_json)


@config.command("try")
@click.option("-n", "--records", "count", type=click.IntRange(1, 1000), default=10, show_default=True)
@settings_option
@json_option
def try_(count: int, settings: "Settings", as_json: bool) -> None:
    """Say what becomes of the newest records of the topic: documents, deletions or dead letters. Changes nothing.

    For a topic that is not in Penstock's own form, and the `[source.mapping]` that you write for it. The exit code is 1
    when one of the records is a dead letter.

    \b
    Example: penstock config try --config penstock.toml -n 5
    """
    from agents.commands.run.config_try import try_ as run

    run(settings, count, as_json=as_json)
