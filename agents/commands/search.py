"""`penstock search`."""

from typing import TYPE_CHECKING

import click

from agents.commands.common import json_option, settings_option

if TYPE_CHECKING:
    from agents.settings import Settings


@click.command()
@click.argument("text", required=False)
@click.option("-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many chunks, or documents.")
@click.option("--documents", is_flag=True, help="Whole documents, by their own vectors (split.document_vector).")
@click.option("--like", metavar="ID", help="More documents like this one, instead of TEXT.")
@click.option("--distinct", is_flag=True, help="Of documents that are nearly the same, the best hit only.")
@click.option(
    "--rescore",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="In an index with routes: the default model embeds the N best chunks of the others, and ranks alone.",
)
@settings_option
@json_option
def search(
    text: str | None,
    k: int,
    documents: bool,
    like: str | None,
    distinct: bool,
    rescore: int | None,
    settings: "Settings",
    as_json: bool,
) -> None:
    """Show the chunks nearest to TEXT, in the index that serves and with its model.

    With --documents, or --like and the id of a document, the nearest documents, each once. That needs an index whose
    documents have vectors of their own: `split.document_vector = "mean"`.

    In an index with routes, hits of several models are merged by their ranks. With --rescore they are ranked by the
    default model's scores alone: of the others' chunks the N best, which it embeds for that.

    \b
    Example: penstock search "run code at the same time in several processes" -k 3
    Example: penstock search "holiday policy" --distinct
    Example: penstock search --documents "concurrency"
    Example: penstock search --like library/asyncio.rst
    Example: penstock search "rotate log files" --rescore 20
    """
    if like is not None and text is not None:
        raise click.UsageError("--like ID is searched for instead of TEXT: leave one of them out")
    if not (text or "").strip() and not like:
        raise click.UsageError("TEXT is empty: what is to be searched for? (or --like ID)")
    if rescore is not None and (documents or like is not None):
        raise click.UsageError("--rescore embeds the texts of chunks, and whole documents have none: leave it out")
    from agents.commands.run.search import Wanted
    from agents.commands.run.search import search as run

    run(
        settings,
        Wanted(
            text=text or "", k=k, documents=documents or like is not None, like=like, distinct=distinct, rescore=rescore
        ),
        as_json=as_json,
    )
