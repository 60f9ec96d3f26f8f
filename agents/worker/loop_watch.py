"""Ends a process whose event loop stands still: nothing inside the loop can, and its partitions would wait for ever."""

import sys
import threading
import time
import traceback
from collections.abc import Callable

EVERY_S = 1.0


class LoopWatch:
    """A thread that calls `end` once, with where the main thread stands, after `limit_s` without a `tick`.

    Counts the time that it runs itself: a process that was stopped, or a machine that slept, had none.
    """

    def __init__(self, limit_s: float, end: Callable[[str], None], every_s: float = EVERY_S) -> None:
        self._limit_s = limit_s
        self._end = end
        self._every_s = every_s
        self._still_s = 0.0

    def start(self) -> None:
        """From within the loop's own thread."""
        watched = threading.get_ident()
        threading.Thread(target=self._watch, args=(watched,), daemon=True, name="penstock-loop-watch").start()

    def tick(self) -> None:
        """The loop runs."""
        self._still_s = 0.0

    def _watch(self, watched: int) -> None:
        while self._still_s <= self._limit_s:
            time.sleep(self._every_s)
            self._still_s += self._every_s
        frame = sys._current_frames().get(watched)
        stands = "".join(traceback.format_stack(frame)[-3:]) if frame else ""
        self._end(f"the event loop has stood still for {self._limit_s:.0f} s, at\n{stands}")
