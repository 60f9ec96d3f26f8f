"""`penstock status`."""

import asyncio
import time
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from agents.commands.common import json_option, print_json, settings_option
from agents.settings import Settings
from agents.status import read_status

WATCH_EVERY_S = 2.0


@click.command()
@settings_option
@json_option
@click.option("--watch", is_flag=True, help="Show it again every 2 s until interrupted.")
def status(settings: Settings, as_json: bool, watch: bool) -> None:
    """Show the lag by partition, the index, the model and the workers; needs no running worker.

    \b
    Example: penstock status --watch
    """
    if as_json:
        print_json(asyncio.run(read_status(settings)))
        return
    if not watch:
        Console().print(_render(asyncio.run(read_status(settings))))
        return
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            live.update(_render(asyncio.run(read_status(settings))), refresh=True)
            time.sleep(WATCH_EVERY_S)


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
        f"lag {data['lag']}   index {data['index']}   "
        f"model {data['model']} ({data['setup'] or 'not measured here yet'})   "
        f"workers {len(data['workers'])}"
    )
    return Group(head, *([data["problem"]] if data["problem"] else []), table)
