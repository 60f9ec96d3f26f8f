"""`penstock route plan`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from agents.commands.common import say
from agents.commands.run.output import console, print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.commands.run.route_plot import prepare
from agents.operations.route_plan import Planned, Wanted, plan_routes
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import counted
from streams.errors import ConfigError
from streams.judgements import read_qrels, read_queries
from streams.relevance import Estimate
from streams.route_plan import LEAST_QUESTIONS, LEAST_SAVED, Point, Ranking, recommended


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As on the command line. `most_lost`: a part."""

    model: str
    documents: int
    queries: Path | None
    qrels: Path | None
    most_lost: float
    rescore: int
    plot: Path | None


def plan(settings: Settings, options: Options, *, as_json: bool) -> None:
    """A table, cheapest first, the routes to paste, and a picture where one is asked for."""
    draw = prepare(options.plot) if options.plot else None
    wanted = Wanted(
        documents=options.documents,
        model=options.model,
        queries=read_queries(_lines(options.queries), options.queries.name) if options.queries else None,
        judged=read_qrels(_lines(options.qrels), options.qrels.name) if options.qrels else None,
        rescore=options.rescore,
    )
    with progress_bar(transient=True) as bar:
        found = finish(plan_routes(settings, wanted, reporter(bar)))
    chosen = [recommended(found.points, options.most_lost, questions=found.questions)]
    if found.rescore:
        chosen.append(recommended(found.points, options.most_lost, questions=found.questions, rescored=True))
    if as_json:
        print_json(_data(found, chosen))
    else:
        _tell(found, chosen, options.most_lost)
    if draw:  # last: what was measured is not lost where there is no room for it
        draw(found, chosen)
        say(f"\nplotted in {options.plot}", err=as_json)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 ({exc.reason} at byte {exc.start}): convert it") from exc


def route_of(found: Planned, chosen: Point) -> str:
    """What to write into the settings."""
    if chosen.cut.condition is None:
        name = found.fast if chosen.cut.kind == "fast" else found.robust
        return f'[model]\nname = "{name}"'
    return f'[[route]]\nname = "{chosen.cut.kind}"\nmodel = "{found.fast}"\n{chosen.cut.condition}'


def _tell(found: Planned, chosen: Sequence[Point], most_lost: float) -> None:
    out = console()
    out.print(_table(found, chosen))
    against = "your judgements" if found.judged else f"the first 10 that {found.robust} finds"
    out.print(
        Text(
            f"\n{counted(found.documents, 'document')} of the topic {found.topic}, "
            f"{counted(found.questions, 'question')} held against {against}; intervals are of 95 %. Thresholds that "
            "others beat in cost and ranking are in --json. "
            f"Cost: 1 is {found.robust} alone, by {'money' if found.priced else 'lane seconds'}."
        )
    )
    for count, what_of in (
        (found.left_out, "of the records read are deletions, empty or dead letters, and were left out"),
        (found.refused, "of the documents would be dead letters with one of the models: nothing finds them here"),
        (found.unanswered, "of the questions were left out: no document of the sample is relevant to them"),
    ):
        if count:
            out.print(Text(f"{count} {what_of}."))
    out.print(Text(f"\n{verdict(found, chosen[0], chosen[0].plain, most_lost)}\n"))
    say(route_of(found, chosen[0]))
    if len(chosen) > 1 and (ranking := chosen[1].rescored) and chosen[1] != chosen[0]:
        out.print(Text(f"\nWith `penstock search --rescore {found.rescore}`: {_paid(found, chosen[1])}"))
        out.print(Text(f"{verdict(found, chosen[1], ranking, most_lost)}\n"))
        say(route_of(found, chosen[1]))


def _paid(found: Planned, chosen: Point) -> str:
    """What a search takes that rescores, in relation to what is saved."""
    told = f"each search embeds {found.rescore} chunks more, some {found.rescore_tokens:,} tokens"
    if (searches := searches_paid(found, chosen)) is None:
        return f"{told}."
    return f"{told}; what {found.documents:,} documents save pays for {searches:,} of them."


def searches_paid(found: Planned, chosen: Point) -> int | None:
    """How many searches that rescore cost as much as these documents save; None where they cost nothing."""
    whole = next(point for point in found.points if point.cut.kind == "robust")
    saved, each = (
        (whole.money - chosen.money, found.rescore_money)
        if found.priced
        else (sum(whole.seconds) - sum(chosen.seconds), found.rescore_s)
    )
    return int(saved / each) if each else None


def _table(found: Planned, chosen: Sequence[Point]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column(f"to {found.fast}")
    what = ["documents", "tokens", "seconds", *(["money"] if found.priced else []), "cost", "nDCG@10", "change"]
    for heading in (*what, *([f"--rescore {found.rescore}"] if found.rescore else [])):
        table.add_column(heading, justify="right")
    for point in found.points:
        if point.best or point in chosen or point.cut.kind in ("robust", "fast"):
            mark, style = ("→", "bold") if point in chosen else ("", None)
            table.add_row(mark, *_row(point, priced=found.priced), style=style)
    return table


def verdict(found: Planned, chosen: Point, ranking: Ranking, most_lost: float) -> str:
    """One sentence."""
    change = f"{_signed(ranking.change)} of nDCG@10"
    if found.questions < LEAST_QUESTIONS:
        return (
            f"Fewer than {LEAST_QUESTIONS} questions tell too little, whatever the intervals say: stay with "
            f"{found.robust} alone, or ask more."
        )
    if chosen.cut.kind == "robust":
        return (
            f"Of no threshold that saves {LEAST_SAVED:.0%} it is sure that {most_lost:.1%} at most of nDCG@10 is lost: "
            f"stay with {found.robust} alone, or ask more questions, which makes the intervals narrower."
        )
    if chosen.cut.kind == "fast":
        return f"{found.fast} alone is good enough: {1 - chosen.cost:.0%} less cost, {change}."
    return f"{1 - chosen.cost:.0%} less cost, {change}: paste this, and `penstock index rebuild`."


def _row(point: Point, *, priced: bool) -> list[str]:
    where = {
        "robust": "nothing",
        "fast": "everything",
        "short": f"up to {point.cut.chars:,} characters",
        "long": f"{point.cut.chars:,} characters and more",
    }[point.cut.kind]
    return [
        where,
        f"{point.share:.0%}",
        f"{sum(point.tokens):,}",
        f"{sum(point.seconds):,.1f}",
        *([f"{point.money:,.4f}"] if priced else []),
        f"{point.cost:.3f}",
        f"{point.plain.quality.mean:.4f}",
        _signed(point.plain.change),
        *([_signed(point.rescored.change)] if point.rescored else []),
    ]


def _signed(change: Estimate) -> str:
    return f"{change.mean:+z.1%} ({100 * change.low:+z.1f}…{100 * change.high:+z.1f})"


def _data(found: Planned, chosen: Sequence[Point]) -> dict[str, Any]:
    data = asdict(found)
    data["points"] = [_point(point) for point in found.points]
    data["recommended"] = {**_point(chosen[0]), "settings": route_of(found, chosen[0])}
    for point in chosen[1:]:
        paid = {"settings": route_of(found, point), "searches_paid": searches_paid(found, point)}
        data["recommended_rescored"] = {**_point(point), **paid}
    return data


def _point(point: Point) -> dict[str, Any]:
    data = asdict(point)
    cut, tokens, seconds = data.pop("cut"), data.pop("tokens"), data.pop("seconds")
    return {
        **cut,
        "condition": point.cut.condition,
        **data,
        "tokens": {"robust": tokens[0], "fast": tokens[1]},
        "seconds": {"robust": seconds[0], "fast": seconds[1]},
    }
