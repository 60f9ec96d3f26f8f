"""The console script `penstock`. Whatever it runs can be stopped from its first moment on."""

import os
import signal
import sys

from agents.stopping import end_at_once

FEW_THREADS = {"OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
"""numpy's and rensa's pools: what they get here is small, and their threads would wait busily for more of it, on cores
that the model needs. Read when the library is loaded; whoever sets another number has it."""


def with_few_threads() -> None:
    """Call it before numpy is imported."""
    for name, number in FEW_THREADS.items():
        os.environ.setdefault(name, number)


def end_at_signals() -> None:
    """Until Faust has handlers of its own, SIGTERM and SIGINT end the process at once, with 0: nothing was begun.

    The first process of a container has no default for a signal: one without a handler is lost, and the orchestrator
    would wait for its whole grace period. For a worker only; call it before anything that takes time, imports included.
    """

    def end(*_: object) -> None:
        os.write(2, b"penstock: stopped before it began\n")
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def open_closed_streams() -> None:
    """Standard streams that whoever started this has closed become the null device.

    Python has None for them, and the next file or connection would take their number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - until the end; the lowest free number is its own


def main() -> None:
    """Run the command line."""
    open_closed_streams()
    with_few_threads()
    worker = sys.argv[1:2] == ["worker"]
    (end_at_signals if worker else end_at_once)()
    from agents.commands import main as run

    try:
        run()
    finally:
        if not worker:
            end_at_once()  # nothing is left to tidy up but by Python itself
