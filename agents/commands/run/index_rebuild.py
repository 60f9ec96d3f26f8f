"""`penstock index rebuild`."""

import sys

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.operations.rebuild import rebuild
from agents.operations.rewind import rewind
from agents.settings import Settings, with_model_for_all
from agents.stopping import finish
from streams.errors import PenstockError


def in_place(settings: Settings, offset: int | None, at_ms: int | None, *, as_json: bool) -> None:
    """Set the claims back."""
    rows = finish(rewind(settings, offset=offset, at_ms=at_ms))
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(f"{settings.source.topic}/{row.partition}: settled offset {row.before} -> {row.after}")
    say("start the workers" if rows else "nothing to set back: no claim is above that")


def beside(
    settings: Settings,
    offset: int | None,
    at_ms: int | None,
    rate: float | None,
    model: str | None,
    *,
    embed_all: bool,
    as_json: bool,
) -> None:
    """Fill an index of its own. Raises PenstockError naming documents that neither the topic nor the old index has."""
    if model:
        settings = with_model_for_all(settings, model)
    with progress_bar() as bar:
        done = finish(
            rebuild(settings, offset=offset, at_ms=at_ms, rate=rate, embed_all=embed_all, report=reporter(bar))
        )
    if as_json:
        print_json(done)
        sys.exit(1 if done.damaged else 0)
    went = "went on with" if done.resumed else "built"
    say(
        f"{went} {done.index} in {done.seconds:.0f} s: {done.from_index} documents from the index that serves, "
        f"{done.from_topic} records from the topic, {done.letters} open dead letters; {done.embedded} chunks embedded, "
        f"{done.reused} with their vectors of before"
    )
    say(
        f"start workers with source.group = {done.group}, which go on from there, then "
        f"`penstock index promote {done.index}`"
    )
    if done.damaged:
        shown = ", ".join(done.damaged[:20]) + (" …" if len(done.damaged) > 20 else "")
        raise PenstockError(
            f"{len(done.damaged)} documents are missing there: the topic has lost their records, and their chunks in "
            f"the index that serves are not whole. Publish them again: {shown}. For what is left of them see "
            "`penstock index verify`"
        )
