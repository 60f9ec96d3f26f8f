"""`penstock ingest files`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.commands.common import say
from agents.commands.run.progress import progress_bar
from agents.settings import Settings
from agents.sources import Outgoing
from agents.sources.files import find_files, read_file
from agents.sources.publish import publish
from agents.stopping import finish


def files(settings: Settings, paths: Sequence[Path], *, max_lag: int, partitions: int) -> None:
    """Publish all that is found, with a bar."""
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

        count = finish(publish(settings, documents(), max_lag=max_lag, partitions=partitions, report=report))
    say(f"published {count} documents to {settings.source.topic}")
