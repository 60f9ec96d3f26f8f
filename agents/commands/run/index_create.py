"""`penstock index create`."""

from agents.commands.common import say
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.preflight import create_index
from agents.kafka.reader import log_reader
from agents.settings import Settings, with_model_for_all
from agents.stopping import finish
from streams.errors import AwayError, RefusedError
from streams.generations import Generation, serving_one


def create(settings: Settings, *, model: str | None, load: bool, snapshots: bool) -> None:
    """Make it, and say how to go on."""
    if model:
        settings = with_model_for_all(settings, model)
    made, new = finish(create_index(settings, load=load, beside=model is not None, snapshots=snapshots))
    say(f"{'created' if new else 'exists already, with the same contract, and is open for writing:'} {made.index}")
    if load and not new:
        say("--load is for a new index: this one stays as it is", err=True)
    if not new:
        finish(_tell_what_is_not_verified(settings, made))
    lost = finish(_lost(settings)) if new or not made.serving else None
    if not made.serving:
        finish(_tell_of_another_topic(settings))
        _tell_how_to_fill(settings, made, lost)
    elif lost:
        _tell_what_is_missing(settings, made, lost)


async def _tell_what_is_not_verified(settings: Settings, made: Generation) -> None:
    """Its registry was made anew just now, or one of the two was restored."""
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        try:
            await index.require_verified(await index.identity(made), made.group)
        except AwayError:
            pass  # its shards are starting: workers and `status` say it
        except RefusedError as exc:
            say(str(exc), err=True)


def _tell_what_is_missing(settings: Settings, made: Generation, lost: str) -> None:
    """It serves from now on, and workers fill it from the topic alone."""
    others = finish(_others(settings, made))
    way = ", ".join(f"`penstock index promote {name}`" for name in others)
    say(
        f"{settings.source.topic} {lost}: documents without newer ones are not in it"
        + (f". Where another index has them: {way}, then `penstock index rebuild`" if others else ""),
        err=True,
    )


async def _others(settings: Settings, made: Generation) -> list[str]:
    async with connect(settings.elasticsearch) as client:
        return [one.index for one in await Index(client, settings).generations() if one.index != made.index]


async def _tell_of_another_topic(settings: Settings) -> None:
    """What readers have may be another corpus."""
    async with connect(settings.elasticsearch) as client:
        serving = serving_one(await Index(client, settings).generations())
    if serving and (other := serving.contract["source"]["topic"]) != settings.source.topic:
        say(
            f"readers of {settings.elasticsearch.alias} have {serving.index}, which is of the topic {other}, and "
            f"source.topic is {settings.source.topic}: another corpus needs an elasticsearch.alias of its own",
            err=True,
        )


def _tell_how_to_fill(settings: Settings, made: Generation, lost: str | None) -> None:
    name, group = made.contract["model"]["name"], made.group or "one that feeds no other index"
    say(
        f"it does not serve yet. Fill it with workers that have source.group = {group} and "
        f"model.name = {name}, then `penstock index promote {made.index}`"
    )
    if lost:
        say(
            f"{settings.source.topic} {lost}: documents, and deletions, without newer ones are in the "
            f"serving index only. Before you start workers, `penstock index rebuild --model {name}` fills the new one "
            "from the text there, and from the topic"
        )


async def _lost(settings: Settings) -> str | None:
    topic = settings.source.topic
    async with log_reader(settings) as reader:
        bounds = await reader.bounds(topic, range(await reader.require_partitions(topic)))
        compacted = await reader.is_compacted(topic)
    if lost := sum(bound.begin for bound in bounds.values()):
        return f"lacks its first {lost} records"
    return "is compacted" if compacted and any(bound.end for bound in bounds.values()) else None
