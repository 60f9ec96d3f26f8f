"""The command line. Each command is a file; a user's mistake is one clear message, never a traceback.

A command's file declares it: options and help, for which click is enough. What it does is in `run/`, and imported when
it runs, so that help, completion and a typing mistake cost no more than click.
"""

import errno
import os
import sys

import click

from agents.commands.common import say
from agents.commands.lazy import Lazy, LazyGroup
from agents.stopping import exit_code
from agents.terminal import shown
from streams.errors import PenstockError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Of a disk, behind what the output goes to."""
COMMANDS = {
    name: Lazy(f"agents.commands.{name}:{name}", help)
    for name, help in {
        "backfill": "Fill an index with all that is in the topic, by Apache Beam: on this machine, on Flink, Spark or "
        "Dataflow.",
        "completion": "Print the script with which a shell completes commands and options.",
        "config": "Validate and show the settings, and try them on records.",
        "cost": "Show what embedding cost, by day, model, route or source; needs no running worker.",
        "demo": "Index the Python documentation on real servers, answer three questions, take it down again.",
        "dlq": "Look at the records that could not be processed, and process them again.",
        "index": "Create and inspect the vector index.",
        "ingest": "Publish documents to the source topic: what changed since the last time, or is sent over HTTP.",
        "local": "A real broker and a real Elasticsearch as local processes, on loopback, without Docker or a JDK.",
        "model": "Export, add, list and verify embedding models.",
        "route": "Find out which documents a faster model is good enough for.",
        "search": "Show the chunks nearest to TEXT, in the index that serves and with its model.",
        "status": "Show the lag by partition, the index, the model and the workers; needs no running worker.",
        "worker": "Read, embed and index until stopped.",
    }.items()
}
"""What the list of commands shows: the first sentence of each command's own help."""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="penstock")
def cli() -> None:
    """Documents from Kafka to searchable vectors in Elasticsearch, effectively exactly once.

    Settings come from a TOML file (--config, or PENSTOCK_CONFIG) and the environment
    (PENSTOCK_KAFKA__BOOTSTRAP_SERVERS); `penstock config show` prints them all.

    \b
    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 refused for safety, 130 Ctrl-C, 143 SIGTERM.
    Example, on a machine with nothing yet:
      penstock local up
      penstock model export sentence-transformers/all-MiniLM-L6-v2 --name all-MiniLM-L6-v2
      penstock ingest files docs/
      penstock index create
      penstock worker
    """


def main() -> None:
    """Console script `penstock`."""
    try:
        _run()
    except BaseException as exc:
        if (code := exit_code(exc)) is None:
            raise
        sys.exit(code)


def _run() -> None:
    """Ends the process, but where all went well. What a signal stopped says nothing."""
    try:
        cli(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort as exc:
        if exit_code(exc) is not None:
            raise
        say("penstock: not confirmed, so nothing was done; with --yes nobody is asked", err=True)
        sys.exit(1)
    except click.ClickException as exc:
        exc.message = shown(exc.message)
        exc.show()
        sys.exit(exc.exit_code)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except PenstockError as exc:
        say(f"penstock: {exc}", err=True)
        sys.exit(exc.exit_code)
    except OSError as exc:
        if exc.errno not in FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or what is left fails once more at the end
        say(f"penstock: the output could not be written: {exc.strerror}", err=True)
        sys.exit(1)
