"""What Ctrl-C (SIGINT) and SIGTERM do to a command: it ends with 130 or 143. A worker has handlers of its own.

Until there is something to tidy up, a signal ends the process at once: an exception in the midst of an import, of a
library in C above all, comes out as any other. Afterwards it is a KeyboardInterrupt, or what `asyncio` makes of one.

A library may lose the cancellation that `asyncio` makes of it: whoever gathers calls, or waits for one with a time-out
(`asyncio.wait_for`, before Python 3.12), has the answer or the error that came at the same moment, and goes on. So a
call that may lose it goes through `cancellable`, and what runs on and on asks `end_if_asked`.
"""

import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
NUMBERS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 1.0
"""Between two cancellations of what does not end by one."""
_terminated = False


class Stopped(KeyboardInterrupt):
    """By one signal, and what was going on has ended in order."""


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


def end_if_asked() -> None:
    """Raises CancelledError where this task was cancelled, and what it called has lost that."""
    import asyncio

    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def cancellable(call: Callable[[], Awaitable[T]]) -> T:
    """What it returns, or raises; but CancelledError whenever this task is cancelled meanwhile, whatever came of it.

    The call is cancelled every second until it ends, so that only what may be cut off belongs in it.
    """
    import asyncio

    work = asyncio.ensure_future(call())
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        await cut_off(work)
        raise
    return work.result()


async def cut_off(work: "asyncio.Future[Any]") -> None:
    """Cancel it again and again, until it ends, whatever it waits for. What came of it nobody asks."""
    import asyncio

    while not work.done():
        work.cancel()
        await asyncio.wait([work], timeout=AGAIN_S)
    if not work.cancelled():
        work.exception()  # else Python complains that nobody asked


def finish(work: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` does, and a signal cancels it: then it raises Stopped.

    A second one raises KeyboardInterrupt wherever that is.
    """
    import asyncio  # not for a help text

    begin()
    stopped = False

    async def stoppable() -> T:
        """The loop takes the signal: a handler of Python's cancels what the callback it interrupts is about to end."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        before = {number: signal.getsignal(number) for number in NUMBERS}

        def give_back() -> None:
            for number, handler in before.items():
                if loop.remove_signal_handler(number):
                    signal.signal(number, handler)

        def stop(number: int) -> None:
            nonlocal stopped
            global _terminated
            stopped, _terminated = True, number == signal.SIGTERM
            give_back()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if task:
                task.cancel()

        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    loop.add_signal_handler(number, stop, number)
        try:
            return await work
        finally:
            give_back()

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        if stopped:
            raise Stopped from None
        raise


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
