"""`penstock backfill`."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agents.beam.engine import engine, run_batch
from agents.beam.session import Format, IntoFiles
from agents.clock import moment
from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.extras import importing
from agents.operations.backfill import backfill as fill_from_topic
from agents.operations.backfill import log_now
from agents.operations.filling import Filed
from agents.operations.rebuild import Rebuilt
from agents.operations.snapshots import Loaded, load_snapshot
from agents.settings import Settings, with_model_for_all
from agents.stopping import finish
from agents.terminal import counted
from streams.errors import ConfigError, PenstockError

SHOWN = 20
SHOWN_FILES = 5


def from_topic(
    settings: Settings,
    model: str | None,
    runner: str,
    options: Sequence[str],
    *,
    in_place: bool,
    embed_all: bool,
    vectors: str | None,
    as_json: bool,
) -> None:
    """Says how to go on. Raises PenstockError naming documents that neither the topic nor the old index has."""
    _require_beam(runner, options)
    if model:
        settings = with_model_for_all(settings, model)
    with progress_bar() as bar:
        report = reporter(bar)
        fill, filed = engine(runner, options, report), _filed(settings, vectors, options) if vectors else None
        done = finish(fill_from_topic(settings, fill, report, in_place=in_place, embed_all=embed_all, filed=filed))
    if as_json:
        print_json(done)
        sys.exit(1 if done.damaged else 0)
    _show(done)


def _filed(settings: Settings, folder: str, options: Sequence[str]) -> Filed:
    """Of a folder that has vectors of these settings."""
    with _quiet():
        from agents.beam.vectors import filed, part_of_contract, require_alike, tiled
    folder = _absolute(folder)
    _, contract = finish(log_now(settings))
    files = filed(folder, options)
    require_alike(folder, part_of_contract(contract))
    return lambda ranges: tiled(ranges, files)


def _absolute(folder: str) -> str:
    return folder if "://" in folder else str(Path(folder).expanduser().absolute())


def to_files(
    settings: Settings,
    model: str | None,
    folder: str,
    form: Format,
    runner: str,
    options: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Says what was made. Raises PenstockError."""
    _require_beam(runner, options)
    with _quiet():
        from agents.beam.vectors import filed, left_of, on_grid, part_of_contract, write_contract
    if model:
        settings = with_model_for_all(settings, model)
    folder, began = _absolute(folder), time.monotonic()
    ranges, contract = finish(log_now(settings))
    write_contract(folder, part_of_contract(contract), options)
    there = filed(folder, options)
    parts = left_of(on_grid(ranges), there)
    total = sum(part.end - part.start for part in parts)
    goal, made = IntoFiles(folder=folder, form=form, contract=contract), Counter[str]()
    with progress_bar() as bar:
        report = reporter(bar)

        def tell(done: int) -> None:
            report("from the topic", min(done, total), total)

        if parts:
            made = finish(run_batch(settings, goal, parts, [runner, *options], tell))
            tell(total)
    done = {
        "folder": folder,
        "files": len(parts),
        "files_before": len(there),
        "records": made["records"],
        "chunks": made["embedded"],
        "refused": made["dead_lettered"],
        "seconds": round(time.monotonic() - began, 1),
    }
    if as_json:
        print_json(done)
        return
    say(
        f"{counted(len(parts), 'file')} made in {folder} in {done['seconds']:.0f} s, {len(there)} were there before: "
        f"{counted(made['records'], 'record')}, {counted(made['embedded'], 'chunk')}, {made['dead_lettered']} refused, "
        "which become dead letters when the files are loaded: `penstock backfill --vectors`"
    )


def from_files(
    settings: Settings,
    pattern: str,
    runner: str,
    options: Sequence[str],
    *,
    at_ms: int | None,
    sync: bool,
    max_deletes: int | None,
    as_json: bool,
) -> None:
    """Says what was done, and what was not. Raises PenstockError; exit code 1 where rows became dead letters."""
    _require_beam(runner, options)
    with _quiet():
        from agents.beam.rows import matched, require_documents
    found = matched(pattern, options)
    snapshot = found.snapshot if at_ms is None else replace(found.snapshot, at_ms=at_ms)
    if not 0 <= snapshot.at_ms <= time.time() * 1000:
        raise ConfigError(
            f"a snapshot of {moment(snapshot.at_ms)} is still to come, or from before 1970: --at tells its time"
        )
    if found.passed_over and not as_json:
        others = ", ".join(found.passed_over[:SHOWN_FILES]) + (" …" if len(found.passed_over) > SHOWN_FILES else "")
        say(f"passed over, of kinds that are not read: {others}", err=True)
    require_documents(settings, snapshot.files)
    with progress_bar() as bar:
        report = reporter(bar)
        fill = engine(runner, options, report)
        done = finish(
            load_snapshot(
                settings,
                snapshot,
                fill,
                report,
                unchanged=lambda: matched(pattern, options).snapshot.tag == snapshot.tag,
                told_ms=at_ms,
                sync=sync,
                max_deletes=max_deletes,
            )
        )
    if as_json:
        print_json(done)
        sys.exit(1 if done.dead_lettered or done.changed else 0)
    _show_loaded(done, sync=sync)


def _require_beam(runner: str, options: Sequence[str]) -> None:
    with importing("beam"), _quiet():
        from agents.beam.options import require_known
    require_known(runner, options)


@contextmanager
def _quiet() -> Iterator[None]:
    """Beam tells what it looks for in vain, of Google's."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def _show_loaded(done: Loaded, *, sync: bool) -> None:
    say(
        f"the snapshot of {done.at} is in {done.index}, in {done.seconds:.0f} s: {counted(done.rows, 'row')} of "
        f"{counted(done.files, 'file')}, {done.settled} of them settled before; {counted(done.embedded, 'chunk')} "
        f"embedded, {done.reused} with their vectors of before"
        + ("" if done.deleted is None else f"; {counted(done.deleted, 'document')} deleted that it does not have")
    )
    if done.changed:
        raise PenstockError("its files changed while they were read: run it again; nothing was deleted")
    if done.dead_lettered:
        raise PenstockError(
            f"{counted(done.dead_lettered, 'row')} of it became dead letters: `penstock dlq list` names them, then run "
            "it again" + (". Nothing was deleted: what is missing may be among them" if sync else "")
        )


def _show(done: Rebuilt) -> None:
    say(
        f"{'went on with' if done.resumed else 'filled'} {done.index} in {done.seconds:.0f} s: "
        f"{counted(done.from_topic, 'record')} from the topic"
        + ("" if done.serving else f", {counted(done.from_index, 'document')} from the index that serves")
        + f"; {counted(done.embedded, 'chunk')} embedded, {done.reused} with their vectors of before"
    )
    say(
        f"start workers with source.group = {done.group}, which go on from there"
        + ("" if done.serving else f", then `penstock index promote {done.index}`")
    )
    if done.damaged:
        shown = ", ".join(done.damaged[:SHOWN]) + (" …" if len(done.damaged) > SHOWN else "")
        raise PenstockError(
            f"{counted(len(done.damaged), 'document')} are missing there: the topic has lost their records, and their "
            f"chunks in the index that serves are not whole. Publish them again: {shown}"
        )
