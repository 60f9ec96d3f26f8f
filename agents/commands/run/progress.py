"""Bars of progress, on stderr."""

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from agents.commands.run.output import console
from agents.progress import Report
from agents.stopping import begin


def progress_bar() -> Progress:
    """A progress bar on stderr; on something that is no terminal it prints its last state only."""
    begin()  # a bar hides the cursor
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
    )


def reporter(bar: Progress) -> Report:
    """Reports what is done, and of how many, as one line of the bar for each kind of work."""
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what)
        bar.update(tasks[what], completed=done, total=total)

    return report


def byte_progress() -> Progress:
    """A progress bar for downloads."""
    begin()  # a bar hides the cursor
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
    )
