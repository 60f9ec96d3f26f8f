"""Structured logs: one line an event, with positions and never a document's text or a secret."""

import logging
import sys
from typing import Any

import structlog

from agents.settings import LogSettings
from streams.errors import PenstockError

NOISY = {
    "aiokafka": logging.WARNING,
    "elastic_transport": logging.ERROR,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
}


def setup_logging(settings: LogSettings) -> None:
    """Send all logging, Faust's and aiokafka's too, to stderr in one format. Replaces what was set up before."""
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _message_only_for_expected,
    ]
    if settings.format == "json":
        last: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, *last])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.root.handlers[:] = [handler]
    level = logging.getLevelName(settings.level.upper())
    logging.root.setLevel(level)
    for name, least in NOISY.items():
        logging.getLogger(name).setLevel(max(level, least) if settings.level != "debug" else level)


def _message_only_for_expected(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Penstock's own errors say what to do; their traceback helps nobody."""
    exc_info = event.get("exc_info")
    error = exc_info[1] if isinstance(exc_info, tuple) else None
    if isinstance(error, PenstockError):
        del event["exc_info"]
    return event
