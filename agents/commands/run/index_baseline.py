"""`penstock index baseline`."""

from typing import Any

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.elastic.notes import BASELINE_NOTE
from agents.settings import Settings
from agents.stopping import finish
from streams.contract import spaces_of
from streams.drift import from_note


def baseline(settings: Settings, name: str | None, *, forget: bool, as_json: bool) -> None:
    """Show those of all models, or have them forgotten."""
    index, found = finish(_baselines(settings, name, forget))
    if as_json:
        print_json({"index": index, "baselines": found, "forgotten": forget and bool(found)})
    elif not found:
        say(f"{index} has no baseline yet: a worker takes it once it has embedded 1,000 chunks, and has caught up")
    elif forget:
        say(f"the baseline of {index} is forgotten: a worker takes another one of what comes from now on")
    for row in [] if as_json or forget else found:
        told = (f"{what} {row[what]:.3f}" for what in ("spread", "neighbours", "identical") if row[what] is not None)
        say(f"{index}, {row['model']}: of {row['chunks']} chunks, taken at {row['taken_at']}: {', '.join(told)}")


async def _baselines(settings: Settings, name: str | None, forget: bool) -> tuple[str, list[dict[str, Any]]]:
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        generation = await index.generation(name)
        notes = (await index.notes(generation.index)).get(BASELINE_NOTE)
        if notes and forget:
            await index.note(generation.index, **{BASELINE_NOTE: None})
    found = []
    for space in spaces_of(generation.contract):
        note = (notes or {}).get(space.model)
        profile = from_note(note, space.dims) if note else None
        if note is None or profile is None:
            continue
        found.append(
            {
                "model": space.model,
                "chunks": profile.chunks,
                "taken_at": note.get("taken_at"),
                "spread": profile.spread,
                "neighbours": profile.neighbours,
                "identical": profile.identical,
            }
        )
    return generation.index, found
