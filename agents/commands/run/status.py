"""`penstock status`."""

import sys
import time
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agents.commands.run.output import console, print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.kafka.reader import log_reader
from agents.operations.cost import holds_up
from agents.operations.promote import generation_rows
from agents.operations.status import read_status
from agents.settings import Settings
from agents.stopping import begin, finish
from streams.errors import PenstockError

WATCH_EVERY_S = 2.0


def status(settings: Settings, *, as_json: bool, watch: bool) -> None:
    """Once, or again and again until interrupted. Exits with 1 where the index could not be looked at."""
    if as_json or not watch:
        data = finish(_status(settings))
        if as_json:
            print_json(data)
        else:
            console().print(_render(data))
        sys.exit(0 if data["index"] else 1)
    begin()
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(_render(finish(_status(settings))), refresh=True)
            time.sleep(WATCH_EVERY_S)


async def _status(settings: Settings) -> dict[str, Any]:
    """With the other generations, where there are any."""
    data = await read_status(settings)
    try:
        async with connect(settings.elasticsearch) as client, log_reader(settings) as reader:
            data["generations"] = await generation_rows(Index(client, settings), reader, settings, refresh=False)
    except PenstockError:
        data["generations"] = None  # `problem` says why
    return data


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def _render(data: dict[str, Any]) -> Group:
    table = Table("partition", "settled", "end", "lag", "oldest unsettled", box=None)
    for row in data["partitions"]:
        age = row["oldest_unsettled_age_s"]
        table.add_row(
            f"{row['topic']}/{row['partition']}",
            str(row["settled_offset"]),
            str(row["end_offset"]),
            str(row["lag"]),
            "" if age is None else f"{age} s",
        )
    head = (
        f"lag {data['lag']}   index {data['index'] or '?'}   "
        f"model {data['model']} ({data['setup'] or 'not measured here yet'})   "
        f"workers {len(data['workers'])}"
    )
    others = [
        f"{row['index']}: {'serving' if row['serving'] else 'not serving'}, model {' + '.join(row['models'])}, fed by "
        f"{row['group'] or 'nobody yet'}, {_known(row['documents'])} documents, lag {_known(row['lag'])}"
        for row in data["generations"] or []
    ]
    dead = data["dead_letters"]
    letters = []
    if dead["records"]:
        letters = [
            f"dead letters: {_known(dead['open'])} open, of {_known(dead['older_version_served'])} an older version is "
            "served (`penstock dlq list`)"
        ]
    held_back = [
        f"{row['topic']}/{row['partition']}: {row['held_back']} offsets are behind an open transaction, in no lag, and "
        "read when it ends (runbook: A transaction does not end)"
        for row in data["partitions"]
        if row["held_back"]
    ]
    lost = [
        f"{row['topic']}/{row['partition']}: retention took up to {row['lost']} records before a worker read them "
        "(runbook: Records were lost to retention)"
        for row in data["partitions"]
        if row["lost"]
    ]
    problem = [Text(data["problem"])] if data["problem"] else []
    budget = [told] if data["lag"] and (told := holds_up(data["budget"])) else []
    return Group(head, *letters, *problem, *budget, *lost, *held_back, table, *(others if len(others) > 1 else []))
