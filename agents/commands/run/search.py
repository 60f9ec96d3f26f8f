"""`penstock search`."""

from contextlib import closing

from rich.text import Text

from agents.commands.run.output import console, place_in_text, print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.preflight import load_model
from agents.operations.duplicates import search_distinct
from agents.operations.search import Hit, embed_query, with_model_of
from agents.operations.search import search as search_generation
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import in_short

NAME = 200
"""Characters of a title or id that are shown."""
EXCERPT = 240
"""Characters of a chunk."""


def search(settings: Settings, text: str, k: int, *, distinct: bool, as_json: bool) -> None:
    """The hits, best first. `distinct`: of documents that are nearly the same the best one only."""
    hits = finish(_search(settings, text, k, distinct=distinct))
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
        place = place_in_text(metadata) + _flags(hit)
        out.print(Text(f"   {source} chunk {metadata.get('chunk', '?')}{place}", style="dim"))
        out.print(Text("   " + in_short(" ".join(hit["text"].split()), EXCERPT)))
    if not hits:
        out.print("nothing found: is the index filled? `penstock status` shows the lag")


def _flags(hit: Hit) -> str:
    """After a comma; nothing where nothing is wrong."""
    flags = hit["penstock"].get("flags")
    return f", {in_short(', '.join(map(str, flags)), NAME)}" if isinstance(flags, list) else ""


async def _search(settings: Settings, text: str, k: int, *, distinct: bool) -> list[Hit]:
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        with closing(load_model(with_model_of(settings, generation))) as embedder:
            ask = search_distinct if distinct else search_generation
            return await ask(client, settings, generation, embed_query(embedder, text), k)
