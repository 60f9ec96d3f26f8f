"""`penstock index promote|rollback|drop|compare`: from one generation to the next, and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agents.commands.common import Number, json_option, settings_option

if TYPE_CHECKING:
    from agents.settings import Settings

queries_option = click.option(
    "--queries", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Canary questions, one a line."
)
k_option = click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many hits.")


@click.command("promote")
@click.argument("name", metavar="[INDEX]", required=False)
@queries_option
@k_option
@click.option(
    "--min-overlap",
    type=Number(0, 1),
    default=0.5,
    show_default=True,
    help="Mean share of the top k that both must have.",
)
@click.option("--allow-missing", type=click.IntRange(0), default=0, help="So many documents may be missing.")
@click.option("--unchecked", is_flag=True, help="Do not compare with the present index: it is closed or broken.")
@click.option("--wait", "wait_s", type=Number(0), default=60.0, show_default=True, help="Seconds, for lag.")
@click.option("--alias", metavar="NAME", help="Point this alias at it instead of elasticsearch.alias: for A/B.")
@settings_option
@json_option
def promote_command(name: str | None, settings: "Settings", as_json: bool, alias: str | None, **options: Any) -> None:
    """Let readers see INDEX, the newest when none is named. One step, without a gap; twice is harmless.

    Three gates first: everything that is in the topic now is settled there; it has the documents that the present one
    has; and with --queries, the same questions find much the same in both, each with its own model. Refuses with exit
    code 3 when one fails, and changes nothing. The old index stays, and is fed as long as its workers run.

    \b
    Example: penstock index promote documents-b-000002 --queries questions.txt
    """
    from agents.commands.run import generations as run

    run.promote(settings, name, alias, as_json=as_json, **options)


@click.command("rollback")
@settings_option
@json_option
def rollback_command(settings: "Settings", as_json: bool) -> None:
    """Let readers see again what they saw before the last promotion. At once, and without a question.

    Rolled back twice is as it was.

    \b
    Example: penstock index rollback
    """
    from agents.commands.run import generations as run

    run.rollback_to_before(settings, as_json=as_json)


@click.command("drop")
@click.argument("name", metavar="INDEX")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_option
def drop_command(name: str, yes: bool, settings: "Settings") -> None:
    """Delete INDEX and its registry. Refuses while readers see it, or workers feed it.

    \b
    Example: penstock index drop documents-a-000001 --yes
    """
    from agents.commands.run import generations as run

    if not yes:
        click.confirm(f"Delete {name} and its registry?", abort=True)
    run.drop_one(settings, name)


@click.command("compare")
@click.argument("first", metavar="INDEX|ALIAS")
@click.argument("second", metavar="INDEX|ALIAS")
@queries_option
@k_option
@settings_option
@json_option
def compare_command(first: str, second: str, queries: Path | None, k: int, settings: "Settings", as_json: bool) -> None:
    """Ask two indices the same questions, each with its own model: overlap of the top k, and rank correlation.

    \b
    Example: penstock index compare documents documents-b --queries questions.txt
    """
    if queries is None:
        raise click.UsageError("--queries FILE is needed: one question a line")
    from agents.commands.run import generations as run

    run.compare_two(settings, first, second, queries, k, as_json=as_json)
