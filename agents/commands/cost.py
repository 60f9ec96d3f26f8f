"""`penstock cost`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import json_option, settings_option

if TYPE_CHECKING:
    from agents.settings import Settings


@click.command()
@click.option(
    "--by",
    type=click.Choice(["day", "model", "route", "source"]),
    default="day",
    show_default=True,
    help="What each day is divided by.",
)
@settings_option
@json_option
def cost(by: str, settings: "Settings", as_json: bool) -> None:
    """Show what embedding cost, by day, model, route or source; needs no running worker.

    It is what the workers of `source.group` spent on what they have claimed, on the last eight UTC days on which they
    spent anything, at the prices in [cost.models.NAME] at that time. A source is the scheme and host, or bucket, of a
    document's URL, or of its id where that is a URI; a partition tells some twenty of them apart a day, and adds the
    cheapest up as "(other)".

    \b
    Example: penstock cost --by model
    """
    from agents.commands.run.cost import cost as run

    run(settings, by, as_json=as_json)
