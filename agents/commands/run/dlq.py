"""`penstock dlq list|show|purge`."""

import base64
import re
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from agents.commands.common import say
from agents.commands.run.output import console, print_json, when
from agents.commands.run.progress import progress_bar
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.kafka.reader import LogReader, log_reader
from agents.operations.letters import Filter, Listed, listed, pages, purgeable, read_letters, reasons
from agents.operations.status import identity_or_problem
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import counted, in_line, in_short
from streams.dead_letter import Home, Letter
from streams.errors import ConfigError, PenstockError

SHORT = 60


def list_letters(settings: Settings, *, every: bool, limit: int, as_json: bool, **filters: Any) -> None:
    """Reasons, and the newest letters. `every`: also those that are not open any more."""
    rows, problem = finish(_list(settings, Filter(**filters)))
    shown = [row for row in rows if every or (row.standing != "resolved" and row.standing != "superseded")]
    newest = sorted(shown, key=lambda row: row.letter.at_ms, reverse=True)[:limit]
    if as_json:
        print_json(
            {
                "topic": settings.dead_letter_topic,
                "records": len(rows),
                "open": sum(row.standing in ("open", None) for row in rows),
                "older_version_served": sum(row.serves_older for row in rows),
                "problem": problem,
                "reasons": reasons(rows),
                "letters": [_row(row) for row in newest],
            }
        )
        return
    console().print(_tables(settings, rows, newest, problem))


async def _list(settings: Settings, wanted: Filter) -> tuple[list[Listed], str | None]:
    async with log_reader(settings) as reader:
        identity, problem = await identity_or_problem(settings, await reader.require_topic(settings.source.topic))
        home = identity.home(settings.source.group) if identity else None
        letters = [letter for letter in await _read(reader, settings, home) if wanted.takes(letter)]
        return await listed(settings, reader, identity, letters), str(problem) if problem else None


async def _read(reader: LogReader, settings: Settings, home: Home | None) -> list[Letter]:
    with progress_bar() as bar:
        bounds = await reader.bounds(
            settings.dead_letter_topic, range(await reader.partitions(settings.dead_letter_topic) or 0)
        )
        task = bar.add_task("reading dead letters", total=sum(bound.end - bound.begin for bound in bounds.values()))
        return await read_letters(reader, settings, home, lambda passed: bar.advance(task, passed), objects=True)


def _row(row: Listed) -> dict[str, Any]:
    letter = row.letter
    return {
        "topic": letter.record.topic,
        "partition": letter.record.partition,
        "offset": letter.record.offset,
        "key": (letter.record.key or b"").decode(errors="backslashreplace"),
        "source": letter.source,
        "row": letter.row,
        "stage": letter.stage,
        "error": letter.error,
        "message": letter.message,
        "attempt": letter.attempt,
        "at": when(letter.at_ms),
        "standing": row.standing,
        "older_version_served": row.serves_older,
    }


def _tables(settings: Settings, rows: list[Listed], newest: list[Listed], problem: str | None) -> Group:
    histogram = Table("stage", "error", "records", "open", box=None)
    for reason in reasons(rows):
        histogram.add_row(
            Text(_short(reason["stage"])), Text(_short(reason["error"])), str(reason["letters"]), str(reason["open"])
        )
    letters = Table("place", "key", "error", "attempt", "at", "standing", "message", box=None)
    for row in newest:
        shown = _row(row)
        state = f"{row.standing or 'unknown'}{', an older version is served' if row.serves_older else ''}"
        letters.add_row(
            Text(_place_of(row.letter)),
            Text(_short(shown["key"] if row.letter.source is None else "")),
            Text(_short(row.letter.error)),
            str(row.letter.attempt),
            shown["at"],
            state,
            Text(_short(row.letter.message)),
        )
    still = sum(row.standing in ("open", None) for row in rows)
    head = f"{settings.dead_letter_topic}: {counted(len(rows), 'record')}, {still} open"
    hint = "one of them whole: `penstock dlq show PLACE`; try them again: `penstock dlq replay`" if newest else ""
    parts = [problem, head, histogram if rows else None, letters if newest else None, hint]
    return Group(*[part for part in parts if part])


def _short(text: str) -> str:
    return in_short(text, SHORT)


def show(settings: Settings, place: str, *, raw: bool, as_json: bool) -> None:
    """One letter, whole."""
    found = finish(_find(settings, place if "/" in place else _place(place)))
    letter = found.letter
    value = letter.record.value or b""
    if raw:
        click.get_binary_stream("stdout").write(value)
        return
    headers = {
        name: None if content is None else content.decode(errors="backslashreplace")
        for name, content in letter.record.headers
    }
    data = _row(found)
    del data["older_version_served"]
    if letter.source is None:
        del data["standing"]  # nobody asked the index
    data |= {
        "tag": letter.tag,
        "epoch": letter.epoch,
        "index": letter.index,
        "log": letter.log,
        "headers": headers,
        "bytes": len(value),
        "value_sha256": letter.left_out,
    }
    if as_json:
        print_json(data | {"value_base64": base64.b64encode(value).decode()})
        return
    for name, content in data.items():
        if content is not None:
            say(f"{name:>14}  {in_line(str(content))}")
    say("\n" + value.decode(errors="backslashreplace"))


def _place(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)@(\d+)", text)
    if not found:
        raise ConfigError(
            f"{text!r} is not a place: partition@offset, for example 3@1042, the URI of an object of a source, or file "
            "and row of a snapshot"
        )
    return int(found[1]), int(found[2])


def _known_by(letter: Letter) -> str | tuple[int, int]:
    """The place of a record; of an object its URI, and of a row file and row: these have no place of their own."""
    if letter.source is not None:
        return letter.doc_id or ""
    return letter.place if letter.row is None else letter.row


def _place_of(letter: Letter) -> str:
    """What `show` takes."""
    known_by = _known_by(letter)
    return in_line(known_by) if isinstance(known_by, str) else "{}@{}".format(*known_by)


async def _find(settings: Settings, place: str | tuple[int, int]) -> Listed:
    """The newest letter of a record, an object or a row, by what it is known by."""
    latest: Letter | None = None
    async with log_reader(settings) as reader:
        async for found, _ in pages(reader, settings, None, objects=True):
            for letter in found:
                if place == _known_by(letter):
                    latest = letter
        if latest is not None:
            (row,) = await listed(settings, reader, None, [latest])
            return row
    what = f"object or row {place}" if isinstance(place, str) else "record {}@{}".format(*place)
    raise PenstockError(
        f"{settings.dead_letter_topic} has no {what} of {settings.source.topic}: `penstock dlq list --all` shows those "
        "that it has"
    )


def purge(settings: Settings, before_ms: int | None, *, yes: bool) -> None:
    """Delete them; asks first, unless `yes`."""
    ends, count = finish(_purgeable(settings, before_ms))
    if not count and before_ms is None:
        say(
            f"nothing to delete: {settings.dead_letter_topic} is empty, or begins with a letter that is open "
            "(`penstock dlq list`); --before TIME deletes open ones too"
        )
        return
    if not count:
        say("nothing to delete: no letter is older, or another group's open one comes first")
        return
    if not yes:
        if before_ms is not None:
            say("open ones are among them, maybe: what they are about is missing, or old, and nobody names it again")
        click.confirm(f"delete {counted(count, 'letter')} from {settings.dead_letter_topic} for good?", abort=True)
    finish(_delete(settings, ends))
    say(f"deleted {counted(count, 'letter')} from {settings.dead_letter_topic}, one for each attempt at a record")


async def _purgeable(settings: Settings, before_ms: int | None) -> tuple[dict[int, int], int]:
    async with log_reader(settings) as reader:
        topic = await reader.require_topic(settings.source.topic)
        identity, problem = await identity_or_problem(settings, topic)
        if problem and before_ms is None:
            raise PenstockError(f"which letters are open cannot be told: {problem}; `--before TIME` needs no index")
        if identity and before_ms is None:  # a registry may have as written what only a letter has by now
            async with connect(settings.elasticsearch) as client:
                await Index(client, settings).require_verified(identity, settings.source.group)
        return await purgeable(settings, reader, identity, before_ms)


async def _delete(settings: Settings, ends: dict[int, int]) -> None:
    async with log_reader(settings) as reader:
        await reader.delete_before(settings.dead_letter_topic, ends)
