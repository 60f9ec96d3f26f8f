"""The process that a batch runs in: `python -P -m agents.beam.child`. Whoever started it holds its standard input.

Engines want the main thread for signals of their own, and cannot be cancelled: this process is ended instead, with all
that it started, and it ends by itself when nobody holds its input any more.
"""

import json
import logging
import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from streams.errors import PenstockError

RESULT = "result.json"
"""In the job's folder: what was counted, or `error`."""
LOST = "Worker subprocess exited"
GO_ON = "what is done stays done: run it again to go on"


def main() -> None:
    """The job, its ranges and Beam's options come pickled, with their length before them."""
    size = int.from_bytes(_read(8), "big")
    job, parts, options = pickle.loads(_read(size))  # noqa: S301 - from whoever started this process
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    level = logging.INFO if job.settings.log.level == "debug" else logging.ERROR  # engines say much
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("agents").setLevel(logging.WARNING)
    from agents.beam.pipeline import run  # takes a second

    def lost(told: threading.ExceptHookArgs) -> None:
        """Beam's own runner would wait for a process that was killed for ever."""
        if isinstance(told.exc_value, RuntimeError) and LOST in str(told.exc_value):
            _end(job.folder, {"error": f"a process of the batch was killed ({told.exc_value}); {GO_ON}"})
        before(told)

    before, threading.excepthook = threading.excepthook, lost
    try:
        result: dict[str, Any] = dict(run(job, parts, options))
    except PenstockError as exc:
        result = {"error": str(exc)}
    _end(job.folder, result)


def _end(folder: Path, result: dict[str, Any]) -> NoReturn:
    scratch = folder / f"{RESULT}.half"
    scratch.write_text(json.dumps(result))
    scratch.replace(folder / RESULT)
    os._exit(0)  # an engine's own threads would hold the exit up


def _read(size: int) -> bytes:
    return sys.stdin.buffer.read(size)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
