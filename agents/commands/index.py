"""`penstock index create|status|duplicates|digest|verify|vacuum|rebuild|baseline|epoch`.

The swaps are in `generations`.
"""

from typing import TYPE_CHECKING

import click

from agents.commands.common import MOMENT, Number, json_option, settings_option
from agents.commands.generations import compare_command, drop_command, promote_command, rollback_command
from agents.commands.lazy import Group
from agents.commands.verify import verify_command

if TYPE_CHECKING:
    from agents.settings import Settings


@click.group(cls=Group)
def index() -> None:
    """Create and inspect the vector index.

    \b
    Example: penstock index create
    """


for command in (verify_command, promote_command, rollback_command, drop_command, compare_command):
    index.add_command(command)


@index.command()
@click.option(
    "--load", is_flag=True, help="For a first fill: no refreshes and no replicas until what is there is indexed."
)
@click.option("--model", metavar="NAME", help="For this model, beside what is there: the next generation.")
@click.option("--snapshots", is_flag=True, help="With room for snapshots: `penstock backfill --from`.")
@settings_option
def create(load: bool, model: str | None, snapshots: bool, settings: "Settings") -> None:
    """Make the index for the configured model and topic, with its registry and aliases. Twice is harmless.

    The first one of an alias serves at once. A further one, for another model or another source.group, is filled by
    workers with a source.group of their own, and serves when it is promoted.

    With --load readers see nothing until all that was in the topic when a worker started is indexed: it then sets
    refresh_interval and replicas as configured, whatever came in meanwhile. So publish first, then start workers. The
    note about that is in the index itself, so a crash changes nothing.

    With --snapshots workers may begin before the first snapshot is loaded; without workers, `penstock backfill --from`
    makes such an index by itself.

    \b
    Example: penstock index create
    Example: penstock index create --model all-MiniLM-L6-v2-int8
    """
    from agents.commands.run.index_create import create as run

    run(settings, model=model, load=load, snapshots=snapshots)


@index.command()
@settings_option
@json_option
def status(settings: "Settings", as_json: bool) -> None:
    """Show the generations of the index with their documents, lag and contract; readers see the one that serves.

    \b
    Example: penstock index status --json
    """
    from agents.commands.run.index_status import status as run

    run(settings, as_json=as_json)


@index.command()
@click.option("--in-place", is_flag=True, help="Into the index that is there, while no worker runs.")
@click.option("--from", "start", metavar="OFFSET|TIME", help="From here on; without it from the topic's start.")
@click.option("--rate", type=Number(1), metavar="N", help="At most N documents a second.")
@click.option("--model", metavar="NAME", help="With this model instead of the configured one.")
@click.option("--embed-all", is_flag=True, help="Take no vectors from the index that serves.")
@settings_option
@json_option
def rebuild(
    in_place: bool,
    start: str | None,
    rate: float | None,
    model: str | None,
    embed_all: bool,
    settings: "Settings",
    as_json: bool,
) -> None:
    """Process the stream again, into an index of its own; readers and workers go on undisturbed meanwhile.

    Documents that are older than --from, or that the topic no longer holds, are taken from the text in the index that
    serves. A chunk whose text and model are the same there keeps its vector, unless --embed-all says that none of them
    is to be trusted. Interrupted, it goes on when it is started again. Then start workers with the source.group that it
    names, and promote the index.

    --in-place instead sets the claims back, while no worker runs: what is in the index already costs a look at its
    registry; only what is missing there is embedded.

    OFFSET counts for every partition; TIME is ISO 8601, or how long ago: `2h`.

    \b
    Example: penstock index rebuild --from 2026-03-01T12:00 --rate 200
    Example: penstock index rebuild --in-place --from 2h
    """
    offset = int(start) if start is not None and start.isdecimal() else None
    at_ms = MOMENT.convert(start, None, None) if start is not None and offset is None else None
    if in_place and (rate or model or embed_all):
        raise click.UsageError(
            "--rate, --model and --embed-all are for a rebuild beside: with --in-place the workers do it"
        )
    from agents.commands.run import index_rebuild as run

    if in_place:
        run.in_place(settings, offset, at_ms, as_json=as_json)
    else:
        run.beside(settings, offset, at_ms, rate, model, embed_all=embed_all, as_json=as_json)


@index.command("duplicates")
@click.option(
    "--similarity",
    type=Number(0.5, 1),
    default=0.8,
    show_default=True,
    help="What two documents have in common, of all that either has.",
)
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="How many groups to show.")
@settings_option
@json_option
def duplicates_command(similarity: float, limit: int, settings: "Settings", as_json: bool) -> None:
    """List groups of documents that are nearly the same, in the index that readers see.

    Compares what documents say, without case and white space, by signatures that are stored with them. That is an
    estimate: nearly all pairs that are so similar are found, and some that are a little less so. Nothing is changed.

    \b
    Example: penstock index duplicates --similarity 0.9
    """
    from agents.commands.run.index_duplicates import duplicates as run

    run(settings, similarity, limit, as_json=as_json)


@index.command("digest")
@click.argument("name", metavar="[INDEX]", required=False)
@click.option("--by", type=click.Choice(["partition"]), help="A line for each partition, too.")
@click.option("--against", metavar="INDEX|FILE", help="Another index, or what --json wrote of one elsewhere.")
@click.option(
    "--min-cosine", type=Number(-1, 1), default=0.999, show_default=True, help="Of vectors that should be the same."
)
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="How many differences to show.")
@settings_option
@json_option
def digest_command(
    name: str | None,
    by: str | None,
    against: str | None,
    min_cosine: float,
    limit: int,
    settings: "Settings",
    as_json: bool,
) -> None:
    """Tell by one number what INDEX holds, the one that serves when none is named. The same number, the same documents.

    It is made of the id, version, state and chunks of every document, whatever the order in which they came: a stream
    and a rebuild of one log have the same. Vectors are not in it, as no two machines compute the same bits: with
    --against an index, those of 100 documents are compared. Compare while nothing is written.

    With --against it is said where two differ: by partition and range of ids, and the documents themselves where both
    are at hand. Exits with 1 when they do. --json writes a manifest that can be kept, and held against another
    cluster's index.

    \b
    Example: penstock index digest --against documents-b-000002
    Example: penstock index digest --json > before.json && penstock index digest --against before.json
    """
    from agents.commands.run.index_digest import digest as run

    run(settings, name, against, by_partition=by is not None, least=min_cosine, limit=limit, as_json=as_json)


@index.group()
def epoch() -> None:
    """Begin anew where offsets no longer compare.

    \b
    Example: penstock index epoch bump --why "8 partitions instead of 4"
    """


@epoch.command("bump")
@click.option("--why", required=True, help="Kept with the cut in the index contract.")
@click.option("--at", "at_ms", type=MOMENT, help="Records from this time on are newer, instead of from now on.")
@settings_option
def bump_command(why: str, at_ms: int | None, settings: "Settings") -> None:
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
    from agents.commands.run.index_epoch import bump_epoch

    readable = why.encode(errors="surrogateescape").decode(errors="replace")  # what the shell gave may be any bytes
    bump_epoch(settings, readable, at_ms)


@index.command("vacuum")
@click.option("--before", "before_ms", type=MOMENT, default="7d", show_default=True, help="The horizon.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@settings_option
@json_option
def vacuum_command(before_ms: int, dry_run: bool, settings: "Settings", as_json: bool) -> None:
    """Delete old stubs and entries.

    A document that shrank or was deleted leaves empty stubs, which keep late writes from reviving it. Those older
    than the horizon go, and then the entries of deleted documents. No worker may have slept for so long.

    \b
    Example: penstock index vacuum --before 30d --dry-run
    """
    from agents.commands.run.index_vacuum import vacuum as run

    run(settings, before_ms, dry_run=dry_run, as_json=as_json)


@index.command("baseline")
@click.argument("name", metavar="[INDEX]", required=False)
@click.option("--forget", is_flag=True, help="A new one is taken of what comes from now on.")
@settings_option
@json_option
def baseline_command(name: str | None, forget: bool, settings: "Settings", as_json: bool) -> None:
    """Show how the vectors of an index were spread at first: what `penstock_embedding_drift` is measured from.

    Without INDEX of the one that serves. A worker takes the baseline once it has embedded 1,000 chunks, and all that
    was in the topic at its start is settled; a rebuild takes it at its end.

    With --forget it is forgotten: for when documents are others for good, and the drift is no fault.

    \b
    Example: penstock index baseline --forget
    """
    from agents.commands.run.index_baseline import baseline as run

    run(settings, name, forget=forget, as_json=as_json)


@index.command("list")
@settings_option
@json_option
def list_command(settings: "Settings", as_json: bool) -> None:
    """List the indices of the alias.

    \b
    Example: penstock index list
    """
    from agents.commands.run.index_status import list_indices

    list_indices(settings, as_json=as_json)
