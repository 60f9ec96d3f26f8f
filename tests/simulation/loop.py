"""An event loop that a test drives: tasks run until all wait for a step, then the test says which step happens."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False, slots=True)
class Step:
    """Something that an actor waits for, and what happens when its turn comes: (result, key of the result)."""

    actor: str
    label: str
    run: Callable[[], tuple[Any, Any]]
    future: "asyncio.Future[Any]"


class SimulatedLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as tasks, queues, conditions and time-outs need. No time passes in it."""

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()
        self.timers: list[asyncio.TimerHandle] = []

    def run_ready(self) -> None:
        """Run everything that can run."""
        asyncio._set_running_loop(self)
        try:
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    def call_soon(  # type: ignore[override]  # typed more loosely than typeshed has it
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]  # typed more loosely than typeshed has it
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self.timers.append(timer)
        return timer

    def call_later(  # type: ignore[override]  # typed more loosely than typeshed has it
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(delay, callback, *args, context=context)

    def fire_timers(self) -> None:
        """All deadlines come."""
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled():
                self._ready.append(timer)

    def time(self) -> float:
        return 0.0

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **_: Any) -> "asyncio.Task[Any]":  # type: ignore[override]
        task = asyncio.Task(coro, loop=self)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # a run may end anywhere, its tasks with it
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise context.get("exception") or RuntimeError(context["message"])

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass
