"""`penstock index create|status|verify|vacuum|rebuild|epoch|list`."""

import asyncio
from collections import Counter
from contextlib import closing
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agents.commands.common import MOMENT, json_option, print_json, progress_bar, reporter, settings_option
from agents.commands.verify import verify_command
from agents.elastic import connect
from agents.epoch import bump
from agents.index import Index
from agents.preflight import check, create_index
from agents.rewind import rewind
from agents.settings import Settings
from agents.vacuum import vacuum


@click.group()
def index() -> None:
    """Create and inspect the vector index."""


index.add_command(verify_command)


@index.command()
@click.option("--load", is_flag=True, help="For a first fill: no refreshes and no replicas until the lag is 0.")
@settings_option
def create(load: bool, settings: Settings) -> None:
    """Make the index for the configured model and topic, with its registry and aliases. Twice is harmless.

    With --load readers see nothing until a worker has indexed all there is: it then sets refresh_interval and replicas
    as configured. The note about that is in the index itself, so a crash changes nothing.

    \b
    Example: penstock index create
    Example: penstock index create --load
    """
    name, made = asyncio.run(create_index(settings, load=load))
    click.echo(f"{'created' if made else 'exists already, with the same contract:'} {name}")
    if load and not made:
        click.echo("--load is for a new index: this one stays as it is", err=True)


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


@index.command()
@click.option("--in-place", is_flag=True, help="Into the index that is serving.")
@click.option("--from", "start", metavar="OFFSET|TIME", help="From here on; without it from the topic's start.")
@settings_option
@json_option
def rebuild(in_place: bool, start: str | None, settings: Settings, as_json: bool) -> None:
    """Have the stream processed again: sets the claims back, while no worker runs.

    What is in the index already costs a look at its registry; only what is missing there is embedded. OFFSET counts
    for every partition; TIME is ISO 8601, or how long ago: `2h`.

    \b
    Example: penstock index rebuild --in-place --from 2h
    """
    if not in_place:
        raise click.UsageError("say --in-place: that the index which is serving is to be filled again")
    if start is not None and start.isdecimal():
        rows = asyncio.run(rewind(settings, offset=int(start)))
    else:
        rows = asyncio.run(rewind(settings, at_ms=MOMENT.convert(start, None, None) if start else None))
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{settings.source.topic}/{row.partition}: settled offset {row.before} -> {row.after}")
    click.echo("start the workers" if rows else "nothing to set back: no claim is above that")


@index.group()
def epoch() -> None:
    """Begin anew where offsets no longer compare."""


@epoch.command("bump")
@click.option("--why", required=True, help="Kept with the cut in the index contract.")
@settings_option
def bump_command(why: str, settings: Settings) -> None:
    """Begin a new epoch.

    For a topic that has more partitions now, or was made anew, while no worker runs: everything from here on counts
    as newer than what is in the index. Restart producers before, so that they know the new partitions. Otherwise,
    for producers that place keys differently from now on, at lag 0. Twice changes nothing.

    \b
    Example: penstock index epoch bump --why "8 partitions instead of 4"
    """
    done = asyncio.run(bump(settings, why))
    click.echo(f"epoch {done.epoch} {'begins' if done.made else 'goes on'}: {done.reason}")


@index.command("vacuum")
@click.option("--before", "before_ms", type=MOMENT, default="7d", show_default=True, help="The horizon.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@settings_option
@json_option
def vacuum_command(before_ms: int, dry_run: bool, settings: Settings, as_json: bool) -> None:
    """Delete old stubs and entries.

    A document that shrank or was deleted leaves empty stubs, which keep late writes from reviving it. Those older
    than the horizon go, and then the entries of deleted documents. No worker may have slept for so long.

    \b
    Example: penstock index vacuum --before 30d --dry-run
    """
    deleted = asyncio.run(_vacuum(settings, before_ms, dry_run))
    if as_json:
        print_json({"dry_run": dry_run, "stubs": deleted["stubs"], "entries": deleted["entries"]})
        return
    told = f"{deleted['stubs']} stubs and {deleted['entries']} entries of deleted documents"
    click.echo(f"{'would delete' if dry_run else 'deleted'} {told}")


async def _vacuum(settings: Settings, before_ms: int, dry_run: bool) -> Counter[str]:
    checked = await check(settings)
    with closing(checked.embedder), progress_bar() as bar:
        return await vacuum(settings, checked, before_ms=before_ms, dry_run=dry_run, report=reporter(bar))


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
