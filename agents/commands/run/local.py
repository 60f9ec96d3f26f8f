"""`penstock local up|down|status|wipe`. A folder of None is `local`, in the cache."""

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import byte_progress
from agents.local import KAFKA_VERSION, stack
from agents.local.security import secured, write_settings
from agents.local.servers import mtls_port
from agents.settings.environment import cache_dir


def _place(folder: Path | None) -> Path:
    return (folder or cache_dir() / "local").absolute()


def up(
    folder: Path | None, kafka_port: int, elasticsearch_port: int, elasticsearch_version: str, *, secure: bool
) -> None:
    """Start what is not running."""
    folder = _place(folder)
    bring_up(
        stack.StackOptions(
            folder=folder,
            cache=cache_dir(),
            kafka_port=kafka_port,
            elasticsearch_port=elasticsearch_port,
            kafka_version=KAFKA_VERSION,
            elasticsearch_version=elasticsearch_version,
            secure=secure,
        )
    )
    if secure:
        security = secured(folder)
        made = write_settings(security, kafka=kafka_port, mtls=mtls_port(security), elasticsearch=elasticsearch_port)
        say(f"settings: {', '.join(map(str, made))}")


def bring_up(options: stack.StackOptions) -> None:
    """Start the stack with a progress bar over the downloads, and print start times."""
    bar = byte_progress()
    with ExitStack() as shown:
        tasks: dict[str, Any] = {}

        def progress(name: str, done: int, total: int) -> None:
            if not tasks:
                shown.enter_context(bar)  # with nothing to tell it would be an empty line
            server = "elasticsearch" if name.startswith("elasticsearch") else "kafka"
            if server not in tasks:
                tasks[server] = bar.add_task(f"downloading {server}", total=total)
            bar.update(tasks[server], completed=done)

        seconds = stack.up(options, progress)
    for server in stack.status(options.folder):
        took = seconds[server.name]
        state = f"started in {took:.1f} s" if took else "was running"
        say(f"{server.name} {server.version} on 127.0.0.1:{server.port} ({state}; log {server.log})")


def down(folder: Path | None) -> None:
    """Stop what runs."""
    place = _place(folder)
    stopped = stack.down(place)
    say(f"stopped {' and '.join(stopped)}" if stopped else f"nothing was running in {place}")
    _tell_of_demo(folder)


def status(folder: Path | None, *, as_json: bool) -> None:
    """A line a server. Exits with 1 when one of them ended that nobody stopped."""
    place = _place(folder)
    running, noted = stack.status(place), stack.noted(place)
    if as_json:
        print_json([{**asdict(server), "running": server in running} for server in noted])
        sys.exit(1 if len(running) < len(noted) else 0)
    for server in noted:
        where = f"{server.name} {server.version} on 127.0.0.1:{server.port}"
        if server in running:
            say(f"{where} (pid {server.pid}; log {server.log})")
        else:
            say(f"{where} has ended by itself (log {server.log}): `penstock local up` starts it again")
    if not noted:
        say(f"nothing runs in {place}")
    _tell_of_demo(folder)
    sys.exit(1 if len(running) < len(noted) else 0)


def _tell_of_demo(folder: Path | None) -> None:
    """Who names no folder may mean the demo's servers."""
    demo = cache_dir() / "demo"
    if folder is None and stack.status(demo):
        say(f"those of the demo are up: `penstock local down --dir {demo}` stops them")


def wipe(folder: Path | None) -> None:
    """Stop what runs, and delete its data."""
    folder = _place(folder)
    stack.wipe(folder)
    say(f"wiped {folder}")
