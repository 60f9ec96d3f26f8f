"""First fills: an index without refreshes and replicas until it holds what was there, then with what was asked for.

    index create --load ─► refresh_interval -1, no replicas, and a note of what to set in the end
    what was in the topic when a worker started is settled ─► settings ─► refresh ─► the note is taken away

The end is that of the topic when a worker first looked, and not lag 0: under constant input there may never be one, and
readers would see nothing for ever. Or it is the day's budget, which is used up: what is there is seen while the rest
waits. The note is in the index itself, so whichever worker is first ends it, also after a crash. Every step may happen
twice, on two workers.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from agents.elastic.client import Client
from agents.elastic.errors import translated
from agents.elastic.notes import LOAD_NOTE, UNVERIFIED_NOTE, read_notes, write_notes
from agents.indexing.preflight import Checked
from agents.kafka.lag import partition_rows
from agents.kafka.reader import LogReader
from agents.settings import Settings
from streams.errors import PenstockError

LOOK_EVERY_S = 5.0

logger = logging.getLogger(__name__)


async def end_when_filled(
    settings: Settings,
    checked: Checked,
    reader: LogReader,
    client: Client,
    *,
    pauses: Callable[[], bool] = lambda: False,
) -> None:
    """Until the index is in no load mode: end it when all that was in the topic at the first look is settled.

    Returns at once when the index is in none. Waits while Kafka or Elasticsearch is away. `pauses`: whether the rest
    waits for another day.
    """
    name = checked.identity.index
    goal: dict[int, int] = {}
    while True:
        try:
            with translated(settings.elasticsearch.url):
                note = await note_of(client, settings, name)
                if note is None:
                    return
                rows = await partition_rows(reader, settings, checked.partitions, checked.identity.sink)
                goal = goal or {row["partition"]: row["end_offset"] for row in rows}
                filled = all(row["settled_offset"] >= goal[row["partition"]] for row in rows)
                if filled or pauses():
                    await end(client, name, note)
                    told = {name: sum(row[name] for row in rows) for name in ("lag", "held_back")}
                    told = {"index": name, **told, **note}
                    why = "all that was committed at the start is indexed" if filled else "the rest waits for a budget"
                    logger.info(f"load mode ended: {why}", extra=told)
                    return
        except PenstockError as exc:
            logger.warning("load mode goes on", extra={"reason": str(exc)})
        await asyncio.sleep(LOOK_EVERY_S)


async def end(client: Client, name: str, note: dict[str, Any]) -> None:
    """The settings first, the note last: a crash in between is mended by the next look."""
    await client.indices.put_settings(index=name, settings=note)
    await client.indices.put_settings(
        index=f"{name}-registry", settings={"number_of_replicas": note["number_of_replicas"]}
    )
    await client.indices.refresh(index=name)
    await write_notes(client, name, {LOAD_NOTE: None})


async def note_of(client: Client, settings: Settings, name: str) -> dict[str, Any] | None:
    """The settings that an index in load mode will have; None when it is in none.

    Where its registry was lost or restored, and the note with it, that is made again, with what is configured.
    """
    notes = await read_notes(client, name)
    note: dict[str, Any] | None = notes.get(LOAD_NOTE)
    if note is None and notes.get(UNVERIFIED_NOTE):
        answer = await client.indices.get_settings(index=name, name="index.refresh_interval")
        if answer[name]["settings"].get("index", {}).get("refresh_interval") == "-1":
            es = settings.elasticsearch
            note = {"number_of_replicas": es.replicas, "refresh_interval": es.refresh_interval}
            await write_notes(client, name, {LOAD_NOTE: note})
    return note
