"""`penstock ingest … --watch` and `--events`, and what a run of it shows: a bar, a line, a row."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from rich.text import Text

from agents.commands.common import say
from agents.commands.run.metrics_port import metrics_served
from agents.commands.run.output import print_json_line, when
from agents.commands.run.progress import EVERY_S, progress_bar, reporter
from agents.progress import Report
from agents.settings import Settings
from agents.sources import Failure
from agents.sources.collecting import AnySource, Crawled, Options, Summary
from agents.sources.files import Files
from agents.sources.metrics import Metrics
from agents.sources.publish import Wait
from agents.sources.session import session
from agents.sources.watch import Watch
from agents.stopping import Stopped, finish
from agents.terminal import counted
from streams.errors import ConfigError, PenstockError

PAGE = "page"
"""What an object of a site is called."""
SHOWN = 20
"""Failures of a pass that are told one by one; `--json` has them all."""
KINDS_SHOWN = 4
"""Kinds of what was passed over; `--json` has them all."""


@contextmanager
def shown(*, transient: bool = False) -> Iterator[tuple[Report, Wait]]:
    """A bar, and lines for what is waited for. `transient`: nothing of it stays."""
    told_at = float("-inf")
    with progress_bar(transient=transient) as bar:

        def wait(what: str) -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= EVERY_S:
                told_at = time.monotonic()
                bar.console.print(Text(what), soft_wrap=True)

        yield reporter(bar), wait


def watch(
    settings: Settings,
    sources: Sequence[AnySource],
    options: Options,
    *,
    every_s: float | None,
    events: str | None,
    metrics_port: int | None,
    as_json: bool,
) -> None:
    """Until a signal, which is no failure: the transaction that is open then is ended. Raises ConfigError."""
    doing = "--events" if events else "--watch"
    for option in ("dry_run", "again", *(["strict"] if events else [])):
        if getattr(options, option):
            name = option.replace("_", "-")
            raise ConfigError(f"{doing} and --{name} exclude each other: run it once with --{name} first")
    if events in (settings.source.topic, settings.sources_topic):
        raise ConfigError(
            f"--events {events}: that is where documents go; name the topic of the bucket's notifications"
        )

    async def work() -> None:
        metrics = Metrics(source.name for source in sources)
        async with metrics_served(settings, metrics_port, metrics), session(settings, sources, options) as made:
            show, tell = partial(shown, transient=True), Teller(settings, as_json=as_json)
            await Watch(made, show, tell, metrics, every_s=every_s, events=events).run(sources)

    try:
        finish(work())
    except Stopped:
        return


class Teller:
    """Tells what became of a pass: a line where something changed, and what failed anew; all of each with `as_json`."""

    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self._topic = settings.source.topic
        self._as_json = as_json
        self._last: dict[AnySource, object] = {}
        self._failures: dict[AnySource, frozenset[Failure]] = {}

    def __call__(self, source: AnySource, outcome: Summary | PenstockError) -> None:
        """Now."""
        at = when(int(time.time() * 1000))
        if self._as_json:
            told = {"error": str(outcome)} if isinstance(outcome, PenstockError) else row_of(outcome)
            print_json_line({"at": at, "source": source.name, **told})
        elif isinstance(outcome, PenstockError):
            say(f"{at} {outcome}; it is tried again", err=True)
        else:
            self._tell(f"{at} {source.name}", source, outcome)

    def _tell(self, begin: str, source: AnySource, summary: Summary) -> None:
        failures = [one for one in summary.failures if one not in self._failures.get(source, ())]
        self._failures[source] = frozenset(summary.failures)
        for one in failures[:SHOWN]:
            say(f"{begin}: {one.origin}: {one.reason}", err=True)
        if len(failures) > SHOWN:
            say(f"{begin}: … and {len(failures) - SHOWN} more failed (`--json` lists them)", err=True)
        if summary.strange:
            say(f"{begin}: {summary.strange} records of the notifications' topic are none", err=True)
        left = (summary.gone, [*map(str, summary.refused)], summary.options)
        if summary.published or summary.deleted or self._last.get(source) != left:
            line = line_of(summary, self._topic, named([source]))
            say(f"{begin}: {line}" + (f", {summary.gone} gone" if summary.gone else ""))
            for word in (*map(str, summary.refused), *summary.options.values()):
                say(f"{begin}: {word}", err=True)
        self._last[source] = left


def named(sources: Sequence[AnySource]) -> str:
    """What people call an object of these sources, all of one kind: the singular."""
    if any(isinstance(source, Crawled) for source in sources):
        return PAGE
    return "file" if any(isinstance(source, Files) for source in sources) else "object"


def line_of(summary: Summary, topic: str, what: str) -> str:
    """For people. `what`: as `named`."""
    changed, unchanged = counted(summary.changed, f"new or changed {what}"), counted(summary.unchanged, what)
    published, deleted = counted(summary.published, "document"), counted(summary.deleted, "document")
    return f"{published} of {changed} published to the topic {topic}; {unchanged} unchanged, {deleted} deleted"


def passed_over(summary: Summary) -> list[str]:
    """Lines: what was, by kind, and which options would take it; nothing where nothing was."""
    if not summary.passed_over:
        return []
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary.passed_over.most_common(KINDS_SHOWN))
    more = ", … (`--json` has them all)" if len(summary.passed_over) > KINDS_SHOWN else ""
    told = f"passed over {summary.passed_over.total()}: {kinds}{more}"
    return [told, *list(summary.options.values())[:KINDS_SHOWN]]


def row_of(summary: Summary) -> dict[str, object]:
    """For programs."""
    return {
        "published": summary.published,
        "deleted": summary.deleted,
        "gone": summary.gone,
        "objects": {"changed": summary.changed, "unchanged": summary.unchanged, "failed": summary.failed},
        "failures": [{"origin": one.origin, "reason": one.reason} for one in summary.failures],
        "passed_over": dict(summary.passed_over.most_common()),
        "options": summary.options,
        "incomplete": summary.incomplete,
        "refused": [str(one) for one in summary.refused],
        "strange": summary.strange,
    }
