"""`penstock local up|down|status|wipe`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from agents.commands.common import byte_progress, json_option, print_json, say
from agents.local import (
    DEFAULT_ELASTICSEARCH_PORT,
    DEFAULT_KAFKA_PORT,
    ELASTICSEARCH_VERSION,
    ELASTICSEARCH_VERSIONS,
    KAFKA_VERSION,
    stack,
)
from agents.local.security import secured, write_settings
from agents.local.servers import mtls_port
from agents.settings import cache_dir


def dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--dir D`."""
    return click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        default=lambda: cache_dir() / "local",
        metavar="DIR",
        help="Folder of this stack's data and logs.",
    )(function)


@click.group()
def local() -> None:
    """A real broker and a real Elasticsearch as local processes, on loopback, without Docker or a JDK."""


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
def up(folder: Path, kafka_port: int, elasticsearch_port: int, elasticsearch_version: str, secure: bool) -> None:
    """Start the broker and Elasticsearch in the background; the first time their files are downloaded.

    With --secure the broker takes SASL_SSL (SCRAM), and mTLS on a port of its own, Elasticsearch https and a login.
    DIR/secure then has penstock.toml and penstock-mtls.toml for --config.

    \b
    Example: penstock local up --dir /tmp/second --kafka-port 9093 --elasticsearch-port 9201
    Example: penstock local up --secure --dir /tmp/s && penstock config check --config /tmp/s/secure/penstock.toml
    """
    bring_up(
        stack.StackOptions(
            folder=folder.absolute(),
            cache=cache_dir(),
            kafka_port=kafka_port,
            elasticsearch_port=elasticsearch_port,
            kafka_version=KAFKA_VERSION,
            elasticsearch_version=elasticsearch_version,
            secure=secure,
        )
    )
    if secure:
        security = secured(folder.absolute())
        made = write_settings(security, kafka=kafka_port, mtls=mtls_port(security), elasticsearch=elasticsearch_port)
        say(f"settings: {', '.join(map(str, made))}")


def bring_up(options: stack.StackOptions) -> None:
    """Start the stack with a progress bar over the downloads, and print start times."""
    with byte_progress() as bar:
        tasks: dict[str, Any] = {}

        def progress(name: str, done: int, total: int) -> None:
            server = "elasticsearch" if name.startswith("elasticsearch") else "kafka"
            if server not in tasks:
                tasks[server] = bar.add_task(f"downloading {server}", total=total)
            bar.update(tasks[server], completed=done)

        seconds = stack.up(options, progress)
    for server in stack.status(options.folder):
        took = seconds[server.name]
        state = f"started in {took:.1f} s" if took else "was running"
        say(f"{server.name} {server.version} on 127.0.0.1:{server.port} ({state}; log {server.log})")


@local.command()
@dir_option
def down(folder: Path) -> None:
    """Stop the servers; their data stays.

    \b
    Example: penstock local down
    """
    stopped = stack.down(folder.absolute())
    say(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")


@local.command()
@dir_option
@json_option
def status(folder: Path, as_json: bool) -> None:
    """Say which servers run, and where.

    \b
    Example: penstock local status --json
    """
    running = stack.status(folder.absolute())
    if as_json:
        print_json([asdict(server) for server in running])
    for server in () if as_json else running:
        say(f"{server.name} {server.version} on 127.0.0.1:{server.port} (pid {server.pid}; log {server.log})")
    if not running and not as_json:
        say(f"nothing runs in {folder}")


@local.command()
@dir_option
@click.confirmation_option("--yes", prompt="Delete the local broker's and Elasticsearch's data?")
def wipe(folder: Path) -> None:
    """Stop the servers and delete their data; downloads are kept.

    \b
    Example: penstock local wipe --yes
    """
    stack.wipe(folder.absolute())
    say(f"wiped {folder}")
