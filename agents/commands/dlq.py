"""`penstock dlq list|show|replay|resume|purge`."""

import asyncio
import base64
import re
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from agents.commands.common import MOMENT, console, json_option, print_json, progress_bar, say, settings_option, when
from agents.dlq import Filter, Listed, listed, pages, purgeable, read_letters, reasons
from agents.kafka import LogReader, log_reader
from agents.preflight import check
from agents.redrive import Replayed, replay
from agents.rewind import resume
from agents.settings import Settings
from agents.status import identity_or_problem
from agents.terminal import in_line
from streams.dead_letter import Home, Letter
from streams.errors import ConfigError, PenstockError

F = TypeVar("F", bound=Callable[..., Any])
SHORT = 60


def filter_options(function: F) -> F:
    """`--stage`, `--error`, `--key`, `--since`, `--until`."""
    for option in (
        click.option("--until", "until_ms", type=MOMENT, help="Dead-lettered before this time."),
        click.option("--since", "since_ms", type=MOMENT, help="Dead-lettered since: ISO 8601, or `2h` ago."),
        click.option("--key", help="Of one document."),
        click.option("--error", help="As the list shows it, for example InvalidRecord."),
        click.option("--stage", type=click.Choice(["decode", "split", "registry", "embed", "index"]), help="Where."),
    ):
        function = option(function)
    return function


@click.group()
def dlq() -> None:
    """Look at the records that could not be processed, and process them again."""


@dlq.command("list")
@filter_options
@click.option("--all", "every", is_flag=True, help="Also those that are resolved or superseded since.")
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="How many, newest first.")
@settings_option
@json_option
def list_command(every: bool, limit: int, settings: Settings, as_json: bool, **filters: Any) -> None:
    """List rejected records, and why.

    Open: neither the record nor a newer one of its document is in the index. An older version of the document
    may be: the list says where. Foreign: of another log than the one that is indexed; never replayed. Only letters of
    this source.group, and about its index.

    \b
    Example: penstock dlq list --error InvalidRecord --since 2h
    """
    rows, problem = asyncio.run(_list(settings, Filter(**filters)))
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
    return await listed(settings, identity, letters), problem


async def _read(reader: LogReader, settings: Settings, home: Home | None) -> list[Letter]:
    with progress_bar() as bar:
        bounds = await reader.bounds(
            settings.dead_letter_topic, range(await reader.partitions(settings.dead_letter_topic) or 0)
        )
        task = bar.add_task("reading dead letters", total=sum(bound.end - bound.begin for bound in bounds.values()))
        return await read_letters(reader, settings, home, lambda passed: bar.advance(task, passed))


def _row(row: Listed) -> dict[str, Any]:
    letter = row.letter
    return {
        "topic": letter.record.topic,
        "partition": letter.record.partition,
        "offset": letter.record.offset,
        "key": (letter.record.key or b"").decode(errors="backslashreplace"),
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
            f"{row.letter.record.partition}@{row.letter.record.offset}",
            Text(_short(shown["key"])),
            Text(_short(row.letter.error)),
            str(row.letter.attempt),
            shown["at"],
            state,
            Text(_short(row.letter.message)),
        )
    still = sum(row.standing in ("open", None) for row in rows)
    head = f"{settings.dead_letter_topic}: {len(rows)} records, {still} of them open"
    hint = "one of them whole: `penstock dlq show PLACE`; try them again: `penstock dlq replay`" if newest else ""
    parts = [problem, head, histogram if rows else None, letters if newest else None, hint]
    return Group(*[part for part in parts if part])


def _short(text: str) -> str:
    text = in_line(text)
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


@dlq.command()
@click.argument("place")
@click.option("--raw", is_flag=True, help="Write the value's bytes to stdout, and nothing else.")
@settings_option
@json_option
def show(place: str, raw: bool, settings: Settings, as_json: bool) -> None:
    """Show one dead letter whole. PLACE: the record's partition and offset in the source topic, as 3@1042.

    \b
    Example: penstock dlq show 3@1042 --raw > record.json
    """
    letter = asyncio.run(_find(settings, _place(place)))
    value = letter.record.value or b""
    if raw:
        click.get_binary_stream("stdout").write(value)
        return
    headers = {
        name: None if content is None else content.decode(errors="backslashreplace")
        for name, content in letter.record.headers
    }
    data = _row(Listed(letter=letter, standing=None, serves_older=False))
    del data["standing"], data["older_version_served"]
    data |= {
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
        say(f"{name:>14}  {in_line(str(content))}")
    say("\n" + value.decode(errors="backslashreplace"))


def _place(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)@(\d+)", text)
    if not found:
        raise ConfigError(f"{text!r} is not a place: partition@offset, for example 3@1042")
    return int(found[1]), int(found[2])


async def _find(settings: Settings, place: tuple[int, int]) -> Letter:
    latest: Letter | None = None
    async with log_reader(settings) as reader:
        async for found, _ in pages(reader, settings, None):
            for letter in found:
                if letter.place == place:
                    latest = letter
    if latest is None:
        raise PenstockError(
            f"{settings.dead_letter_topic} has no record {place[0]}@{place[1]} of {settings.source.topic}: "
            "`penstock dlq list --all` shows those that it has"
        )
    return latest


@dlq.command("replay")
@filter_options
@click.option("--dry-run", is_flag=True, help="Say what would come of it, and write nothing.")
@click.option("--max-attempts", type=click.IntRange(1), default=5, show_default=True, help="Leave those with as many.")
@settings_option
@json_option
def replay_command(dry_run: bool, max_attempts: int, settings: Settings, as_json: bool, **filters: Any) -> None:
    """Process open dead letters again.

    That happens at their records' own place in the stream, and workers may run meanwhile. It never overwrites
    anything newer, and produces nothing to the source topic. What is refused again becomes a dead letter with one
    more attempt. Exits with 1 when letters stay open.

    \b
    Example: penstock dlq replay --error InvalidRecord --dry-run
    """
    result = asyncio.run(_replay(settings, Filter(**filters), max_attempts, dry_run))
    if as_json:
        print_json({"dry_run": dry_run, "outcomes": dict(result.outcomes), "problems": result.problems})
    else:
        for problem in result.problems[:20]:
            say(in_line(problem))
        if len(result.problems) > 20:
            say(f"… and {len(result.problems) - 20} more: `penstock dlq list`")
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result.outcomes.items()))
        say(f"{'would be ' if dry_run and told else ''}{told or 'no open dead letters that match'}")
    sys.exit(1 if result.problems else 0)


async def _replay(settings: Settings, wanted: Filter, max_attempts: int, dry_run: bool) -> Replayed:
    checked = await check(settings)
    with closing(checked.embedder), progress_bar() as bar:
        task = bar.add_task("replaying dead letters", total=None)
        return await replay(
            settings,
            checked,
            wanted,
            max_attempts=max_attempts,
            dry_run=dry_run,
            report=lambda done, total: bar.update(task, completed=done, total=total),
        )


@dlq.command("resume")
@settings_option
def resume_command(settings: Settings) -> None:
    """Let workers go on after too many were rejected.

    A worker stops, and refuses to start, when more than dead_letters.max_ratio of 1,000 records were rejected. This
    begins the count anew.

    \b
    Example: penstock dlq resume
    """
    count = asyncio.run(resume(settings))
    say(f"forgot the rejected records of {count} partitions" if count else "nothing to forget")


@dlq.command()
@click.option("--before", "before_ms", type=MOMENT, help="All that is older, open or not: ISO 8601, or `30d` ago.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_option
def purge(before_ms: int | None, yes: bool, settings: Settings) -> None:
    """Delete dead letters for good.

    Up to the first open one of each partition, or all before a time. Another group's open letters stay in any case,
    and so does what follows them.

    \b
    Example: penstock dlq purge --before 30d --yes
    """
    ends, count = asyncio.run(_purgeable(settings, before_ms))
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
        click.confirm(f"delete {count} records from {settings.dead_letter_topic} for good?", abort=True)
    asyncio.run(_delete(settings, ends))
    say(f"deleted {count} records from {settings.dead_letter_topic}")


async def _purgeable(settings: Settings, before_ms: int | None) -> tuple[dict[int, int], int]:
    async with log_reader(settings) as reader:
        topic = await reader.require_topic(settings.source.topic)
        identity, problem = await identity_or_problem(settings, topic)
        if problem and before_ms is None:
            raise PenstockError(f"which letters are open cannot be told: {problem}; `--before TIME` needs no index")
        return await purgeable(settings, reader, identity, before_ms)


async def _delete(settings: Settings, ends: dict[int, int]) -> None:
    async with log_reader(settings) as reader:
        await reader.delete_before(settings.dead_letter_topic, ends)
