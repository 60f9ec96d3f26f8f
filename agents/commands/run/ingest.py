"""`penstock ingest`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.watch import PAGE, line_of, named, passed_over, row_of, shown, watch
from agents.extras import importing
from agents.settings import Settings
from agents.sources import Source
from agents.sources.collecting import AnySource, Deletes, Options, Summary
from agents.sources.files import file_sources
from agents.sources.patterns import Patterns, patterns
from agents.sources.reading import Ids
from agents.sources.session import run
from agents.stopping import finish
from agents.terminal import counted
from streams.errors import ConfigError, PenstockError

SHOWN = 20
"""Failures that are told one by one; `--json` has them all."""


def files(
    settings: Settings,
    paths: Sequence[Path],
    *,
    by: Literal["uri", "relative"],
    prefix: str,
    include: Sequence[str],
    exclude: Sequence[str],
    **rest: Any,
) -> None:
    """Publish what changed in these files and folders."""
    ids = Ids(by=by, prefix=prefix)
    _ingest(settings, file_sources(paths, ids, patterns(include, exclude)), ids=ids, **rest)


def s3(settings: Settings, uris: Sequence[str], *, endpoint: str | None, region: str | None, **rest: Any) -> None:
    """Publish what changed in these buckets."""
    with importing("s3"):
        from agents.sources.s3 import bucket_sources
    _stores(settings, partial(bucket_sources, uris, endpoint=endpoint, region=region), **rest)


def gcs(settings: Settings, uris: Sequence[str], *, endpoint: str | None, **rest: Any) -> None:
    """Publish what changed in these buckets of Google's."""
    with importing("obstore"):
        from agents.sources.obstores import gcs_sources
    _stores(settings, partial(gcs_sources, uris, endpoint=endpoint), **rest)


def azure(settings: Settings, uris: Sequence[str], *, account: str | None, endpoint: str | None, **rest: Any) -> None:
    """Publish what changed in these containers of Azure's."""
    with importing("obstore"):
        from agents.sources.obstores import azure_sources
    _stores(settings, partial(azure_sources, uris, account=account, endpoint=endpoint), **rest)


def web(
    settings: Settings,
    urls: Sequence[str],
    *,
    prefix: str,
    include: Sequence[str],
    exclude: Sequence[str],
    contact: str | None,
    allow_private: bool,
    **rest: Any,
) -> None:
    """Publish what changed on these sites."""
    with importing("web"):
        from agents.sources.web.aim import Plan
        from agents.sources.web.site import Manners, site_sources
    names = ("depth", "max_pages", "delay_s", "concurrency", "sitemaps", "ignored")
    plan = Plan(**{name: rest.pop(name) for name in names})
    manners = Manners(contact=contact, allow_private=allow_private)
    ids = Ids(prefix=prefix)
    sources = site_sources(urls, ids, patterns(include, exclude), plan, manners)
    _ingest(settings, sources, ids=ids, **rest)


def _stores(
    settings: Settings,
    make: Callable[[Ids, Patterns], Sequence[Source]],
    *,
    by: Literal["uri", "relative"],
    prefix: str,
    include: Sequence[str],
    exclude: Sequence[str],
    **rest: Any,
) -> None:
    ids = Ids(by=by, prefix=prefix)
    _ingest(settings, make(ids, patterns(include, exclude)), ids=ids, **rest)


def _ingest(
    settings: Settings,
    sources: Sequence[AnySource],
    *,
    max_deletes: float,
    as_json: bool,
    every_s: float | None = None,
    events: str | None = None,
    metrics_port: int | None = None,
    **rest: Any,
) -> None:
    """With a bar, and what came of it. Raises PenstockError when anything failed, RefusedError for deletions."""
    deletes = Deletes(count=max_deletes) if isinstance(max_deletes, int) else Deletes(share=max_deletes)
    watched = every_s is not None or events is not None
    options = Options(max_deletes=deletes, watched=watched, **rest)
    if options.delete_excluded and not options.sync:
        raise ConfigError(
            "--delete-excluded says what `--sync` deletes, too, and nothing is deleted without that: add it"
        )
    if watched:
        watch(settings, sources, options, every_s=every_s, events=events, metrics_port=metrics_port, as_json=as_json)
        return
    if metrics_port is not None:
        raise ConfigError("--metrics-port is for a run that goes on: give it --watch SECONDS, or --events TOPIC")
    with shown() as (report, wait):
        summary = finish(run(settings, sources, options, report, wait))
    if as_json:
        print_json(row_of(summary))
    else:
        _print(summary, options, settings.source.topic, named(sources))
    problems: list[PenstockError] = [*summary.refused]
    if summary.failed:
        problems.append(PenstockError(_failed(summary, options)))
    for problem in problems[:-1]:
        say(str(problem), err=True)
    if problems:
        raise problems[-1]


def _print(summary: Summary, options: Options, topic: str, what: str) -> None:
    """`what` an object of these sources is called, as `counted` takes it."""
    if options.dry_run:
        say(_tried(summary, options, what))
    else:
        say(line_of(summary, topic, what))
    if summary.gone and not options.sync:
        say(f"{counted(summary.gone, 'document')} gone from where they came from: `--sync` deletes them")
    elif summary.gone and options.dry_run and not summary.refused:
        say(f"{counted(summary.gone, 'document')} gone from where they came from would be deleted")
    for name in summary.incomplete if options.sync else []:
        say(f"not all of {name} could be listed, or is of a kind that can be read here: what is missing is not deleted")
    for line in passed_over(summary):
        say(line)


def _tried(summary: Summary, options: Options, what: str) -> str:
    """Of a dry run: what would be done, and what was looked at for that."""
    if what == PAGE:
        looked = f"every {what} was asked for"
    elif options.strict:
        looked = "what is to be read was read"
    else:
        looked = f"the {what}s were listed, and none was opened: `--strict --dry-run` says what would fail in them"
    return f"{counted(summary.changed, what)} to read, {summary.unchanged} unchanged; nothing was published; {looked}"


def _failed(summary: Summary, options: Options) -> str:
    lines = [f"{one.origin}: {one.reason}" for one in summary.failures[:SHOWN]]
    if summary.failed > len(lines):
        lines.append(f"… and {summary.failed - len(lines)} more (`--json` lists them)")
    so_far = "nothing was published" if options.strict or options.dry_run else "all else was published"
    return f"{summary.failed} failed; {so_far}:\n" + "\n".join(lines)
