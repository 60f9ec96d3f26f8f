"""`penstock index verify`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.commands.common import json_option, settings_option

if TYPE_CHECKING:
    from agents.settings import Settings


@click.command("verify")
@click.option("--repair", is_flag=True, help="Mend what is found.")
@click.option(
    "--accept-data-loss",
    is_flag=True,
    help="With --repair: where newer content is lost, keep what is whole of an older one, and delete the rest.",
)
@click.option("--sample", type=click.IntRange(0, 10_000), default=200, show_default=True, help="Chunks to embed again.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="How many findings to show.")
@click.option("--metrics", type=click.Path(path_type=Path, dir_okay=False), help="Also write a Prometheus text file.")
@settings_option
@json_option
def verify_command(
    repair: bool,
    accept_data_loss: bool,
    sample: int,
    limit: int,
    metrics: Path | None,
    settings: "Settings",
    as_json: bool,
) -> None:
    """Compare topic, registry and chunks.

    Finds what is missing, stale, orphaned, half written or changed by others, while workers run. Records that are not
    settled yet are not looked at, so that an exit with 0 says nothing of them: `unsettled` in JSON is their number.
    --repair processes the records of damaged documents again, at their own versions, so that nothing newer is
    overwritten. Exits with 1 when damage is found, or left after --repair.

    Where the topic has lost the record of a document, and its chunks are not whole, its newest content is lost: its
    producer has to publish it again. Or, for good, --accept-data-loss.

    \b
    Example: penstock index verify --repair
    """
    from agents.commands.run.verify import verify as run

    if metrics and not os.access(metrics.parent, os.W_OK):
        raise click.UsageError(f"--metrics {metrics}: its folder is not there, or not writable")
    if accept_data_loss and not repair:
        raise click.UsageError("--accept-data-loss is for --repair: without it nothing is written")
    run(
        settings,
        repair=repair,
        accept_data_loss=accept_data_loss,
        sample=sample,
        limit=limit,
        metrics=metrics,
        as_json=as_json,
    )
