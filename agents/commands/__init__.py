"""The command line. Each command is a file; a user's mistake is one clear message, never a traceback."""

import sys

import click

from agents.commands.common import say
from agents.commands.config import config
from agents.commands.demo import demo
from agents.commands.dlq import dlq
from agents.commands.index import index
from agents.commands.ingest import ingest
from agents.commands.local import local
from agents.commands.model import model
from agents.commands.search import search
from agents.commands.status import status
from agents.commands.worker import worker
from agents.terminal import shown
from streams.errors import PenstockError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="penstock")
def cli() -> None:
    """Documents from Kafka to searchable vectors in Elasticsearch, effectively exactly once.

    Settings come from a TOML file (--config, or PENSTOCK_CONFIG) and the environment
    (PENSTOCK_KAFKA__BOOTSTRAP_SERVERS); `penstock config show` prints them all.

    \b
    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 refused for safety.
    Example, on a machine with nothing yet:
      penstock local up
      penstock model export sentence-transformers/all-MiniLM-L6-v2 --name all-MiniLM-L6-v2
      penstock ingest files docs/
      penstock index create
      penstock worker
    """


for command in (config, demo, dlq, index, ingest, local, model, search, status, worker):
    cli.add_command(command)


def main() -> None:
    """Console script `penstock`."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as exc:
        exc.message = shown(exc.message)
        exc.show()
        sys.exit(exc.exit_code)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except PenstockError as exc:
        say(f"penstock: {exc}", err=True)
        sys.exit(exc.exit_code)
