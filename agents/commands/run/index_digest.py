"""`penstock index digest`."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.operations.digest import Compared, Digest, compare_digests, digest_of
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import counted, in_short
from streams.digest import Difference, Sum

NAME = 200
"""Characters of an id that are shown."""


def digest(
    settings: Settings,
    name: str | None,
    against: str | None,
    *,
    by_partition: bool,
    least: float,
    limit: int,
    as_json: bool,
) -> None:
    """Exits with 1 where two indices differ, or their vectors do."""
    manifest = Digest.read(Path(against)) if against and Path(against).is_file() else None
    made, compared = finish(_digest(settings, name, against, manifest))
    same = compared is None or not (compared.differing or (compared.least is not None and compared.least < least))
    if as_json:
        print_json(made.to_note() | ({"against": _data(compared, same=same)} if compared else {}))
    else:
        _show(made, by_partition=by_partition)
        if compared:
            _show(compared.other, by_partition=by_partition)
            _show_compared(made, compared, least, limit)
    sys.exit(0 if same else 1)


async def _digest(
    settings: Settings, name: str | None, against: str | None, manifest: Digest | None
) -> tuple[Digest, Compared | None]:
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        generations = [await index.generation(name)]
        if against and not manifest:
            generations.append(await index.generation(against))
        with progress_bar(transient=True) as bar:
            report = reporter(bar)
            made = await digest_of(client, settings, generations[0], report)
            if not against:
                return made, None
            other = manifest or await digest_of(client, settings, generations[1], report)
            return made, await compare_digests(client, settings, made, other, generations, report)


def _show(made: Digest, *, by_partition: bool) -> None:
    say(f"{made.index}: {_told(made.tree.sum())}")
    for number in made.tree.partitions if by_partition else ():
        say(f"  partition {number}: {_told(made.tree.sum(number))}")
    if made.unfinished:
        say(f"  {counted(made.unfinished, 'document')} are being written, or were left so: compare when all is settled")
    if made.loose:
        say(f"  {counted(made.loose, 'chunk')} that no entry names: `penstock index verify` tells which")


def _told(whole: Sum) -> str:
    return f"{counted(whole.documents, 'document')}, {counted(whole.chunks, 'chunk')}, digest {whole.digest}"


def _show_compared(made: Digest, compared: Compared, least: float, limit: int) -> None:
    if compared.contract:
        say(f"their contracts differ: {', '.join(compared.contract)}")
    if not compared.differing:
        say("the same documents, versions and chunks")
    for one in compared.differing[:limit]:
        here, there = counted(one.here.documents, "document"), one.there.documents
        say(f"{_place(one)}: {here} in {made.index}, {there} in the other")
    _more(compared.differing, limit, "range")
    for found in (compared.found or ())[:limit]:
        say(f"  {in_short(found.id, NAME)}: {_WORDS.get(found.what, f'another {found.what}')}")
    _more(compared.found or (), limit, "document")
    if compared.differing and compared.found is None:
        say("no document is named: one side is a manifest, or there are too many")
    if compared.least is not None:
        verdict = "" if compared.least >= least else f", which is below {least}"
        say(f"{counted(compared.vectors, 'vector')} compared: least cosine {compared.least:.6f}{verdict}")


_WORDS = {"only here": "only in the first", "only there": "only in the other", "chunks": "other chunks"}


def _place(one: Difference) -> str:
    ids = f", ids whose SHA-256 begins with {one.digits}" if one.digits else ""
    return f"partition {one.partition}{ids}"


def _more(rows: Iterable[Any], limit: int, what: str) -> None:
    left = len(list(rows)) - limit
    if left > 0:
        say(f"… {counted(left, what)} more (--limit)")


def _data(compared: Compared, *, same: bool) -> dict[str, Any]:
    return {
        "index": compared.other.index,
        "digest": compared.other.tree.sum().digest,
        "same": same,
        "contract": compared.contract,
        "ranges": [
            {
                "partition": one.partition,
                "digits": one.digits,
                "documents": one.here.documents,
                "documents_there": one.there.documents,
            }
            for one in compared.differing
        ],
        "documents": None if compared.found is None else [asdict(found) for found in compared.found],
        "vectors": compared.vectors,
        "least_cosine": compared.least,
    }
