"""Notes about an index that change in its life: beside the contract, and never in one place with it.

A mapping's `_meta` can only be written as a whole, so that of two writers one may be lost. The epochs' cuts must not
be: they are in the contract, in the chunk index's `_meta`, which `penstock index epoch bump` alone writes again. Notes
are in the registry's `_meta`. Of those, too, one may be lost to another; each is then made again, or missed by nobody.
"""

from collections.abc import Mapping
from typing import Any, Literal

from elasticsearch import AsyncElasticsearch

CONTRACT = "penstock"
ALIAS_NOTE = "penstock_alias"
"""The alias of readers that it was made for. With the contract: it never changes."""
LOAD_NOTE = "penstock_load"
"""Settings of an index in load mode when that ends."""
GROUP_NOTE = "penstock_group"
"""The consumer group that feeds it."""
BEFORE_NOTE = "penstock_before"
"""The index that served before this one was promoted."""
REBUILD_NOTE = "penstock_rebuild"
"""From where a rebuild fills it, until that has ended."""
FILL_NOTE = "penstock_fill"
"""Since when many processes fill it, in any order, until that has ended; by what they take."""
VACUUM_NOTE = "penstock_vacuumed"
"""What was deleted before this time, epoch milliseconds, may be forgotten: a snapshot that is older could revive it."""
SYNC_NOTE = "penstock_synced"
"""Time of the newest snapshot that was loaded whole, epoch milliseconds: what only older ones have is to go."""
SNAPSHOTS_NOTE = "penstock_snapshots"
"""By pattern the files that were loaded last, by a tag of theirs, and the time that they are of, epoch milliseconds."""
OF_SNAPSHOTS = (VACUUM_NOTE, SYNC_NOTE, SNAPSHOTS_NOTE)
"""What an index hands down to the one that takes its documents: what is gone in it is not to come there."""
BASELINE_NOTE = "penstock_baseline"
"""How its vectors were spread at first, by model: what drift is measured from."""
LOG_NOTE = "penstock_log"
"""Which log it holds, where its contract was written before that was part of it."""

SHARDS_NOTE = "penstock_histories"
"""Which histories the shards of chunks and registry had when a worker last looked."""
UNVERIFIED_NOTE = "penstock_unverified"
"""Since others were found, nobody has held the two against each other: the sides that may be the older ones."""


Side = Literal["chunks", "registry"]


def set_back(notes: Mapping[str, Any], shards: tuple[str, str]) -> frozenset[Side]:
    """Which of the two was restored, or lost what it had, and may be older than the other since; until verified."""
    noted, before = notes.get(UNVERIFIED_NOTE) or [], notes.get(SHARDS_NOTE)
    sides: tuple[Side, Side] = ("chunks", "registry")
    known = zip(sides, before, shards, strict=True) if isinstance(before, list) else ()
    return frozenset({side for side, old, now in known if old != now} | {side for side in sides if side in noted})


def notes_in(chunks: Mapping[str, Any], registry: Mapping[str, Any]) -> dict[str, Any]:
    """Of an index and its registry, by their mappings. Those of an older version are with the contract."""
    both = {**chunks.get("_meta", {}), **registry.get("_meta", {})}
    return {name: value for name, value in both.items() if name != CONTRACT and value is not None}


async def read_notes(client: AsyncElasticsearch, name: str) -> dict[str, Any]:
    """All notes about an index."""
    found = await client.indices.get_mapping(index=f"{name},{name}-registry")
    return notes_in(found[name]["mappings"], found[f"{name}-registry"]["mappings"])


async def write_notes(client: AsyncElasticsearch, name: str, notes: Mapping[str, Any]) -> None:
    """Keep something about an index, or forget it (None)."""
    registry = f"{name}-registry"
    mapping = await client.indices.get_mapping(index=registry)
    meta = {**mapping[registry]["mappings"].get("_meta", {}), **notes}
    await client.indices.put_mapping(index=registry, meta=meta)
