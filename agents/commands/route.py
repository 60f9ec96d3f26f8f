"""`penstock route plan`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.commands.common import Number, json_option, settings_option
from agents.commands.lazy import Group

if TYPE_CHECKING:
    from agents.settings import Settings

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(cls=Group)
def route() -> None:
    """Find out which documents a faster model is good enough for.

    \b
    Example: penstock route plan --model small
    """


@route.command()
@click.option("--model", required=True, metavar="NAME", help="The fast one; the robust one is model.name.")
@click.option(
    "--sample", "documents", type=click.IntRange(20, 1_000_000), default=1000, show_default=True, help="Documents."
)
@click.option("--queries", type=FILE, help="Questions, one a line, or with ids: `id<TAB>text`, or BEIR's JSON lines.")
@click.option("--qrels", type=FILE, help="Which documents answer them: TREC's or BEIR's form.")
@click.option(
    "--max-loss",
    type=Number(0, 100),
    default=1.0,
    show_default=True,
    help="Percent of the robust model's nDCG@10 that may be lost.",
)
@click.option(
    "--rescore",
    type=click.IntRange(0, 1000),
    default=20,
    show_default=True,
    help="Try `search --rescore N`, too; 0: do not.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="A picture of it: FILE.svg or FILE.png.")
@settings_option
@json_option
def plan(
    model: str,
    documents: int,
    queries: Path | None,
    qrels: Path | None,
    max_loss: float,
    rescore: int,
    plot: Path | None,
    settings: "Settings",
    as_json: bool,
) -> None:
    """Measure on documents of the topic what a second, faster model saves, and what it does to ranking.

    Documents of the topic are embedded by both models, as if there were no routes yet. For each threshold of length,
    with the short documents or the long ones on the fast model, it tells tokens, seconds, money where both models have
    a price (`[cost.models.NAME]`), and nDCG@10 as a search over both finds them; and the `[[route]]` to paste for the
    cheapest that loses no more than --max-loss, at the lower end of its interval. Changes nothing.

    With --qrels the ranking is held against your judgements; without, against what the robust model finds by itself,
    for --queries, or for the documents' own titles.

    \b
    Example: penstock route plan --model small --sample 2000
    Example: penstock route plan --model small --queries queries.jsonl --qrels test.tsv --plot plan.svg
    """
    if qrels is not None and queries is None:
        raise click.UsageError("--qrels judges questions by their ids, so it needs them: give --queries, too")
    from agents.commands.run.route_plan import Options
    from agents.commands.run.route_plan import plan as run

    run(
        settings,
        Options(
            model=model,
            documents=documents,
            queries=queries,
            qrels=qrels,
            most_lost=max_loss / 100,
            rescore=rescore,
            plot=plot,
        ),
        as_json=as_json,
    )
