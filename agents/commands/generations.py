"""`penstock index promote|rollback|drop|compare`: from one generation to the next, and back."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from elasticsearch import AsyncElasticsearch

from agents.commands.common import json_option, print_json, progress_bar, reporter, say, settings_option
from agents.compare import compare, read_queries
from agents.elastic import connect
from agents.generations import Gate, behind_alias, caught_up, drop, parity, progress_of, rollback, swap, unfinished
from agents.index import Index
from agents.kafka import log_reader
from agents.load_mode import end, note_of
from agents.settings import Settings
from streams.canary import Agreements
from streams.errors import PenstockError, RefusedError
from streams.generations import Generation, serving_one

queries_option = click.option(
    "--queries", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Canary questions, one a line."
)
k_option = click.option("-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many hits.")


@click.command("promote")
@click.argument("name", metavar="[INDEX]", required=False)
@queries_option
@k_option
@click.option(
    "--min-overlap",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Mean share of the top k that both must have.",
)
@click.option("--allow-missing", type=click.IntRange(0), default=0, help="So many documents may be missing.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds, for lag.")
@click.option("--alias", metavar="NAME", help="Point this alias at it instead of elasticsearch.alias: for A/B.")
@settings_option
@json_option
def promote_command(name: str | None, settings: Settings, as_json: bool, alias: str | None, **options: Any) -> None:
    """Let readers see INDEX, the newest when none is named. One step, without a gap; twice is harmless.

    Three gates first: everything that is in the topic now is settled there; it has the documents that the present one
    has; and with --queries, the same questions find much the same in both, each with its own model. Refuses with exit
    code 3 when one fails, and changes nothing. The old index stays, and is fed as long as its workers run.

    \b
    Example: penstock index promote documents-b-000002 --queries questions.txt
    """
    asyncio.run(_promote(settings, name, alias or settings.elasticsearch.alias, as_json=as_json, **options))


async def _promote(
    settings: Settings,
    name: str | None,
    alias: str,
    *,
    as_json: bool,
    queries: Path | None,
    k: int,
    min_overlap: float,
    allow_missing: int,
    wait_s: float,
) -> None:
    texts = read_queries(queries) if queries else []
    async with connect(settings.elasticsearch) as client, log_reader(settings) as reader:
        index = Index(client, settings)
        old = await behind_alias(client, settings, alias)
        new = await _candidate(index, name)
        if old and old.index == new.index:
            say(f"{new.index} is behind {alias} already", err=True)
            if as_json:
                print_json({"index": new.index, "before": old.index, "alias": alias, "promoted": True, "gates": []})
            return
        against = old or serving_one(await index.generations())
        gates = [
            *unfinished(new),
            await caught_up(index, reader, settings, new, wait_s),
            *([await parity(index, reader, settings, against, new, allow_missing)] if against else []),
        ]
        found = await _canaries(client, settings, (against, new), texts, k) if texts and against else None
        if found:
            told = f"{found.overlap:.3f} of the top {k} of {found.queries} questions are the same"
            gates.append(Gate(name="queries", passed=found.overlap >= min_overlap, told=told))
        failed = [gate for gate in gates if not gate.passed]
        seconds = None if failed else await _serve(client, settings, new, alias, old)
    if as_json:
        print_json(
            {
                "index": new.index,
                "before": old.index if old else None,
                "alias": alias,
                "promoted": not failed,
                "gates": [asdict(gate) for gate in gates],
                "queries": asdict(found) if found else None,
                "seconds": seconds,
            }
        )
    else:
        for gate in gates:
            say(f"{'ok  ' if gate.passed else 'FAIL'}  {gate.name}: {gate.told}")
        if found:
            _print_agreements(found)
        elif not failed:
            say("      queries: not asked (--queries FILE)")
    if failed:
        raise RefusedError(
            f"{new.index} is not promoted ({', '.join(gate.name for gate in failed)}): nothing was changed"
        )
    if not as_json:
        say(f"{alias} now means {new.index}" + (f"; `penstock index rollback` goes back to {old.index}" if old else ""))


async def _serve(
    client: AsyncElasticsearch, settings: Settings, new: Generation, alias: str, old: Generation | None
) -> float:
    """Out of load mode first: readers would not see what comes after."""
    if (wanted := await note_of(client, new.index)) is not None:
        await end(client, new.index, wanted)
    return await swap(client, settings, new, alias, old)


async def _candidate(index: Index, name: str | None) -> Generation:
    if name:
        return await index.generation(name)
    found = await index.generations()
    if all(one.serving for one in found):
        raise PenstockError("there is no further index to promote: `penstock index create --model NAME` makes one")
    return found[-1]  # also when it serves: to promote twice is harmless


@click.command("rollback")
@settings_option
@json_option
def rollback_command(settings: Settings, as_json: bool) -> None:
    """Let readers see again what they saw before the last promotion. At once, and without a question.

    Rolled back twice is as it was.

    \b
    Example: penstock index rollback
    """
    asyncio.run(_rollback(settings, as_json=as_json))


async def _rollback(settings: Settings, *, as_json: bool) -> None:
    async with connect(settings.elasticsearch) as client:
        now, before, seconds = await rollback(client, settings)
        problem, lag = None, None
        try:
            async with log_reader(settings) as reader:
                progress = await progress_of(Index(client, settings), reader, settings, now)
                lag = progress.unsettled
                if not progress.workers:
                    problem = f"no worker feeds it: start some with source.group = {now.group}"
        except PenstockError as exc:
            problem = str(exc)
    if as_json:
        data = {"index": now.index, "before": before.index, "seconds": seconds, "lag": lag, "problem": problem}
        print_json(data)
        return
    say(f"{settings.elasticsearch.alias} means {now.index} again, after {seconds:.2f} s; its lag is {lag}")
    if problem:
        say(problem, err=True)


@click.command("drop")
@click.argument("name", metavar="INDEX")
@click.confirmation_option("--yes", prompt="Delete this index and its registry?")
@settings_option
def drop_command(name: str, settings: Settings) -> None:
    """Delete INDEX and its registry. Refuses while readers see it, or workers feed it.

    \b
    Example: penstock index drop documents-a-000001 --yes
    """
    dropped = asyncio.run(_drop(settings, name))
    say(f"dropped {dropped.index}")


async def _drop(settings: Settings, name: str) -> Generation:
    async with connect(settings.elasticsearch) as client, log_reader(settings) as reader:
        return await drop(client, reader, settings, name)


@click.command("compare")
@click.argument("first", metavar="INDEX|ALIAS")
@click.argument("second", metavar="INDEX|ALIAS")
@queries_option
@k_option
@settings_option
@json_option
def compare_command(first: str, second: str, queries: Path | None, k: int, settings: Settings, as_json: bool) -> None:
    """Ask two indices the same questions, each with its own model: overlap of the top k, and rank correlation.

    \b
    Example: penstock index compare documents documents-b --queries questions.txt
    """
    if queries is None:
        raise click.UsageError("--queries FILE is needed: one question a line")
    found = asyncio.run(_compare(settings, first, second, read_queries(queries), k))
    if as_json:
        print_json(asdict(found))
        return
    _print_agreements(found)


async def _compare(settings: Settings, first: str, second: str, queries: list[str], k: int) -> Agreements:
    async with connect(settings.elasticsearch) as client:
        found = await Index(client, settings).generations()
        chosen = []
        for name in (first, second):
            one = next((one for one in found if name == one.index or name in one.aliases), None)
            if one is None:
                known = ", ".join(other for row in found for other in (row.index, *row.aliases)) or "none"
                raise PenstockError(
                    f"{name} is neither an index of {settings.elasticsearch.alias} nor an alias: {known}"
                )
            chosen.append(one)
        return await _canaries(client, settings, (chosen[0], chosen[1]), queries, k)


async def _canaries(
    client: AsyncElasticsearch, settings: Settings, pair: tuple[Generation, Generation], queries: list[str], k: int
) -> Agreements:
    with progress_bar() as bar:
        return await compare(client, settings, pair, queries, k, reporter(bar))


def _print_agreements(found: Agreements) -> None:
    correlation = "unknown" if found.correlation is None else f"{found.correlation:.3f}"
    say(f"      {found.queries} questions: overlap {found.overlap:.3f}, rank correlation {correlation}; least alike:")
    for row in found.worst:
        say(f"      {row.overlap:.2f}  {row.query}" + (f"  (lost: {', '.join(row.missing)})" if row.missing else ""))
