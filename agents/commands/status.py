"""`penstock status`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import json_option, settings_option

if TYPE_CHECKING:
    from agents.settings import Settings


@click.command()
@settings_option
@json_option
@click.option("--watch", is_flag=True, help="Show it again every 2 s until interrupted.")
def status(settings: "Settings", as_json: bool, watch: bool) -> None:
    """Show the lag by partition, the index, the model and the workers; needs no running worker.

    Exits with 1 where the index could not be looked at, because there is none, or Elasticsearch is away: the lag is
    that of the claims alone then. Whatever is wrong is said, and is `problem` in JSON.

    \b
    Example: penstock status --watch
    """
    from agents.commands.run.status import status as run

    run(settings, as_json=as_json, watch=watch)
