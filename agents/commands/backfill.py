"""`penstock backfill`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import json_option, settings_option

if TYPE_CHECKING:
    from agents.settings import Settings


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--model", metavar="NAME", help="With this model instead of the configured one.")
@click.option("--in-place", is_flag=True, help="Into the index of this source.group, from its claims on.")
@click.option("--embed-all", is_flag=True, help="Take no vectors from the index that serves.")
@click.option("--runner", default="FnApiRunner", show_default=True, help="Beam's: FlinkRunner, SparkRunner, …")
@settings_option
@json_option
@click.pass_context
def backfill(
    context: click.Context,
    model: str | None,
    in_place: bool,
    embed_all: bool,
    runner: str,
    settings: "Settings",
    as_json: bool,
) -> None:
    """Fill an index with all that is in the topic, by Apache Beam: on this machine, on Flink, Spark or Dataflow.

    Where no worker has processed anything yet, into the index that serves, which is made where there is none; else into
    a generation of its own, while readers and workers keep the present one, as `index rebuild` does on one machine.
    Documents get the same ids and versions as from a stream, so that workers may go on beside it, and what they write
    later wins. What is settled already costs a look at the registry: interrupted, it goes on when it is started again.
    At the end claims are written, and workers of the source.group that it names go on from there.

    All other options are Beam's own. Each process loads the model: divide model.threads. A machine that takes part
    needs this environment, the model's files under model.dir, and secrets in its environment, where they never travel.
    Needs the extra `beam`, in an environment of its own.

    \b
    Example: penstock backfill
    Example: penstock backfill --direct_running_mode=multi_processing --direct_num_workers=2
    Example: penstock backfill --model NEW --runner FlinkRunner --flink_master=flink:8081 --parallelism=8
    """
    from agents.commands.run.backfill import backfill as run

    run(settings, model, runner, context.args, in_place=in_place, embed_all=embed_all, as_json=as_json)
