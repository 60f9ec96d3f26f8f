"""`penstock index create`."""

import asyncio

from agents.commands.common import say
from agents.indexing.preflight import create_index
from agents.kafka.reader import log_reader
from agents.settings import Settings, with_model
from streams.generations import Generation


def create(settings: Settings, *, model: str | None, load: bool) -> None:
    """Make it, and say how to go on."""
    if model:
        settings = with_model(settings, model)
    made, new = asyncio.run(create_index(settings, load=load, beside=model is not None))
    say(f"{'created' if new else 'exists already, with the same contract, and is open for writing:'} {made.index}")
    if load and not new:
        say("--load is for a new index: this one stays as it is", err=True)
    if not made.serving:
        _tell_how_to_fill(settings, made)


def _tell_how_to_fill(settings: Settings, made: Generation) -> None:
    name = made.contract["model"]["name"]
    say(
        f"it does not serve yet. Fill it with workers that have source.group = {made.group or 'a name of its own'} and "
        f"model.name = {name}, then `penstock index promote {made.index}`"
    )
    if lost := asyncio.run(_lost(settings)):
        say(
            f"{settings.source.topic} {lost}: documents, and deletions, without newer ones are in the "
            f"serving index only. Before you start workers, `penstock index rebuild --model {name}` fills the new one "
            "from the text there, and from the topic"
        )


async def _lost(settings: Settings) -> str | None:
    topic = settings.source.topic
    async with log_reader(settings) as reader:
        bounds = await reader.bounds(topic, range(await reader.require_partitions(topic)))
        compacted = "compact" in (await reader.configs(topic)).get("cleanup.policy", "")
    if lost := sum(bound.begin for bound in bounds.values()):
        return f"lacks its first {lost} records"
    return "is compacted" if compacted and any(bound.end for bound in bounds.values()) else None
