"""What Ctrl-C (SIGINT) and SIGTERM do to a command: it ends with 130 or 143. A worker has handlers of its own.

Until there is something to tidy up, a signal ends the process at once: an exception in the midst of an import, of a
library in C above all, comes out as any other. Afterwards it is a KeyboardInterrupt, or what `asyncio` makes of one.
"""

import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
NUMBERS = (signal.SIGINT, signal.SIGTERM)
_terminated = False


def end_at_once() -> None:
    """From here on a signal ends the process, without a word. One that whoever started it has ignored stays ignored.

    The first process of a container has no default for a signal: one without a handler is lost.
    """
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def begin() -> None:
    """From here on there is something to tidy up. Twice is harmless, and so it is without `end_at_once`."""
    if signal.getsignal(signal.SIGTERM) is _end:
        signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the one that asyncio.run replaces by its own


def finish(work: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` does, and a signal cancels it."""
    import asyncio  # not for a help text

    begin()
    return asyncio.run(work)


def exit_code(exc: BaseException) -> int | None:
    """Of a command that a signal stopped, whatever an exception became on its way; None for any other failure."""
    seen = set[int]()
    left: list[BaseException | None] = [exc]
    while left:
        one = left.pop()
        if isinstance(one, KeyboardInterrupt):
            return 128 + (signal.SIGTERM if _terminated else signal.SIGINT)
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            left += [one.__cause__, one.__context__]
    return None


def _end(number: int, _: object) -> None:
    os._exit(128 + number)


def _terminate(_: int, frame: Any) -> None:
    """As Ctrl-C does, by whatever handles that now."""
    global _terminated
    _terminated = True
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)
