"""`penstock backfill`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import MOMENT, json_option, settings_option

if TYPE_CHECKING:
    from agents.beam.session import Format
    from agents.settings import Settings


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--model", metavar="NAME", help="With this model instead of the configured one.")
@click.option("--in-place", is_flag=True, help="Into the index of this source.group, from its claims on.")
@click.option("--from", "pattern", metavar="PATTERN", help="Rows of these files instead of the topic: a snapshot.")
@click.option("--at", "at_ms", type=MOMENT, help="The time that the snapshot is of; else its newest file's.")
@click.option("--sync", is_flag=True, help="Delete what only older snapshots have.")
@click.option("--max-deletes", type=click.IntRange(min=0), metavar="N", help="--sync: more are refused; else a tenth.")
@click.option("--to", metavar="FOLDER", help="Vectors into files there, and into no index.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "jsonl", "tfrecord"]),
    default="parquet",
    help="--to: of the files.",
)
@click.option("--vectors", metavar="FOLDER", help="Take vectors from files that --to made; no model is run.")
@click.option("--embed-all", is_flag=True, help="Take no vectors from the index that serves.")
@click.option("--runner", default="FnApiRunner", show_default=True, help="Beam's: FlinkRunner, SparkRunner, …")
@settings_option
@json_option
@click.pass_context
def backfill(
    context: click.Context,
    model: str | None,
    in_place: bool,
    pattern: str | None,
    at_ms: int | None,
    sync: bool,
    max_deletes: int | None,
    to: str | None,
    form: "Format",
    vectors: str | None,
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

    With --from the rows of files go into the index that serves, below all that the stream says of a document: JSON
    lines, Parquet and CSV with a document a row, in Penstock's form or by the rules of [source.mapping]; all else that
    `penstock ingest files` reads is a document a file. On disks, and where Beam has an extra for them, s3:// and gs://.
    A newer snapshot wins over an older one, and the same one again changes nothing.

    With --to FOLDER nothing but Kafka and the model is needed: chunks with their texts, metadata and vectors go into
    files there. With --vectors FOLDER these files are loaded where the model is not run, but its tokenizer is: what
    is between the two, such as a copy from a machine with GPUs, is yours.

    All other options are Beam's own. Each process loads the model: divide model.threads. A machine that takes part
    needs this environment, the model's files under model.dir, and secrets in its environment, where they never travel.
    Needs the extra `beam`, in an environment of its own.

    \b
    Example: penstock backfill
    Example: penstock backfill --direct_running_mode=multi_processing --direct_num_workers=2
    Example: penstock backfill --model NEW --runner FlinkRunner --flink_master=flink:8081 --parallelism=8
    Example: penstock backfill --from '/lake/docs/*.parquet' --sync
    Example: penstock backfill --to /mnt/vectors --runner FlinkRunner --flink_master=gpus:8081 --parallelism=8
    Example: penstock backfill --vectors /mnt/vectors
    """
    from agents.commands.run import backfill as run

    if to:
        if pattern or in_place or embed_all or vectors or sync:
            raise click.UsageError("--to makes files of what is in the topic, and knows --model, --format and --runner")
        run.to_files(settings, model, to, form, runner, context.args, as_json=as_json)
    elif vectors and (pattern or embed_all):
        raise click.UsageError("--vectors are of what is in the topic: without --from and --embed-all")
    elif pattern is None:
        if at_ms is not None or sync or max_deletes is not None:
            raise click.UsageError("--at, --sync and --max-deletes are about a snapshot: --from PATTERN")
        options = context.args
        run.from_topic(
            settings, model, runner, options, in_place=in_place, embed_all=embed_all, vectors=vectors, as_json=as_json
        )
    elif model or in_place or embed_all:
        raise click.UsageError("--from goes into the index that serves: without --model, --in-place and --embed-all")
    elif max_deletes is not None and not sync:
        raise click.UsageError("--max-deletes is about --sync")
    else:
        options = context.args
        run.from_files(
            settings, pattern, runner, options, at_ms=at_ms, sync=sync, max_deletes=max_deletes, as_json=as_json
        )
