"""What several commands share: options and output."""

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from agents.progress import Report
from agents.settings import Settings, load_settings
from agents.terminal import in_json, shown

F = TypeVar("F", bound=Callable[..., Any])

CONFIG = "penstock.config"
"""In a click context: the file that the settings were read from, if any."""

WIDE = 240

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def settings_option(function: F) -> F:
    """`--config FILE`, handed to the command as validated `settings`."""

    def load(context: click.Context, _: click.Parameter, value: Path | None) -> Settings:
        context.meta[CONFIG] = value
        return load_settings(value)

    return click.option(
        "--config",
        "settings",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        callback=load,
        help="Settings in TOML; the environment wins over it.",
    )(function)


class MomentType(click.ParamType):
    """A moment as epoch milliseconds: ISO 8601 (UTC without a zone), or how long ago: `90s`, `30m`, `2h`, `7d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails with what is wrong."""
        if isinstance(value, int):
            return value
        if ago := re.fullmatch(r"(\d+)([smhd])", value):
            seconds = int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[ago[2]]
            return int((time.time() - seconds) * 1000)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither ISO 8601 (2026-03-01T12:00) nor how long ago (30m, 2h, 7d)", param, ctx)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


MOMENT = MomentType()


def when(epoch_ms: int) -> str:
    """A moment for people and programs: ISO 8601 in UTC."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def say(text: str, *, err: bool = False) -> None:
    """A line for people, on stdout or stderr."""
    click.echo(shown(text), err=err)


def print_json(data: Any) -> None:
    """Indented JSON on stdout."""
    click.echo(in_json(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode()))


class _SafeConsole(Console):
    """Prints what it is given and obeys nothing in it: neither control characters nor rich's own markup."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)  # before it is measured

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))


def console(*, stderr: bool = False) -> Console:
    """What is no terminal has room: a log or a pipe gets whole names, not the 80 columns of one."""
    made = _SafeConsole(stderr=stderr, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = WIDE
    return made


def progress_bar() -> Progress:
    """A progress bar on stderr; on something that is no terminal it prints its last state only."""
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
    from rich.progress import DownloadColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
    )
