"""`penstock backfill`."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agents.beam.engine import engine
from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.extras import importing
from agents.operations.backfill import backfill as fill_from_topic
from agents.operations.rebuild import Rebuilt
from agents.settings import Settings, with_model_for_all
from agents.stopping import finish
from agents.terminal import counted
from streams.errors import PenstockError

SHOWN = 20


def backfill(
    settings: Settings,
    model: str | None,
    runner: str,
    options: Sequence[str],
    *,
    in_place: bool,
    embed_all: bool,
    as_json: bool,
) -> None:
    """Says how to go on. Raises PenstockError naming documents that neither the topic nor the old index has."""
    with importing("beam"), _quiet():
        from agents.beam.options import require_known
    require_known(runner, options)
    if model:
        settings = with_model_for_all(settings, model)
    with progress_bar() as bar:
        report = reporter(bar)
        fill = engine(runner, options, report)
        done = finish(fill_from_topic(settings, fill, report, in_place=in_place, embed_all=embed_all))
    if as_json:
        print_json(done)
        sys.exit(1 if done.damaged else 0)
    _show(done)


@contextmanager
def _quiet() -> Iterator[None]:
    """Beam tells what it looks for in vain, of Google's."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def _show(done: Rebuilt) -> None:
    say(
        f"{'went on with' if done.resumed else 'filled'} {done.index} in {done.seconds:.0f} s: "
        f"{counted(done.from_topic, 'record')} from the topic"
        + ("" if done.serving else f", {counted(done.from_index, 'document')} from the index that serves")
        + f"; {counted(done.embedded, 'chunk')} embedded, {done.reused} with their vectors of before"
    )
    say(
        f"start workers with source.group = {done.group}, which go on from there"
        + ("" if done.serving else f", then `penstock index promote {done.index}`")
    )
    if done.damaged:
        shown = ", ".join(done.damaged[:SHOWN]) + (" …" if len(done.damaged) > SHOWN else "")
        raise PenstockError(
            f"{counted(len(done.damaged), 'document')} are missing there: the topic has lost their records, and their "
            f"chunks in the index that serves are not whole. Publish them again: {shown}"
        )
