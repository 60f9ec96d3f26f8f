"""`penstock ingest kinesis`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from agents.commands.common import say
from agents.commands.run.metrics_port import metrics_served
from agents.commands.run.output import console, print_json, when
from agents.commands.run.progress import EVERY_S, progress_bar
from agents.extras import importing
from agents.settings import Settings
from agents.sources.kinesis import Missed, Stream, Summary
from agents.sources.kinesis.bridge import Options
from agents.sources.kinesis.documents import Naming
from agents.sources.kinesis.run import Standing, run, standing
from agents.sources.metrics import Metrics
from agents.stopping import Stopped, cancellable, finish
from agents.terminal import counted
from streams.errors import PenstockError

SHOWN = 20
"""Missed stretches that are told one by one; `--json` has them all."""
LOOK_S = 0.5


def kinesis(
    settings: Settings,
    stream: str,
    *,
    endpoint: str | None,
    region: str | None,
    by: Literal["json", "partition-key"],
    prefix: str,
    dry_run: bool,
    metrics_port: int | None,
    as_json: bool,
    **rest: Any,
) -> None:
    """Publish what comes, until a signal, which is no failure but with `once`; or say how far it is."""
    with importing("kinesis"):
        from agents.sources.kinesis.client import kinesis as connected
    options = Options(naming=Naming(by=by, prefix=prefix), **rest)
    summary, metrics = Summary(), Metrics([stream])

    async def publish(opened: Stream) -> None:
        async with metrics_served(settings, metrics_port, metrics):
            await _publish(settings, opened, options, summary, metrics, stream)

    async def on(work: Callable[[Stream], Awaitable[None]]) -> None:
        async with connected(stream, endpoint=endpoint, region=region) as opened:
            await work(opened)

    if dry_run:
        finish(on(lambda opened: _say_standing(settings, opened, as_json=as_json)))
        return
    try:
        finish(cancellable(partial(on, publish)))  # what is open when it is cut off is aborted
    except Stopped:
        if options.once:
            raise
    if as_json:
        print_json(_row(summary))
    else:
        say(f"published {counted(summary.published, 'record')} to {settings.source.topic}")
    if summary.missed or summary.rejected:
        raise PenstockError(_failed(summary))


async def _publish(
    settings: Settings, stream: Stream, options: Options, summary: Summary, metrics: Metrics, name: str
) -> None:
    """With a line that tells how far it is."""
    with progress_bar() as bar:
        begun = time.monotonic()
        waiting_told = told = begun
        task = bar.add_task(f"publishing {name}", total=None)

        def wait(what: str) -> None:
            nonlocal waiting_told
            if time.monotonic() - waiting_told >= EVERY_S:
                waiting_told = time.monotonic()
                bar.console.print(Text(what), soft_wrap=True)

        async def watch() -> None:
            nonlocal told
            while True:
                await asyncio.sleep(LOOK_S)
                totals = {"invalid": summary.rejected, "failed": len(summary.missed)}
                metrics.streamed(name, summary.up_to_s, published=summary.published - summary.rejected, **totals)
                bar.update(task, completed=summary.published, description=f"publishing {name}, {_how_far(summary)}")
                if not bar.console.is_terminal and time.monotonic() - told >= EVERY_S:
                    told = time.monotonic()
                    rate = summary.published / (told - begun)
                    text = f"publishing {name}: {summary.published:,.0f} records, {rate:,.0f}/s, {_how_far(summary)}"
                    bar.console.print(Text(text), soft_wrap=True)

        waiting_told = float("-inf")
        watching = asyncio.create_task(watch())
        try:
            await run(settings, stream, options, summary, wait)
        finally:
            watching.cancel()


def _how_far(summary: Summary) -> str:
    return f"{counted(summary.shards, 'shard')}, {summary.behind_ms / 1000:,.0f} s behind"


async def _say_standing(settings: Settings, stream: Stream, *, as_json: bool) -> None:
    rows, missed, anew = await standing(settings, stream)
    would = [row.missed for row in rows if row.missed]
    if as_json:
        shards = [_shard_row(row) for row in rows]
        print_json(
            {"shards": shards, "missed": [_missed_row(one) for one in _in_order(missed)], "topic_made_anew": anew}
        )
        return
    table = Table("shard", "parents", "state", "read up to", "behind", box=None)
    for row in rows:
        told = _shard_row(row)
        behind = "" if row.behind_ms is None else f"{row.behind_ms / 1000:,.0f} s"
        parents = " ".join(row.shard.parents)
        table.add_row(row.shard.id, parents, told["state"], told["sequence"] or told["read_up_to"] or "", behind)
    console().print(table)
    if anew:
        say("the source topic was made anew: all of the stream would be published again")
    for one in [*_in_order(missed), *would][:SHOWN]:
        say(("would be missed: " if one in would else "missed: ") + _text(one))


def _shard_row(row: Standing) -> dict[str, Any]:
    at = row.checkpoint
    state = "read to its end" if at and at.ended else "open" if row.shard.open else "closed"
    return {
        "shard": row.shard.id,
        "parents": row.shard.parents,
        "state": state,
        "sequence": at.sequence if at else None,
        "sub_sequence": at.sub if at else None,
        "read_up_to": _moment(at.seen_ms) if at else None,
        "behind_ms": row.behind_ms,
        "would_be_missed": _missed_row(row.missed) if row.missed else None,
    }


def _row(summary: Summary) -> dict[str, object]:
    return {
        "published": summary.published,
        "rejected": summary.rejected,
        "missed": [_missed_row(one) for one in _in_order(summary.missed)],
        "behind_ms": summary.behind_ms,
    }


def _in_order(missed: Sequence[Missed]) -> list[Missed]:
    """By shard and time: shards are read side by side, and no list should be another in each run."""
    return sorted(missed, key=lambda one: (one.shard, one.after_ms or 0))


def _missed_row(missed: Missed) -> dict[str, object]:
    return {
        "shard": missed.shard,
        "reason": missed.reason,
        "after": missed.after,
        "after_time": _moment(missed.after_ms),
        "before": missed.before,
        "before_time": _moment(missed.before_ms),
        "sequence": missed.sequence,
        "sub_sequence": missed.sub,
    }


def _moment(epoch_ms: int | None) -> str | None:
    return None if epoch_ms is None else when(epoch_ms)


def _text(missed: Missed) -> str:
    sub = "" if missed.sub is None else f"/{missed.sub}"
    if missed.sequence:
        return f"{missed.shard} sequence {missed.sequence}{sub}: {missed.reason}"
    after = f"after {missed.after or 'its beginning'}{sub} ({_moment(missed.after_ms) or 'whenever it came'})"
    before = f"before {missed.before or 'its end'} ({_moment(missed.before_ms) or 'whenever it came'})"
    return f"{missed.shard} {after}, {before}: {missed.reason}"


def _failed(summary: Summary) -> str:
    lines = []
    if summary.rejected:
        lines.append(
            f"{counted(summary.rejected, 'record')} are no documents: published as they are, for the worker to "
            "dead-letter (`penstock dlq list`)"
        )
    if summary.missed:
        lines.append("to be sent again, then `--forget-missed` (the runbook's section on sources):")
        lines += [_text(one) for one in _in_order(summary.missed)[:SHOWN]]
    if len(summary.missed) > SHOWN:
        lines.append(f"… and {len(summary.missed) - SHOWN} more (`--json` lists them)")
    return "\n".join(lines)
