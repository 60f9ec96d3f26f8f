"""`penstock worker`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import settings_option

if TYPE_CHECKING:
    from agents.settings import Settings


@click.command()
@settings_option
def worker(settings: "Settings") -> None:
    """Read, embed and index until stopped. Start as many as you like, up to one a partition.

    Checks the settings, the model's files and the index contract first, and refuses with exit code 3 when
    they differ; waits while Kafka or Elasticsearch is away. SIGTERM drains within lifecycle.drain_s and
    exits 0; a second one exits at once.

    \b
    Example: penstock worker --config penstock.toml
    """
    from agents.worker.app import Worker, create_app

    Worker(create_app(settings)).execute_from_commandline()
