"""What a worker says on stderr, which it never waits for: whoever reads it may have stopped to.

A terminal after Ctrl-S, a log driver whose sink is away, a pipe into something that hangs: each would hold the event
loop at its next line, with partitions that nobody else is given, and deaf to SIGTERM.
"""

import atexit
import io
import logging
import queue
import sys
import threading
from contextlib import suppress
from typing import TextIO

LINES = 10_000
"""So many wait for their reader; those beyond are dropped, and counted."""
LAST_S = 1.0
"""What a process that ends gives its last lines."""

logger = logging.getLogger(__name__)


class Unhurried(io.TextIOBase):
    """A text stream before another one, which a thread of its own writes to, in order. `write` never blocks or fails.

    What was dropped is told in one line when the reader is back; nobody who closed the other end is told anything.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._waiting: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._dropped = 0
        threading.Thread(target=self._write_out, daemon=True, name="penstock-log").start()
        atexit.register(self.finish)

    def write(self, text: str) -> int:
        """Take it, or drop it."""
        if self._waiting.qsize() < LINES:
            self._waiting.put(text)
        else:
            self._dropped += 1
        return len(text)

    def finish(self) -> None:
        """Wait until all that was taken is written, or for a second. Before `os._exit`."""
        self._waiting.put(written := threading.Event())
        written.wait(LAST_S)

    def isatty(self) -> bool:
        """Whether it ends at a terminal."""
        return self.out.isatty()

    def fileno(self) -> int:
        """Of the other one, for who must write past this one."""
        return self.out.fileno()

    def _write_out(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, threading.Event):
                item.set()
            else:
                with suppress(OSError, ValueError):  # closed, or a full disk behind it
                    self.out.write(item)
                    self.out.flush()
            if self._dropped and not self._waiting.qsize():
                dropped, self._dropped = self._dropped, 0
                logger.warning("log lines were dropped: nobody read them", extra={"lines": dropped})


def never_wait() -> None:
    """From now on stderr is written to by a thread. Twice is harmless."""
    if not isinstance(sys.stderr, Unhurried):
        sys.stderr = Unhurried(sys.stderr)


def finish() -> None:
    """See `Unhurried.finish`; before `os._exit`."""
    if isinstance(sys.stderr, Unhurried):
        sys.stderr.finish()
    else:
        sys.stderr.flush()
