"""What several commands print with: JSON and tables."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import click
import orjson
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from agents.terminal import in_json, in_short, shown

WIDE = 240
MAX_HEADING = 200
"""Characters of a heading that are shown."""


def when(epoch_ms: int) -> str:
    """A moment for people and programs: ISO 8601 in UTC."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def print_json(data: Any) -> None:
    """Indented JSON on stdout."""
    click.echo(in_json(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode()))


def print_json_line(data: Any) -> None:
    """JSON on a line of its own, on stdout: one of many."""
    click.echo(in_json(orjson.dumps(data).decode()))


class _SafeConsole(Console):
    """Prints what it is given and obeys nothing in it: neither control characters nor rich's own markup."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)  # before it is measured

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))


def console(*, stderr: bool = False) -> Console:
    """What is no terminal has room: a log or a pipe gets whole names, not the 80 columns of one."""
    made = _SafeConsole(stderr=stderr, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = WIDE
    return made


def place_in_text(metadata: Mapping[str, Any]) -> str:
    """Pages and heading of a chunk, after a comma; nothing where it has neither."""
    page, last, heading = (metadata.get(name) for name in ("page", "page_end", "heading"))
    pages = "" if page is None else f", page {page}" if last in (page, None) else f", pages {page}–{last}"
    return pages + (f", {in_short(str(heading), MAX_HEADING)}" if heading else "")
