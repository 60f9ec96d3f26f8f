"""`penstock ingest files`."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from agents.commands.common import progress_bar, say, settings_option
from agents.ingest import publish
from agents.settings import Settings
from agents.sources import Outgoing
from agents.sources.files import find_files, read_file


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
def files(paths: tuple[Path, ...], max_lag: int, partitions: int, settings: Settings) -> None:
    """Publish text, Markdown and JSON-lines files; folders are searched, links to folders in them are not.

    Ids are relative paths, and the `id` of each JSON line.

    Publishing a file again replaces its document; an unchanged one costs almost nothing.

    \b
    Example: penstock ingest files docs/ notes.md corpus.jsonl
    """
    found = find_files(list(paths))
    with progress_bar() as bar:
        task = bar.add_task("publishing", total=len(found))
        published = 0

        def report(done: int, state: str) -> None:
            nonlocal published
            published += done
            bar.update(task, description=f"{state} ({published} documents)")

        def documents() -> Iterator[Outgoing]:
            for file, name in found:
                yield from read_file(file, name)
                bar.advance(task)

        count = asyncio.run(publish(settings, documents(), max_lag=max_lag, partitions=partitions, report=report))
    say(f"published {count} documents to {settings.source.topic}")
