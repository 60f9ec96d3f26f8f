"""Structured logs: one line an event, with positions and never a document's text or a secret."""

import io
import logging
import sys
from typing import Any, TextIO

import structlog

from agents.settings.sections import LogSettings
from agents.terminal import in_line, shown
from streams.errors import PenstockError

OWN = ("agents", "models", "streams")
NOISY = {
    "aiokafka": logging.WARNING,
    "elastic_transport": logging.ERROR,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
}
"""Libraries that say too much at `info`. At `debug` they are at `info`, and so is every other library: their debug
lines are whole requests, with texts (elastic_transport, aiokafka.producer, faust.agents) and logins (aiokafka.conn).
"""
DEBUGGED = ("aiokafka.consumer.group_coordinator", "aiokafka.cluster", "faust.tables.recovery")
"""Their debug lines have topics, members and offsets only, and are what a rebalance is understood by."""
CRASH = "We experienced a crash! Reraising original exception..."
"""Left out: what mode says before every end with an error, a refusal too. The error itself follows, with what to do."""


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
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_traceback)
        last = [_for_terminals, console]
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, *last])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(lambda record: not str(record.msg).endswith(CRASH))
    logging.root.handlers[:] = [handler]
    level = logging.getLevelName(settings.level.upper())
    debug = settings.level == "debug"
    logging.root.setLevel(logging.INFO if debug else level)
    for name in OWN:
        logging.getLogger(name).setLevel(level)
    for name, least in NOISY.items():
        logging.getLogger(name).setLevel(logging.INFO if debug else max(level, least))
    for name in DEBUGGED:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.NOTSET)


def _for_terminals(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Nothing in an event is obeyed by a terminal. In JSON it is escaped anyhow."""
    safe = {name: in_line(value) if isinstance(value, str) else value for name, value in event.items()}
    return safe | {"event": shown(str(event["event"]))}


def _traceback(out: TextIO, exc_info: Any) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    out.write(shown(text.getvalue()))


def _message_only_for_expected(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Penstock's own errors say what to do, and so does Kafka's that a login lacks an ACL; a traceback helps nobody."""
    exc_info = event.get("exc_info")
    error = exc_info[1] if isinstance(exc_info, tuple) else None
    if isinstance(error, PenstockError) or "AuthorizationFailed" in type(error).__name__:
        del event["exc_info"]
    return event
