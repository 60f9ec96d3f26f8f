"""`penstock local up|down|status|wipe`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agents.commands.common import json_option
from agents.commands.lazy import Group
from agents.local import (
    DEFAULT_ELASTICSEARCH_PORT,
    DEFAULT_KAFKA_PORT,
    ELASTICSEARCH_VERSION,
    ELASTICSEARCH_VERSIONS,
)

F = TypeVar("F", bound=Callable[..., Any])


def dir_option(function: F) -> F:
    """`--dir DIR`; without it the run knows where."""
    return click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Folder of this stack's data and logs.  [default: `local` in PENSTOCK_CACHE_DIR, ~/.cache/penstock]",
    )(function)


@click.group(cls=Group)
def local() -> None:
    """A real broker and a real Elasticsearch as local processes, on loopback, without Docker or a JDK.

    \b
    Example: penstock local up
    """


@local.command()
@dir_option
@click.option("--kafka-port", type=click.IntRange(1, 65535), default=DEFAULT_KAFKA_PORT, show_default=True)
@click.option(
    "--elasticsearch-port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_ELASTICSEARCH_PORT,
    show_default=True,
)
@click.option(
    "--elasticsearch-version",
    type=click.Choice(ELASTICSEARCH_VERSIONS),
    default=ELASTICSEARCH_VERSION,
    show_default=True,
)
@click.option("--secure", is_flag=True, help="With TLS and logins; makes the certificates, and settings to use them.")
def up(folder: Path | None, kafka_port: int, elasticsearch_port: int, elasticsearch_version: str, secure: bool) -> None:
    """Start the broker and Elasticsearch in the background; the first time their files are downloaded.

    With --secure the broker takes SASL_SSL (SCRAM), and mTLS on a port of its own, Elasticsearch https and a login.
    DIR/secure then has penstock.toml and penstock-mtls.toml for --config.

    \b
    Example: penstock local up --dir /tmp/second --kafka-port 9093 --elasticsearch-port 9201
    Example: penstock local up --secure --dir /tmp/s && penstock config show --config /tmp/s/secure/penstock.toml
    """
    from agents.commands.run import local as run

    run.up(folder, kafka_port, elasticsearch_port, elasticsearch_version, secure=secure)


@local.command()
@dir_option
def down(folder: Path | None) -> None:
    """Stop the servers; their data stays.

    \b
    Example: penstock local down
    """
    from agents.commands.run import local as run

    run.down(folder)


@local.command()
@dir_option
@json_option
def status(folder: Path | None, as_json: bool) -> None:
    """Say which servers run, and where.

    \b
    Example: penstock local status --json
    """
    from agents.commands.run import local as run

    run.status(folder, as_json=as_json)


@local.command()
@dir_option
@click.confirmation_option("--yes", prompt="Delete the local broker's and Elasticsearch's data?")
def wipe(folder: Path | None) -> None:
    """Stop the servers and delete their data; downloads are kept.

    \b
    Example: penstock local wipe --yes
    """
    from agents.commands.run import local as run

    run.wipe(folder)
