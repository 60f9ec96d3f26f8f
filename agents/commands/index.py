"""`penstock index create|list|status|verify|vacuum|rebuild|epoch`; the swaps are in `generations`."""

import asyncio
import sys
from collections import Counter
from contextlib import closing
from typing import Any

import click
from rich.table import Table

from agents.commands.common import (
    MOMENT,
    console,
    json_option,
    print_json,
    progress_bar,
    reporter,
    say,
    settings_option,
)
from agents.commands.generations import compare_command, drop_command, promote_command, rollback_command
from agents.commands.verify import verify_command
from agents.elastic import connect
from agents.epoch import bump
from agents.generations import generation_rows
from agents.index import Index
from agents.kafka import log_reader
from agents.preflight import check, create_index
from agents.rebuild import rebuild as rebuild_index
from agents.rewind import rewind
from agents.settings import Settings, with_model
from agents.vacuum import vacuum
from streams.errors import PenstockError
from streams.generations import Generation


@click.group()
def index() -> None:
    """Create and inspect the vector index."""


for command in (verify_command, promote_command, rollback_command, drop_command, compare_command):
    index.add_command(command)


@index.command()
@click.option(
    "--load", is_flag=True, help="For a first fill: no refreshes and no replicas until what is there is indexed."
)
@click.option("--model", metavar="NAME", help="For this model, beside what is there: the next generation.")
@settings_option
def create(load: bool, model: str | None, settings: Settings) -> None:
    """Make the index for the configured model and topic, with its registry and aliases. Twice is harmless.

    The first one of an alias serves at once. A further one, for another model or another source.group, is filled by
    workers with a source.group of their own, and serves when it is promoted.

    With --load readers see nothing until all that was in the topic when a worker started is indexed: it then sets
    refresh_interval and replicas as configured, whatever came in meanwhile. So publish first, then start workers. The
    note about that is in the index itself, so a crash changes nothing.

    \b
    Example: penstock index create
    Example: penstock index create --model all-MiniLM-L6-v2-int8
    """
    if model:
        settings = with_model(settings, model)
    made, new = asyncio.run(create_index(settings, load=load, beside=model is not None))
    say(f"{'created' if new else 'exists already, with the same contract:'} {made.index}")
    if load and not new:
        say("--load is for a new index: this one stays as it is", err=True)
    if not made.serving:
        _tell_how_to_fill(settings, made)


def _tell_how_to_fill(settings: Settings, made: Generation) -> None:
    name = made.contract["model"]["name"]
    say(
        f"it does not serve yet. Fill it with workers that have source.group = {made.group or 'a name of its own'} and "
        f"model.name = {name}, then `penstock index promote {made.index}`"
    )
    if lost := asyncio.run(_lost(settings)):
        say(
            f"{settings.source.topic} lacks its first {lost} records: documents without newer ones are in the "
            f"serving index only. Before you start workers, `penstock index rebuild --model {name}` fills the new one "
            "from the text there, and from the topic"
        )


async def _lost(settings: Settings) -> int:
    async with log_reader(settings) as reader:
        count = await reader.require_partitions(settings.source.topic)
        bounds = await reader.bounds(settings.source.topic, range(count))
    return sum(bound.begin for bound in bounds.values())


@index.command()
@settings_option
@json_option
def status(settings: Settings, as_json: bool) -> None:
    """Show the generations of the index with their documents, lag and contract; readers see the one that serves.

    \b
    Example: penstock index status --json
    """
    rows, contracts = asyncio.run(_status(settings))
    serving = next((row for row in rows if row["serving"]), None)
    contract = contracts.get(serving["index"]) if serving else None
    if as_json:
        print_json({"index": serving, "contract": contract, "generations": rows})
        return
    _print_rows(rows)
    for name, value in (contract or {}).items():
        say(f"{name:>12}  {value}")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    if not rows:
        say("no indices: `penstock index create`")
        return
    table = Table("index", "serving", "model", "dims", "documents", "chunks", "fed by", "workers", "lag", box=None)
    for row in rows:
        serving = "yes" if row["serving"] else ", ".join(row["aliases"]) or "no"
        dims, documents, chunks, workers, lag = (
            "?" if row[name] is None else str(row[name]) for name in ("dims", "documents", "chunks", "workers", "lag")
        )
        group = row["group"] or "nobody yet"
        table.add_row(row["index"], serving, row["model"], dims, documents, chunks, group, workers, lag)
    console().print(table)
    for row in rows:
        if row["problem"]:
            say(f"{row['index']}: {row['problem']}", err=True)


@index.command()
@click.option("--in-place", is_flag=True, help="Into the index that is there, while no worker runs.")
@click.option("--from", "start", metavar="OFFSET|TIME", help="From here on; without it from the topic's start.")
@click.option("--rate", type=click.FloatRange(1), metavar="N", help="At most N documents a second.")
@click.option("--model", metavar="NAME", help="With this model instead of the configured one.")
@settings_option
@json_option
def rebuild(
    in_place: bool, start: str | None, rate: float | None, model: str | None, settings: Settings, as_json: bool
) -> None:
    """Process the stream again, into an index of its own; readers and workers go on undisturbed meanwhile.

    Documents that are older than --from, or that the topic no longer holds, are taken from the text in the index that
    serves. Interrupted, it goes on when it is started again. Then start workers with the source.group that it names,
    and promote the index.

    --in-place instead sets the claims back, while no worker runs: what is in the index already costs a look at its
    registry; only what is missing there is embedded.

    OFFSET counts for every partition; TIME is ISO 8601, or how long ago: `2h`.

    \b
    Example: penstock index rebuild --from 2026-03-01T12:00 --rate 200
    Example: penstock index rebuild --in-place --from 2h
    """
    offset = int(start) if start is not None and start.isdecimal() else None
    at_ms = MOMENT.convert(start, None, None) if start is not None and offset is None else None
    if not in_place:
        if model:
            settings = with_model(settings, model)
        _rebuild_beside(settings, offset, at_ms, rate, as_json=as_json)
        return
    if rate or model:
        raise click.UsageError("--rate and --model are for a rebuild beside: with --in-place the workers do it")
    rows = asyncio.run(rewind(settings, offset=offset, at_ms=at_ms))
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(f"{settings.source.topic}/{row.partition}: settled offset {row.before} -> {row.after}")
    say("start the workers" if rows else "nothing to set back: no claim is above that")


def _rebuild_beside(
    settings: Settings, offset: int | None, at_ms: int | None, rate: float | None, *, as_json: bool
) -> None:
    with progress_bar() as bar:
        done = asyncio.run(rebuild_index(settings, offset=offset, at_ms=at_ms, rate=rate, report=reporter(bar)))
    if as_json:
        print_json(done)
        sys.exit(1 if done.damaged else 0)
    went = "went on with" if done.resumed else "built"
    say(
        f"{went} {done.index} in {done.seconds:.0f} s: {done.from_index} documents from the index that serves, "
        f"{done.from_topic} records from the topic"
    )
    say(
        f"start workers with source.group = {done.group}, which go on from there, then "
        f"`penstock index promote {done.index}`"
    )
    if done.damaged:
        shown = ", ".join(done.damaged[:20]) + (" …" if len(done.damaged) > 20 else "")
        raise PenstockError(
            f"{len(done.damaged)} documents are missing there: the topic has lost their records, and their chunks in "
            f"the index that serves are not whole. Publish them again: {shown}"
        )


@index.group()
def epoch() -> None:
    """Begin anew where offsets no longer compare."""


@epoch.command("bump")
@click.option("--why", required=True, help="Kept with the cut in the index contract.")
@click.option("--at", "at_ms", type=MOMENT, help="Records from this time on are newer, instead of from now on.")
@settings_option
def bump_command(why: str, at_ms: int | None, settings: Settings) -> None:
    """Begin a new epoch.

    For a topic that has more partitions now, or is another log (made anew, or the cluster was replaced), while no
    worker runs: everything from here on counts as newer than what is in the index. Restart producers before, so that
    they know the new partitions. Otherwise, for producers that place keys differently from now on, at lag 0. Twice
    changes nothing.

    With --at everything since that time counts as newer, by the timestamps of the records, and what was settled of it
    is processed again: for partitions that were added by no multiple while there was lag.

    \b
    Example: penstock index epoch bump --why "8 partitions instead of 4"
    """
    done = asyncio.run(bump(settings, why, at_ms))
    say(f"epoch {done.epoch} {'begins' if done.made else 'goes on'}: {done.reason}")


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
    say(f"{'would delete' if dry_run else 'deleted'} {told}")


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
    rows, _ = asyncio.run(_status(settings))
    if as_json:
        print_json(rows)
        return
    _print_rows(rows)


async def _status(settings: Settings) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    async with connect(settings.elasticsearch) as client, log_reader(settings) as reader:
        index = Index(client, settings)
        contracts = {one.index: one.contract for one in await index.generations()}
        return await generation_rows(index, reader, settings, refresh=True), contracts
