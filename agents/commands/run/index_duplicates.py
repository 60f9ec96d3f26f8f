"""`penstock index duplicates`."""

from typing import Any

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.operations.duplicates import Duplicates, find_duplicates
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import counted, in_short

NAME = 200
"""Characters of an id that are shown."""
SHOWN = 10
"""Documents of a group that are named; with `--json` all are."""


def duplicates(settings: Settings, similarity: float, limit: int, *, as_json: bool) -> None:
    """The groups, largest first."""
    found = finish(_duplicates(settings, similarity))
    if as_json:
        print_json(_data(found, limit))
        return
    for group in found.groups[:limit]:
        say(f"{len(group.documents)} documents, {group.similarity:.0%} alike:")
        for document in group.documents[:SHOWN]:
            say(f"  {in_short(document, NAME)}")
        if len(group.documents) > SHOWN:
            say(f"  … {len(group.documents) - SHOWN} more")
    if len(found.groups) > limit:
        say(f"… {counted(len(found.groups) - limit, 'group')} more (--limit)")
    without = f"; {counted(found.without, 'document')} with too little text to compare" if found.without else ""
    say(
        f"{found.index}: {counted(found.documents, 'document')}, {counted(len(found.groups), 'group')} of near "
        f"duplicates, {found.superfluous} beyond one of each{without}"
    )


async def _duplicates(settings: Settings, similarity: float) -> Duplicates:
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        with progress_bar(transient=True) as bar:
            return await find_duplicates(client, settings, generation, similarity, reporter(bar))


def _data(found: Duplicates, limit: int) -> dict[str, Any]:
    return {
        "index": found.index,
        "documents": found.documents,
        "without": found.without,
        "groups": len(found.groups),
        "superfluous": found.superfluous,
        "duplicates": [
            {"documents": group.documents, "similarity": group.similarity} for group in found.groups[:limit]
        ],
    }
