"""`penstock ingest`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from agents.commands.common import MOMENT, json_option, settings_option

if TYPE_CHECKING:
    from agents.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


class _DeletesType(click.ParamType):
    """A number of documents, or a share of them: `25`, `10%`."""

    name = "number or share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """A number as int, a share as float. Fails with what is wrong."""
        if not isinstance(value, str):
            return float(value) if isinstance(value, float) else int(value)
        found = re.fullmatch(r"(\d+)(%?)", value)
        if not found or (found[2] and int(found[1]) > 100):
            self.fail(f"{value!r} is neither a number of documents (25) nor a share of them (10%)", param, ctx)
        return int(found[1]) / 100 if found[2] else int(found[1])


dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
prefix_option = click.option("--prefix", default="", help="Put this before every id.")
max_lag_option = click.option(
    "--max-lag",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    help="Wait while the lag is above.",
)
partitions_option = click.option(
    "--partitions", type=click.IntRange(1), default=8, show_default=True, help="Of a topic made now."
)


def source_options(function: F) -> F:
    """What every source of objects has."""
    for option in reversed(
        (
            click.option("--sync", is_flag=True, help="Delete the documents of what is gone from the source."),
            click.option(
                "--max-deletes",
                type=_DeletesType(),
                default="10%",
                show_default=True,
                help="Refuse to delete more documents of a source than that.",
            ),
            click.option("--again", is_flag=True, help="Publish what is unchanged, too."),
            click.option("--strict", is_flag=True, help="Publish nothing when anything fails; reads all twice."),
            dry_run_option,
            prefix_option,
            max_lag_option,
            partitions_option,
            json_option,
            settings_option,
        )
    ):
        function = option(function)
    return function


@click.group()
def ingest() -> None:
    """Publish documents to the source topic: what changed since the last time."""


id_option = click.option(
    "--id",
    "by",
    type=click.Choice(["uri", "relative"]),
    default="uri",
    show_default=True,
    help="Name documents by URI, or by the path in what was named.",
)


@ingest.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@id_option
@source_options
def files(paths: tuple[Path, ...], by: Literal["uri", "relative"], settings: "Settings", **options: Any) -> None:
    """Publish text, Markdown and JSON-lines files; folders are searched, links to folders in them are not.

    What changed since the last time is read and published, and the rest is passed over. A bad file, or a bad line, is
    listed at the end, where the exit code is 1; the others are published.

    A JSON line's id is its `id`.

    \b
    Example: penstock ingest files docs/ notes.md corpus.jsonl
    Example: penstock ingest files docs/ --sync --dry-run
    """
    from agents.commands.run.ingest import files as run

    run(settings, paths, by=by, **options)


endpoint_option = click.option("--endpoint", metavar="URL", help="Of a server that is not Amazon's.")
region_option = click.option("--region", help="Where the environment does not say.")


@ingest.command()
@click.argument("uris", nargs=-1, required=True, metavar="s3://BUCKET/PREFIX...")
@endpoint_option
@region_option
@id_option
@source_options
def s3(
    uris: tuple[str, ...],
    endpoint: str | None,
    region: str | None,
    by: Literal["uri", "relative"],
    settings: "Settings",
    **options: Any,
) -> None:
    """Publish the objects of a bucket whose keys begin with a prefix, of the kinds that `ingest files` reads.

    Credentials are found as Amazon's own tools find them. Needs `pip install 'penstock[s3]'`, and `documents` for more
    than text.

    \b
    Example: penstock ingest s3 s3://handbook/docs/ --sync
    Example: penstock ingest s3 s3://handbook --endpoint http://127.0.0.1:9000 --region us-east-1
    """
    from agents.commands.run.ingest import s3 as run

    run(settings, uris, endpoint=endpoint, region=region, by=by, **options)


class _StartType(click.ParamType):
    """`trim-horizon`, `latest`, or a moment as `MOMENT` takes it."""

    name = "trim-horizon|latest|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A moment as epoch milliseconds. Fails with what is wrong."""
        return value if value in ("trim-horizon", "latest") else MOMENT.convert(value, param, ctx)


@ingest.command()
@click.argument("stream")
@endpoint_option
@region_option
@click.option(
    "--from",
    "start",
    type=_StartType(),
    default="trim-horizon",
    show_default=True,
    help="Where to begin with a stream that was never read.",
)
@click.option(
    "--id",
    "by",
    type=click.Choice(["json", "partition-key"]),
    default="json",
    show_default=True,
    help="Name documents by their `id`, or by the record's partition key.",
)
@prefix_option
@click.option("--once", is_flag=True, help="End when every shard is read up to now.")
@click.option("--forget-missed", "forget", is_flag=True, help="What is listed as missed till now was sent again.")
@click.option("--dry-run", is_flag=True, help="Say how far each shard is, and do nothing.")
@max_lag_option
@partitions_option
@json_option
@settings_option
def kinesis(stream: str, settings: "Settings", **options: Any) -> None:
    """Publish what comes in a stream of Kinesis, named or by its ARN, until stopped.

    A record's data is a document as JSON, with an `id`. How far each shard is read is written in the transaction of its
    records: nothing is lost, or there twice, whatever ends it. Split and merged shards are read in their order, and the
    records of the producer library are unpacked. What is no document is published all the same, and dead-lettered by
    the worker, with the reason.

    What retention took before it was read is logged as an error and listed, to be sent again; the exit code is 1 then.
    SIGTERM and Ctrl-C end it with 0, as they do a worker.

    Credentials are found as Amazon's own tools find them. Needs `pip install 'penstock[kinesis]'`.

    \b
    Example: penstock ingest kinesis documents --region eu-central-1
    Example: penstock ingest kinesis documents --from 2h --id partition-key
    Example: penstock ingest kinesis documents --dry-run
    """
    from agents.commands.run.ingest_kinesis import kinesis as run

    run(settings, stream, **options)
