"""From one generation of an index to the next: how far each is, the gates before a swap, the swap, and the way back.

    index create --model B ─► workers with a source.group of their own fill it ─► promote ─► drop the old one
                                                                                    └─► rollback

Nothing here touches what a worker does: both generations are fed until somebody stops one's workers.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.clock import Deadline
from agents.elastic.client import Client
from agents.elastic.errors import translated
from agents.elastic.index import Index, settings_of
from agents.elastic.notes import BEFORE_NOTE, SNAPSHOTS_NOTE
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader
from agents.settings import Settings
from streams.contract import fingerprint, models_in, same_log
from streams.epochs import another_log, begin_epoch, moved_keys, with_group
from streams.errors import PenstockError, RefusedError
from streams.generations import Generation, serving_one

LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the workers of a generation are. `settled`, `ends`: offsets by partition."""

    settled: Mapping[int, int]
    ends: Mapping[int, int]
    workers: int

    @property
    def unsettled(self) -> int:
        """The lag."""
        return sum(self.ends.values()) - sum(self.settled.values())


async def progress_of(index: Index, reader: LogReader, settings: Settings, generation: Generation) -> Progress:
    """From the claims of its group about this very index.

    Raises PenstockError when it cannot be told, RefusedError when it is about another log.
    """
    identity = await index.identity(generation)
    source, own = generation.contract["source"], settings_of(settings, generation)
    own = own.model_copy(update={"source": own.source.model_copy(update={"topic": source["topic"]})})
    now = await reader.require_topic(own.source.topic)
    way = begin_epoch(generation.group, settings.source.group)
    if not same_log(source["log"], now.log):
        raise another_log(own.source.topic, f"{generation.index} holds {source['log']}, this is {now.log}", way)
    if now.partitions != source["partitions"]:
        raise moved_keys(own.source.topic, now.partitions, generation.index, source["partitions"], way)
    rows = await partition_rows(reader, own, now.partitions, identity.sink)
    return Progress(
        settled={row["partition"]: row["settled_offset"] for row in rows},
        ends={row["partition"]: row["end_offset"] for row in rows},
        workers=len(await reader.group_members(own.source.group)) if generation.group else 0,
    )


async def generation_rows(
    index: Index, reader: LogReader, settings: Settings, *, refresh: bool
) -> list[dict[str, Any]]:
    """Every generation with its size and its lag; what is unknown is None, with the reason in `problem`.

    `model`: of what no route takes; `models`: that one, and those of the routes.
    `refresh`: count what was written up to now, else what readers see.
    """
    rows = []
    for generation in await index.generations():
        row: dict[str, Any] = {
            "index": generation.index,
            "serving": generation.serving,
            "aliases": list(generation.aliases),
            "group": generation.group,
            "model": generation.contract["model"]["name"],
            "models": list(dict.fromkeys(model["name"] for model in models_in(generation.contract))),
            "dims": generation.contract["model"]["dims"],
            "contract": fingerprint(generation.contract),
            **dict.fromkeys(("documents", "chunks", "lag", "workers", "problem")),
        }
        try:
            row |= await index.counts(generation.index, refresh=refresh)
            progress = await progress_of(index, reader, settings, generation)
            row |= {"lag": progress.unsettled, "workers": progress.workers}
        except PenstockError as exc:
            row["problem"] = str(exc)
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition for a swap, and what was found."""

    name: str
    passed: bool
    told: str


def unfinished(generation: Generation) -> list[Gate]:
    """The gate that is closed while a rebuild has not ended."""
    if generation.rebuild is None:
        return []
    told = f"the rebuild of {generation.index} has not ended: `penstock index rebuild` goes on with it"
    return [Gate(name="rebuild", passed=False, told=told)]


async def not_set_back(index: Index, generation: Generation) -> list[Gate]:
    """The gate that is closed while nobody has verified an index that was restored, or whose registry was."""
    identity = await index.identity(generation)
    try:
        await index.require_verified(identity, generation.group)
    except RefusedError as exc:
        return [Gate(name="verified", passed=False, told=str(exc))]
    return []


async def has_its_snapshots(index: Index, old: Generation | None, new: Generation) -> list[Gate]:
    """The gate that is closed where one has snapshots that the other one, which was made before, has not: no topic has
    what is in them."""
    if old is None or old.index == new.index:
        return []
    before, now = [(await index.notes(one.index)).get(SNAPSHOTS_NOTE) or {} for one in (old, new)]
    missing = [pattern for pattern, (tag, _) in before.items() if now.get(pattern, [None])[0] != tag]
    if not missing:
        return []
    way = with_group("`penstock backfill --from …`", new.group, index.group)
    told = (
        f"{new.index} lacks snapshots that were loaded into {old.index} since: {', '.join(missing)}. Load them: {way}"
    )
    return [Gate(name="snapshots", passed=False, told=told)]


async def caught_up(index: Index, reader: LogReader, settings: Settings, generation: Generation, wait_s: float) -> Gate:
    """Whether everything that is in the topic now is settled in this generation, which it may be within `wait_s`."""
    deadline = Deadline(wait_s)
    progress = await progress_of(index, reader, settings, generation)
    ends = progress.ends
    while behind := sum(max(0, end - progress.settled.get(number, 0)) for number, end in ends.items()):
        if not deadline.left_s:
            group = generation.group or "one that feeds no other index"
            hint = f"start workers with source.group = {group}" if not progress.workers else "let them work"
            return Gate(
                name="claims",
                passed=False,
                told=f"{generation.index} lacks {behind} records, {progress.workers} workers feed it: {hint}",
            )
        await asyncio.sleep(min(LOOK_EVERY_S, deadline.left_s))
        progress = await progress_of(index, reader, settings, generation)
    return Gate(name="claims", passed=True, told=f"everything up to {sum(ends.values())} records is settled")


async def parity(
    index: Index, reader: LogReader, settings: Settings, old: Generation, new: Generation, allow_missing: int
) -> Gate:
    """Whether both hold equally many documents, but for those that either has not settled while they are counted.

    Closed where the old one cannot tell: it is shut, or its registry is gone, or does not know all documents.
    """
    try:
        await index.require_verified(await index.identity(old), old.group)
        before = [await progress_of(index, reader, settings, old)]
        counts = [(await index.counts(old.index))["documents"]]
    except PenstockError as exc:
        told = f"{old.index} cannot be compared with: {exc}; --unchecked goes on without"
        return Gate(name="documents", passed=False, told=told)
    before.append(await progress_of(index, reader, settings, new))
    counts.append((await index.counts(new.index))["documents"])
    ends = sum((await progress_of(index, reader, settings, new)).ends.values())
    under_way = sum(ends - sum(progress.settled.values()) for progress in before)
    missing = counts[0] - counts[1]
    told = f"{old.index} has {counts[0]} documents, {new.index} {counts[1]}, {under_way} records are under way"
    if missing > under_way + allow_missing:
        told += (
            ": the topic no longer has them (`penstock index rebuild` takes them from the old index), or the new model "
            "refused them (`penstock dlq list`); --allow-missing N goes on without"
        )
    return Gate(name="documents", passed=missing <= under_way + allow_missing, told=told)


async def swap(client: Client, settings: Settings, new: Generation, alias: str, old: Generation | None) -> float:
    """Point the alias at another generation, in one step for readers. Returns the seconds that it took.

    It keeps its filter and routing. Where it was is noted first, for the way back. Raises RefusedError when the alias
    belongs to something else.
    """
    began = time.monotonic()
    with translated(settings.elasticsearch.url):
        if alias == settings.elasticsearch.alias and old is not None:
            await Index(client, settings).note(new.index, **{BEFORE_NOTE: old.index})
        remove: list[dict[str, Any]] = []
        kept: dict[str, Any] = {}
        if old is not None:
            remove = [{"remove": {"index": old.index, "alias": alias}}]
            found = await client.indices.get_alias(index=old.index, name=alias, ignore_unavailable=True)
            if old.index in found:  # with a filter, perhaps, of what readers may see
                kept = found[old.index]["aliases"][alias]
        await client.indices.update_aliases(actions=[*remove, {"add": {"index": new.index, "alias": alias, **kept}}])
    return time.monotonic() - began


async def behind_alias(client: Client, settings: Settings, alias: str) -> Generation | None:
    """The generation that an alias of readers points at; None when there is no such alias.

    Raises RefusedError when it is the name of an index, or points at what is no generation of `elasticsearch.alias`.
    """
    with translated(settings.elasticsearch.url):
        if not await client.indices.exists_alias(name=alias):
            if await client.indices.exists(index=alias):
                raise RefusedError(f"{alias} is an index, not an alias: choose another name")
            return None
        names = list(await client.indices.get_alias(name=alias))
    found = [one for one in await Index(client, settings).generations() if one.index in names]
    if len(names) != 1 or not found:
        raise RefusedError(f"the alias {alias} is used for {', '.join(sorted(names))}: choose another")
    return found[0]


async def rollback(client: Client, settings: Settings) -> tuple[Generation, Generation, float]:
    """Swap back to what served before. Returns (what serves now, what served, seconds).

    Again swaps forth. Asks no gate: what is behind catches up while it serves. Raises RefusedError where what served
    before cannot be read, because it is closed, or its registry is gone; and where one of the two was restored, and
    nobody has verified it.
    """
    index = Index(client, settings)
    began = time.monotonic()
    found = await index.generations()
    serving = serving_one(found)
    if serving is None:
        raise index.none(found)
    target = next((one for one in found if one.index == serving.before), None)
    if target is None:
        was = f"{serving.before} was dropped" if serving.before else f"{serving.index} is the first"
        others = ", ".join(one.index for one in found if not one.serving)
        way = f"; `penstock index promote INDEX` gives readers another one: {others}" if others else ""
        raise RefusedError(f"there is nothing to go back to: {was}{way}")
    try:
        await index.require_verified(await index.identity(target), target.group)
    except PenstockError as exc:
        raise RefusedError(
            f"{target.index}, which served before, cannot serve now: {exc}. `penstock index list` shows what else "
            "there is, for `penstock index promote INDEX`"
        ) from exc
    await swap(client, settings, target, settings.elasticsearch.alias, serving)
    return target, serving, time.monotonic() - began


async def drop(client: Client, reader: LogReader, settings: Settings, name: str) -> Generation:
    """Delete a generation and its registry.

    Raises RefusedError while readers or workers use it, or nobody has verified the one that serves.
    """
    index = Index(client, settings)
    found = await index.generations()
    generation = await index.generation(name, found)
    if generation.aliases:
        others = [one for one in found if one.index != name]
        way = (
            "promote another one first"
            if others
            else "there is no other one. To begin anew, delete it and its registry in Elasticsearch (`curl -X DELETE "
            f"…/{name},{name}-registry`), then `penstock index create`"
        )
        raise RefusedError(f"{name} is what readers of {', '.join(generation.aliases)} see: {way}")
    if generation.group and (members := await reader.group_members(generation.group)):
        raise RefusedError(
            f"workers of {generation.group} ({len(members)}) feed {name}: stop them first (one that was killed counts "
            f"for another {settings.kafka.session_timeout_s:g} s)"
        )
    serving = serving_one(found)
    if serving and not generation.rebuild:  # it may have the last copy of what that has lost
        await index.require_verified(await index.identity(serving, opened=False), serving.group)
    with translated(settings.elasticsearch.url):
        await client.indices.delete(index=f"{name},{name}-registry", ignore_unavailable=True)
    return generation
