"""Bars of progress, on stderr; where that is no terminal, plain lines now and then."""

import threading
from collections.abc import Callable
from datetime import timedelta

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from agents.commands.run.output import console
from agents.progress import Report
from agents.stopping import begin

EVERY_S = 20.0
"""A plain line each: what is read later, or by whoever watches a build."""


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class _Told(Progress):
    """On something that is no terminal a bar shows its last state only: until then lines tell how far it is."""

    unit: Callable[[float], str] = "{:,.0f}".format

    def start(self) -> None:
        """Begin to tell, too."""
        if self.console.is_terminal or not self.live.transient:
            super().start()
        self._stopped = threading.Event()
        if not self.console.is_terminal:
            threading.Thread(target=self._tell, name="progress", daemon=True).start()

    def stop(self) -> None:
        """And end."""
        self._stopped.set()
        if self.console.is_terminal or not self.live.transient:  # of nothing that stays an empty line would
            super().stop()

    def _tell(self) -> None:
        while not self._stopped.wait(EVERY_S):
            for task in self.tasks:
                if not task.finished and task.total:
                    parts = [f"{self.unit(task.completed)} of {self.unit(task.total)}", f"{task.percentage:.0f}%"]
                    if task.speed:
                        parts += [f"{self.unit(task.speed)}/s", f"{timedelta(seconds=task.time_remaining or 0)} left"]
                    self.console.print(Text(f"{task.description}: {', '.join(parts)}"), soft_wrap=True)


def progress_bar(*, transient: bool = False) -> Progress:
    """A progress bar on stderr; a line every 20 s where that is no terminal. `transient`: nothing of it stays."""
    begin()  # a bar hides the cursor
    return _Told(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=transient,
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
    """A progress bar for downloads; a line every 20 s where stderr is no terminal."""
    begin()  # a bar hides the cursor
    bar = _Told(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
    )
    bar.unit = lambda size: decimal(int(size))
    return bar
