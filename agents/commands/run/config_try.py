"""`penstock config try`."""

import sys
from dataclasses import asdict

from rich.text import Text

from agents.commands.run.output import console, print_json
from agents.operations.try_out import Tried, missing, rejected, try_out
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import counted, in_short

SHOWN = 200
"""Characters of a value."""
FIELDS = ("title", "url", "author", "timestamp", "language", "metadata")


def try_(settings: Settings, count: int, *, as_json: bool) -> None:
    """A paragraph a record, and fields that are missing in some. Exits with 1 when one of them is rejected."""
    rows = finish(try_out(settings, count))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        for row in rows:
            _show(row)
        for name, times in missing(rows).items():
            console().print(Text(f"missing in {times} of {counted(len(rows), 'record')}: {name}"))
        if not rows:
            console().print(f"{settings.source.topic} has no records yet")
    sys.exit(1 if rejected(rows) else 0)


def _show(row: Tried) -> None:
    out = console()
    name = in_short(row.id if row.id is not None else row.key, SHOWN)
    chunks = "" if row.chunks is None or row.becomes != "document" else f", {counted(row.chunks, 'chunk')}"
    told = {"document": f"a document{chunks}", "deletion": "a deletion", "rejected": "a dead letter"}[row.becomes]
    out.print(Text(f"{row.partition}@{row.offset}  {name}: {told}", style="bold"))
    if row.reason:
        out.print(Text(f"   {row.reason}"))
    for field in FIELDS:
        if value := getattr(row, field):
            out.print(Text(f"   {field}: {in_short(str(value), SHOWN)}", style="dim"))
    if row.route:
        out.print(Text(f"   route: {row.route}, model {row.model}", style="dim"))
    for flag, count in (row.flags or {}).items():
        out.print(Text(f"   {flag}: {count} of {counted(row.chunks or 0, 'chunk')}"))
    if row.text:
        out.print(Text(f"   {in_short(' '.join(row.text.split()), SHOWN)}"))
    if row.repaired:
        out.print(Text(f"   was it this? {in_short(' '.join(row.repaired.split()), SHOWN)}"))
