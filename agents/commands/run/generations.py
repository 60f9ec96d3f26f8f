"""`penstock index promote|rollback|drop|compare`: from one generation to the next, and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.elastic.client import Client, connect
from agents.elastic.index import Index
from agents.kafka.reader import log_reader
from agents.operations.compare import compare, read_queries
from agents.operations.promote import (
    Gate,
    behind_alias,
    caught_up,
    drop,
    has_its_snapshots,
    not_set_back,
    parity,
    progress_of,
    rollback,
    swap,
    unfinished,
)
from agents.settings import Settings
from agents.stopping import finish
from agents.worker.load_mode import end, note_of
from streams.agreement import Agreements
from streams.errors import PenstockError, RefusedError
from streams.generations import Generation, serving_one


def promote(settings: Settings, name: str | None, alias: str | None, *, as_json: bool, **options: Any) -> None:
    """The gates, then the swap. Raises RefusedError when a gate is closed."""
    finish(_promote(settings, name, alias or settings.elasticsearch.alias, as_json=as_json, **options))


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
    unchecked: bool,
    wait_s: float,
) -> None:
    texts = read_queries(queries) if queries else []
    async with connect(settings.elasticsearch) as client, log_reader(settings) as reader:
        index = Index(client, settings)
        old = await behind_alias(client, settings, alias)
        new = await _candidate(index, name)
        if old and old.index == new.index:
            say(f"readers of {alias} see {new.index} already", err=True)
            if as_json:
                print_json({"index": new.index, "before": old.index, "alias": alias, "promoted": True, "gates": []})
            return
        against = None if unchecked else old or serving_one(await index.generations())
        gates = [
            *unfinished(new),
            *await not_set_back(index, new),
            *await has_its_snapshots(index, against, new),
            await caught_up(index, reader, settings, new, wait_s),
            *([await parity(index, reader, settings, against, new, allow_missing)] if against else []),
        ]
        found = await _canaries(client, settings, (against, new), texts, k) if texts and against else None
        if found:
            told = f"{found.overlap:.3f} of the top {k} of {found.queries} questions are the same"
            gates.append(Gate(name="queries", passed=found.overlap >= min_overlap, told=told))
        failed = [gate for gate in gates if not gate.passed]
        seconds = None if failed else await _serve(client, settings, new, alias, old)
        fed = bool(new.group and await reader.group_members(new.group))
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
    if not fed:
        say(
            f"no worker feeds {new.index}: start some with source.group = {new.group or settings.source.group}",
            err=True,
        )


async def _serve(client: Client, settings: Settings, new: Generation, alias: str, old: Generation | None) -> float:
    """Out of load mode first: readers would not see what comes after."""
    if (wanted := await note_of(client, settings, new.index)) is not None:
        await end(client, new.index, wanted)
    return await swap(client, settings, new, alias, old)


async def _candidate(index: Index, name: str | None) -> Generation:
    if name:
        return await index.generation(name)
    found = await index.generations()
    if all(one.serving for one in found):
        raise PenstockError("there is no further index to promote: `penstock index create --model NAME` makes one")
    return found[-1]  # also when it serves: to promote twice is harmless


def rollback_to_before(settings: Settings, *, as_json: bool) -> None:
    """The swap back."""
    finish(_rollback(settings, as_json=as_json))


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


def drop_one(settings: Settings, name: str) -> None:
    """An index with its registry."""
    dropped = finish(_drop(settings, name))
    say(f"dropped {dropped.index}")


async def _drop(settings: Settings, name: str) -> Generation:
    async with connect(settings.elasticsearch) as client, log_reader(settings) as reader:
        return await drop(client, reader, settings, name)


def compare_two(settings: Settings, first: str, second: str, queries: Path, k: int, *, as_json: bool) -> None:
    """The same questions to both."""
    found = finish(_compare(settings, first, second, read_queries(queries), k))
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
    client: Client, settings: Settings, pair: tuple[Generation, Generation], queries: list[str], k: int
) -> Agreements:
    with progress_bar() as bar:
        return await compare(client, settings, pair, queries, k, reporter(bar))


def _print_agreements(found: Agreements) -> None:
    correlation = "unknown" if found.correlation is None else f"{found.correlation:.3f}"
    say(f"      {found.queries} questions: overlap {found.overlap:.3f}, rank correlation {correlation}; least alike:")
    for row in found.worst:
        say(f"      {row.overlap:.2f}  {row.query}" + (f"  (lost: {', '.join(row.missing)})" if row.missing else ""))
