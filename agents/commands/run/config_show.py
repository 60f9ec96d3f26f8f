"""`penstock config show`."""

from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from agents.commands.run.output import console, print_json
from agents.settings import Settings
from agents.settings.loading import origins


def show(settings: Settings, file: Path | None, *, as_json: bool) -> None:
    """A row a setting. `file`: what they were read from, beside the environment."""
    rows = list(origins(settings, file))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("setting", "value", "from", box=None)
    for row in rows:
        table.add_row(row.name, row.value, row.source)
    console().print(table)
