"""`penstock config check|show`."""

import asyncio
from dataclasses import asdict

import click
from rich.table import Table

from agents.commands.common import CONFIG, console, json_option, print_json, say, settings_option
from agents.preflight import check
from agents.settings import Settings, origins


@click.group()
def config() -> None:
    """Validate and show the settings."""


@config.command("check")
@settings_option
def check_command(settings: Settings) -> None:
    """Validate the settings, connect, load the model and compare with the index, as a worker does at start.

    \b
    Example: penstock config check --config penstock.toml
    """
    checked = asyncio.run(check(settings))
    checked.embedder.close()
    say(
        f"ok: {settings.source.topic} ({checked.partitions} partitions) → {checked.identity.index}, "
        f"model {checked.embedder.manifest.name} on {checked.embedder.session.setup}"
    )


@config.command("show")
@settings_option
@json_option
def show_command(settings: Settings, as_json: bool) -> None:
    """Print the effective settings, secrets masked, and where each came from.

    \b
    Example: PENSTOCK_SPLIT__MAX_CHARS=800 penstock config show
    """
    rows = list(origins(settings, click.get_current_context().meta[CONFIG]))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("setting", "value", "from", box=None)
    for row in rows:
        table.add_row(row.name, row.value, row.source)
    console().print(table)
