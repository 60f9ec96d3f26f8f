"""An engine of Beam as `Fill`: one batch, with its progress where all its processes are on this machine."""

import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast
from uuid import uuid4

from agents.beam.ranges import scattered
from agents.beam.session import Job
from agents.operations.filling import Fill, Task
from agents.progress import Report
from agents.settings.secrets import give_to_children, without_secrets

T = TypeVar("T")
LOOK_EVERY_S = 0.5
PROCESSES = ("--direct_num_workers", "--parallelism", "--num_workers", "--max_num_workers")
"""Options of Beam's that say how many processes there are."""


def engine(runner: str, options: Sequence[str], report: Report) -> Fill:
    """`options`: Beam's own. Cancelled, it leaves what is done; the rest of the batch ends with the process."""

    async def fill(task: Task) -> Counter[str]:
        from agents.beam.pipeline import run  # takes a second

        give_to_children(task.settings)
        processes = processes_of(options)
        with tempfile.TemporaryDirectory(prefix="penstock-backfill-") as folder:
            job = Job(
                name=uuid4().hex,
                settings=without_secrets(task.settings),
                index=task.index,
                sink=task.sink,
                former=task.former,
                processes=processes,
                progress=Path(folder),
            )
            parts = scattered(task.ranges, processes)
            work = on_a_thread(lambda: run(job, parts, ["--runner", runner, *options]))
            while not work.done():
                await asyncio.wait([work], timeout=LOOK_EVERY_S)
                report("from the topic", min(task.records, _through(Path(folder))), task.records)
            counted = await work
        report("from the topic", task.records, task.records)
        return counted

    return fill


def on_a_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """What nobody can cancel, on a thread that the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(cast(T, result))
            else:
                future.set_exception(error)

    def work() -> None:
        try:
            result, error = call(), None
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the caller's
            result, error = None, exc
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="beam", daemon=True).start()
    return future


def processes_of(options: Sequence[str]) -> int:
    """As Beam's options say; 1 where they do not."""
    found = 1
    for number, option in enumerate(options):
        name, _, value = option.partition("=")
        if name in PROCESSES:
            told = value or (options[number + 1] if number + 1 < len(options) else "")
            found = max(found, int(told)) if told.isdecimal() else found
    return found


def _through(folder: Path) -> int:
    """Offsets that all processes are through; more than there are where a range was tried twice."""
    return sum(int(path.read_text()) for path in folder.iterdir() if not path.suffix)
