"""What the declarations of several commands share: options, and a line of output."""

import logging
import math
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agents.terminal import shown

if TYPE_CHECKING:
    from agents.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

CONFIG = "penstock.config"
"""In a click context: the file that the settings were read from, if any."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def settings_option(function: F) -> F:
    """`--config FILE`, handed to the command as validated `settings`."""

    def load(context: click.Context, _: click.Parameter, value: Path | None) -> "Settings | None":
        if context.resilient_parsing:  # the command will not run: its line is being completed
            return None
        from agents.settings.loading import load_settings  # with pydantic: not for help

        context.meta[CONFIG] = value
        settings = load_settings(value)
        tell_warnings(settings)
        return settings

    return click.option(
        "--config",
        "settings",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        callback=load,
        help="Settings in TOML; the environment wins over it.",
    )(function)


class _WhenNeeded(logging.Handler):
    """Sets logging up at the first line: most commands have none, and need not import what formats it."""

    def __init__(self, settings: "Settings") -> None:
        super().__init__()
        self._settings = settings.log

    def emit(self, record: logging.LogRecord) -> None:
        """Tell this one, too, but where its library says less from now on."""
        from agents.log import setup_logging

        quiet = self._settings.level == "info"  # what merely happens is the result's to tell
        setup_logging(self._settings.model_copy(update={"level": "warning"}) if quiet else self._settings)
        _hush()
        if logging.getLogger(record.name).isEnabledFor(record.levelno):
            logging.root.handle(record)


def _hush() -> None:
    """Kafka's client logs each attempt; what came of them is in the command's own error."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def tell_warnings(settings: "Settings") -> None:
    """What goes wrong inside a command is told as a worker tells it. A worker sets up its own."""
    if not logging.root.handlers:
        logging.root.addHandler(_WhenNeeded(settings))
        _hush()


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


class Number(click.FloatRange):
    """Within its bounds. `nan` is within any and compares with nothing, so that whatever it bounds would go through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Fails with what is wrong."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


def say(text: str, *, err: bool = False) -> None:
    """A line for people, on stdout or stderr."""
    click.echo(shown(text), err=err)
