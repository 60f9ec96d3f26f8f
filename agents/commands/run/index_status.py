"""`penstock index status|list`."""

import json
from typing import Any

from rich.table import Table

from agents.commands.common import say
from agents.commands.run.output import console, print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.kafka.reader import log_reader
from agents.operations.promote import generation_rows
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import in_short
from streams.contract import flat

SHOWN = 100
"""Characters of a value: some are vectors."""


def status(settings: Settings, *, as_json: bool) -> None:
    """All generations, and the contract of the one that serves."""
    rows, contracts = finish(_status(settings))
    serving = next((row for row in rows if row["serving"]), None)
    contract = contracts.get(serving["index"]) if serving else None
    if as_json:
        print_json({"index": serving, "contract": contract, "generations": rows})
        return
    _print_rows(rows)
    for name, value in flat(contract or {}).items():
        told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        say(f"  {name}: {in_short(told, SHOWN)}")


def list_indices(settings: Settings, *, as_json: bool) -> None:
    """All generations."""
    rows, _ = finish(_status(settings))
    if as_json:
        print_json(rows)
        return
    _print_rows(rows)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    if not rows:
        say("no indices: `penstock index create`")
        return
    table = Table("index", "serving", "model", "dims", "documents", "chunks", "fed by", "workers", "lag", box=None)
    for row in rows:
        serving = "yes" if row["serving"] else ", ".join(row["aliases"]) or "no"
        dims, documents, chunks, workers, lag = (
            "?" if row[name] is None else str(row[name]) for name in ("dims", "documents", "chunks", "workers", "lag")
        )
        group = row["group"] or "nobody yet"
        models = " + ".join(row["models"])
        table.add_row(row["index"], serving, models, dims, documents, chunks, group, workers, lag)
    console().print(table)
    for row in rows:
        if row["problem"]:
            say(f"{row['index']}: {row['problem']}", err=True)


async def _status(settings: Settings) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    async with connect(settings.elasticsearch) as client, log_reader(settings) as reader:
        index = Index(client, settings)
        contracts = {one.index: one.contract for one in await index.generations()}
        return await generation_rows(index, reader, settings, refresh=True), contracts
