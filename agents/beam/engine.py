"""An engine of Beam as `Fill`: one batch, in a process of its own, with its progress where that is seen from here."""

import asyncio
import json
import os
import pickle
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

from agents.beam.child import GO_ON, RESULT
from agents.beam.ranges import pieces, scattered
from agents.beam.session import Goal, IntoIndex, Job
from agents.operations.filling import Fill, Task
from agents.progress import Report
from agents.settings import Settings
from agents.settings.secrets import give_to_children, without_secrets
from streams.errors import PenstockError

LOOK_EVERY_S = 0.5
END_S = 5.0
"""An engine that is told to end may take so long."""
PROCESSES = ("--direct_num_workers", "--parallelism", "--num_workers", "--max_num_workers")
"""Options of Beam's that say how many processes there are."""


def engine(runner: str, options: Sequence[str], report: Report) -> Fill:
    """`options`: Beam's own. Whoever cancels it ends the batch; what is done stays done."""

    async def fill(task: Task) -> Counter[str]:
        processes = processes_of(options)
        parts: Sequence[object] = scattered(task.ranges, processes)
        if task.snapshot:
            parts = pieces(task.snapshot.files, processes)
        elif task.filed:
            parts, _ = task.filed(task.ranges)
        goal = IntoIndex(
            index=task.index,
            sink=task.sink,
            former=task.former,
            at_ms=task.snapshot.at_ms if task.snapshot else None,
            absent=task.filed is not None,
        )

        def tell(done: int) -> None:
            report(task.step, min(task.total, done), task.total)

        counted = await run_batch(task.settings, goal, parts, [runner, *options], tell)
        tell(task.total)  # an engine on other machines does not say how far it is
        return counted

    return fill


async def run_batch(
    settings: Settings, goal: Goal, parts: Sequence[object], options: Sequence[str], tell: Callable[[int], None]
) -> Counter[str]:
    """All parts, in whatever order. `options`: the runner, and Beam's own; `tell`: called with how much is done.

    Returns what was counted. Raises PenstockError where the engine gave up.
    """
    runner, *own = options
    give_to_children(settings)
    with tempfile.TemporaryDirectory(prefix="penstock-backfill-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        job = Job(
            name=uuid4().hex,
            settings=without_secrets(settings),
            goal=goal,
            processes=processes_of(own),
            folder=folder,
        )
        async with _child((job, parts, ["--runner", runner, *own]), folder) as child:
            while child.returncode is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(child.wait(), LOOK_EVERY_S)
                tell(_through(folder))
        try:
            result = json.loads((folder / RESULT).read_text())
        except OSError:
            raise PenstockError(f"the batch ended with {child.returncode} and without a word; {GO_ON}") from None
    if error := result.pop("error", None):
        raise PenstockError(error)
    return Counter(result)


@asynccontextmanager
async def _child(job: object, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """It ends with the context, and all that it started with it; what they leave behind is in the folder."""
    payload = pickle.dumps(job)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "agents.beam.child"),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert child.stdin is not None  # noqa: S101 - it is a pipe
    try:
        with suppress(ConnectionError):  # it has ended already, and said why
            child.stdin.write(len(payload).to_bytes(8, "big") + payload)
            await child.stdin.drain()
        yield child
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), END_S)


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
    """What all processes are through; more than there are where a range was tried twice."""
    return sum(int(path.read_text()) for path in folder.iterdir() if path.name.isdecimal())
