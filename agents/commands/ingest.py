"""`penstock ingest files`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.commands.common import settings_option

if TYPE_CHECKING:
    from agents.settings import Settings


@click.group()
def ingest() -> None:
    """Publish documents to the source topic."""


@ingest.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--max-lag",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    help="Wait while the lag is above.",
)
@click.option("--partitions", type=click.IntRange(1), default=8, show_default=True, help="Of a topic made now.")
@settings_option
def files(paths: tuple[Path, ...], max_lag: int, partitions: int, settings: "Settings") -> None:
    """Publish text, Markdown and JSON-lines files; folders are searched, links to folders in them are not.

    Ids are relative paths, and the `id` of each JSON line.

    Publishing a file again replaces its document; an unchanged one costs almost nothing.

    \b
    Example: penstock ingest files docs/ notes.md corpus.jsonl
    """
    from agents.commands.run.ingest import files as run

    run(settings, paths, max_lag=max_lag, partitions=partitions)
