"""What several commands share: options and output."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from agents.settings import Settings, load_settings

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def settings_option(function: F) -> F:
    """`--config FILE`, handed to the command as validated `settings`."""

    def load(_: click.Context, __: click.Parameter, value: Path | None) -> Settings:
        return load_settings(value)

    return click.option(
        "--config",
        "settings",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        callback=load,
        help="Settings in TOML; the environment wins over it.",
    )(function)


def print_json(data: Any) -> None:
    """Indented JSON on stdout."""
    click.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode())


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
        console=Console(stderr=True),
    )


def byte_progress() -> Progress:
    """A progress bar for downloads."""
    from rich.progress import DownloadColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
