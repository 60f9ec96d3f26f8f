"""`penstock dlq list|show|replay|resume|purge`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agents.commands.common import MOMENT, json_option, settings_option
from agents.commands.lazy import Group

if TYPE_CHECKING:
    from agents.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
STAGES = ("source", "decode", "split", "quality", "registry", "embed", "index")


def filter_options(function: F) -> F:
    """`--stage`, `--error`, `--key`, `--since`, `--until`."""
    for option in (
        click.option("--until", "until_ms", type=MOMENT, help="Dead-lettered before this time."),
        click.option("--since", "since_ms", type=MOMENT, help="Dead-lettered since: ISO 8601, or `2h` ago."),
        click.option("--key", help="Of one document."),
        click.option("--error", help="As the list shows it, for example InvalidRecord."),
        click.option("--stage", type=click.Choice(STAGES), help="Where."),
    ):
        function = option(function)
    return function


@click.group(cls=Group)
def dlq() -> None:
    """Look at the records that could not be processed, and process them again.

    \b
    Example: penstock dlq list --since 2h
    """


@dlq.command("list")
@filter_options
@click.option("--all", "every", is_flag=True, help="Also those that are resolved or superseded since.")
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="How many, newest first.")
@settings_option
@json_option
def list_command(every: bool, limit: int, settings: "Settings", as_json: bool, **filters: Any) -> None:
    """List rejected records, and why.

    Open: neither the record nor a newer one of its document is in the index. An older version of the document
    may be: the list says where. Foreign: of another log than the one that is indexed; never replayed. Only letters of
    this source.group, and about its index.

    Of stage source: objects that `penstock ingest` could not fetch or read, by their URIs. Open until they are
    published, or gone from their source.

    \b
    Example: penstock dlq list --error InvalidRecord --since 2h
    """
    from agents.commands.run import dlq as run

    run.list_letters(settings, every=every, limit=limit, as_json=as_json, **filters)


@dlq.command()
@click.argument("place")
@click.option("--raw", is_flag=True, help="Write the value's bytes to stdout, and nothing else.")
@settings_option
@json_option
def show(place: str, raw: bool, settings: "Settings", as_json: bool) -> None:
    """Show one dead letter whole. PLACE: the record's partition and offset in the source topic, as 3@1042; or the URI
    of an object that could not be ingested.

    \b
    Example: penstock dlq show 3@1042 --raw > record.json
    """
    from agents.commands.run import dlq as run

    run.show(settings, place, raw=raw, as_json=as_json)


@dlq.command("replay")
@filter_options
@click.option("--dry-run", is_flag=True, help="Say what would come of it, and write nothing.")
@click.option("--max-attempts", type=click.IntRange(1), default=5, show_default=True, help="Leave those with as many.")
@settings_option
@json_option
def replay_command(dry_run: bool, max_attempts: int, settings: "Settings", as_json: bool, **filters: Any) -> None:
    """Process open dead letters again.

    That happens at their records' own place in the stream, and workers may run meanwhile. It never overwrites
    anything newer, and produces nothing to the source topic. What is refused again becomes a dead letter with one
    more attempt. Objects of sources are not replayed but named, with the command that ingests them again. Exits with 1
    when letters stay open.

    \b
    Example: penstock dlq replay --error InvalidRecord --dry-run
    """
    from agents.commands.run.dlq_replay import replay as run

    run(settings, max_attempts=max_attempts, dry_run=dry_run, as_json=as_json, **filters)


@dlq.command("resume")
@settings_option
def resume_command(settings: "Settings") -> None:
    """Let workers go on after too many were rejected.

    A worker stops, and refuses to start, when more than dead_letters.max_ratio of 1,000 records were rejected. This
    begins the count anew.

    \b
    Example: penstock dlq resume
    """
    from agents.commands.run.dlq_resume import resume as run

    run(settings)


@dlq.command()
@click.option("--before", "before_ms", type=MOMENT, help="All that is older, open or not: ISO 8601, or `30d` ago.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_option
def purge(before_ms: int | None, yes: bool, settings: "Settings") -> None:
    """Delete dead letters for good.

    Up to the first open one of each partition, or all before a time. Another group's open letters stay in any case,
    and so does what follows them.

    \b
    Example: penstock dlq purge --before 30d --yes
    """
    from agents.commands.run import dlq as run

    run.purge(settings, before_ms, yes=yes)
