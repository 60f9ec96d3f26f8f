"""`penstock search`."""

import asyncio
from contextlib import closing
from typing import Any

import click
from rich.text import Text

from agents.commands.common import console, json_option, print_json, settings_option
from agents.elastic import connect
from agents.index import Index
from agents.preflight import load_model
from agents.search import embed_query, with_model_of
from agents.search import search as search_generation
from agents.settings import Settings
from agents.terminal import in_line


@click.command()
@click.argument("text")
@click.option("-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many chunks.")
@settings_option
@json_option
def search(text: str, k: int, settings: Settings, as_json: bool) -> None:
    """Show the chunks nearest to TEXT, in the index that serves and with its model.

    \b
    Example: penstock search "run code at the same time in several processes" -k 3
    """
    if not text.strip():
        raise click.UsageError("TEXT is empty: what is to be searched for?")
    hits = asyncio.run(_search(settings, text, k))
    if as_json:
        print_json(hits)
        return
    out = console()
    for number, hit in enumerate(hits, 1):
        metadata = hit["metadata"]
        out.print(
            Text(f"{number}. {in_line(metadata.get('title') or metadata['doc_id'])}  {hit['score']:.3f}", style="bold")
        )
        out.print(
            Text(f"   {in_line(metadata.get('source') or metadata['doc_id'])} chunk {metadata['chunk']}", style="dim")
        )
        out.print(Text("   " + " ".join(hit["text"].split())[:240]))
    if not hits:
        out.print("nothing found: is the index filled? `penstock status` shows the lag")


async def _search(settings: Settings, text: str, k: int) -> list[dict[str, Any]]:
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        with closing(load_model(with_model_of(settings, generation))) as embedder:
            return await search_generation(client, settings, generation, embed_query(embedder, text), k)
