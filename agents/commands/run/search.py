"""`penstock search`."""

from contextlib import closing
from typing import Any

from rich.text import Text

from agents.commands.run.output import console, place_in_text, print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.embedders import load_model
from agents.operations.search import embed_query, with_model_of
from agents.operations.search import search as search_generation
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import in_short

NAME = 200
"""Characters of a title or id that are shown."""


def search(settings: Settings, text: str, k: int, *, as_json: bool) -> None:
    """The hits, best first."""
    hits = finish(_search(settings, text, k))
    if as_json:
        print_json(hits)
        return
    out = console()
    for number, hit in enumerate(hits, 1):
        metadata = hit["metadata"]
        title, source = (
            in_short(metadata.get(name) or metadata.get("doc_id") or hit["id"], NAME) for name in ("title", "source")
        )
        out.print(Text(f"{number}. {title}  {hit['score']:.3f}", style="bold"))
        out.print(Text(f"   {source} chunk {metadata.get('chunk', '?')}{place_in_text(metadata)}", style="dim"))
        out.print(Text("   " + " ".join(hit["text"].split())[:240]))
    if not hits:
        out.print("nothing found: is the index filled? `penstock status` shows the lag")


async def _search(settings: Settings, text: str, k: int) -> list[dict[str, Any]]:
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        with closing(load_model(with_model_of(settings, generation))) as embedder:
            return await search_generation(client, settings, generation, await embed_query(embedder, text), k)
