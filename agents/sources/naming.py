"""The ids of a source's documents stay as they are, run after run, unless all of them are to change.

What was published is not read again, so that other options would name what is new or changed, and nothing else.
"""

import shlex

from agents.sources import Failure
from agents.sources.collecting import Options, Summary
from agents.sources.state import State
from agents.terminal import counted
from streams.errors import RefusedError


def require_same(state: State, source: str, options: Options) -> None:
    """Raises RefusedError where documents of the source got their ids by other options, and are not to get new ones."""
    found = state.named_otherwise(source, options.ids.told)
    if not found or (options.again and options.sync):
        return
    before, now = _differences(found.named, options.ids.told)
    raise RefusedError(
        f"{counted(found.count, 'document')} of {source} ({found.doc}{'…' if found.count > 1 else ''}) got ids by "
        f"`{before}`, and `{now}` would name what changes otherwise: nothing was published. Run it with `{before}`; or "
        "`penstock ingest … --again --sync` publishes all under the new ids and deletes the old ones"
    )


def tell_left(state: State, source: str, options: Options, summary: Summary) -> None:
    """After a run that gives new ids: old ones that are there still are a failure, unless deletions were refused."""
    found = state.named_otherwise(source, options.ids.told)
    if not found or summary.refused:
        return
    before, _ = _differences(found.named, options.ids.told)
    reason = (
        f"{counted(found.count, 'document')} keep the ids of `{before}` ({found.doc}{'…' if found.count > 1 else ''}): "
        "what has them failed or is excluded. Mend that, or add `--delete-excluded`, and run it with `--again --sync` "
        "once more"
    )
    summary.fail(Failure(origin=source, reason=reason))


def _differences(before: str, now: str) -> tuple[str, str]:
    """Two of `Ids.told` as the options in which they differ."""
    told, options = (before.partition(":"), now.partition(":")), (list[str](), list[str]())
    for place, option in ((0, "--id"), (2, "--prefix")):
        if told[0][place] != told[1][place]:
            for one, given in zip(told, options, strict=True):
                given.append(f"{option} {shlex.quote(one[place])}")
    return " ".join(options[0]), " ".join(options[1])
