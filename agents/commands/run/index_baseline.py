"""`penstock index baseline`."""

from typing import Any

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.elastic.notes import BASELINE_NOTE
from agents.settings import Settings
from agents.stopping import finish
from streams.drift import from_note


def baseline(settings: Settings, name: str | None, *, forget: bool, as_json: bool) -> None:
    """Show it, or have it forgotten."""
    index, found = finish(_baseline(settings, name, forget))
    if as_json:
        print_json({"index": index, "baseline": found, "forgotten": forget and found is not None})
    elif found is None:
        say(f"{index} has no baseline yet: a worker takes it once it has embedded 1,000 chunks, and has caught up")
    elif forget:
        say(f"the baseline of {index} is forgotten: a worker takes another one of what comes from now on")
    else:
        told = (
            f"{what} {found[what]:.3f}" for what in ("spread", "neighbours", "identical") if found[what] is not None
        )
        say(f"{index}: of {found['chunks']} chunks, taken at {found['taken_at']}: {', '.join(told)}")


async def _baseline(settings: Settings, name: str | None, forget: bool) -> tuple[str, dict[str, Any] | None]:
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        generation = await index.generation(name)
        note = (await index.notes(generation.index)).get(BASELINE_NOTE)
        if note and forget:
            await index.note(generation.index, **{BASELINE_NOTE: None})
    profile = from_note(note, generation.contract["model"]["dims"]) if note else None
    if note is None or profile is None:
        return generation.index, None
    return generation.index, {
        "chunks": profile.chunks,
        "taken_at": note.get("taken_at"),
        "spread": profile.spread,
        "neighbours": profile.neighbours,
        "identical": profile.identical,
    }
