"""`penstock search`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import json_option, settings_option

if TYPE_CHECKING:
    from agents.settings import Settings


@click.command()
@click.argument("text")
@click.option("-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many chunks.")
@click.option("--distinct", is_flag=True, help="Of documents that are nearly the same, the best hit only.")
@settings_option
@json_option
def search(text: str, k: int, distinct: bool, settings: "Settings", as_json: bool) -> None:
    """Show the chunks nearest to TEXT, in the index that serves and with its model.

    \b
    Example: penstock search "run code at the same time in several processes" -k 3
    Example: penstock search "holiday policy" --distinct
    """
    if not text.strip():
        raise click.UsageError("TEXT is empty: what is to be searched for?")
    from agents.commands.run.search import search as run

    run(settings, text, k, distinct=distinct, as_json=as_json)
