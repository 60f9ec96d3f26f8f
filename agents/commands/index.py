"""`penstock index create|status|list`."""

import asyncio
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agents.commands.common import json_option, print_json, settings_option
from agents.elastic import connect
from agents.index import Index
from agents.preflight import create_index
from agents.settings import Settings


@click.group()
def index() -> None:
    """Create and inspect the vector index."""


@index.command()
@settings_option
def create(settings: Settings) -> None:
    """Make the index for the configured model and topic, with its registry and aliases. Twice is harmless.

    \b
    Example: penstock index create
    """
    name, made = asyncio.run(create_index(settings))
    click.echo(f"{'created' if made else 'exists already, with the same contract:'} {name}")


@index.command()
@settings_option
@json_option
def status(settings: Settings, as_json: bool) -> None:
    """Show the index behind the alias and its contract.

    \b
    Example: penstock index status --json
    """
    rows = [row for row in asyncio.run(_list(settings)) if row["serving"]]
    stored = asyncio.run(_contract(settings))
    if as_json:
        print_json({"index": rows[0] if rows else None, "contract": stored[1] if stored else None})
        return
    if stored is None:
        click.echo(f"no index behind the alias {settings.elasticsearch.alias}: `penstock index create`")
        return
    for name, value in {**rows[0], **stored[1]}.items():
        click.echo(f"{name:>12}  {value}")


@index.command("list")
@settings_option
@json_option
def list_command(settings: Settings, as_json: bool) -> None:
    """List the indices of the alias.

    \b
    Example: penstock index list
    """
    rows = asyncio.run(_list(settings))
    if as_json:
        print_json(rows)
        return
    table = Table("index", "serving", "model", "dims", "documents", "chunks", box=None)
    for row in rows:
        serving = "yes" if row["serving"] else "no"
        table.add_row(row["index"], serving, row["model"], str(row["dims"]), str(row["documents"]), str(row["chunks"]))
    Console().print(table if rows else "no indices: `penstock index create`")


async def _list(settings: Settings) -> list[dict[str, Any]]:
    async with connect(settings.elasticsearch) as client:
        return await Index(client, settings).rows()


async def _contract(settings: Settings) -> tuple[str, dict[str, Any]] | None:
    async with connect(settings.elasticsearch) as client:
        return await Index(client, settings).stored_contract()
