"""`penstock ingest serve`."""

import logging
import os
import threading
from typing import Any

from agents.commands.common import say
from agents.log import setup_logging
from agents.settings import Settings
from agents.sources.http import Options
from agents.sources.http.serve import serve as run
from agents.stopping import finish

CLOSING_S = 5.0
"""After the drain, for whatever does not close."""


def serve(settings: Settings, **options: Any) -> None:
    """Until a signal stops it. Logs as a worker does."""
    setup_logging(settings.log)
    if settings.log.level != "debug":
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # each attempt; that Kafka is away is told once
    finish(run(settings, Options(**options), _listens, _stops))


def _listens(address: str) -> None:
    say(f"taking documents at {address}/documents", err=True)


def _stops(seconds: float) -> None:
    """A server that is stopped must never block its replacement: what was acknowledged is in the log."""
    timer = threading.Timer(seconds + CLOSING_S, os._exit, (0,))
    timer.daemon = True
    timer.start()
