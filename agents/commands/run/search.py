"""`penstock search`."""

from contextlib import closing
from functools import partial

from rich.text import Text

from agents.commands.run.output import console, place_in_text, print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.operations.duplicates import search_distinct
from agents.operations.search import (
    Hit,
    QueryModels,
    require_document_vectors,
    search_documents,
    vector_of_document,
)
from agents.operations.search import search as search_generation
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import in_short

NAME = 200
"""Characters of a title or id that are shown."""
EXCERPT = 240
"""Characters of a chunk."""


def search(
    settings: Settings,
    text: str | None,
    k: int,
    *,
    documents: bool,
    like: str | None,
    distinct: bool,
    as_json: bool,
) -> None:
    """The hits, best first. One of `text` and `like`, the id of a document, is there. `distinct`: of documents that are
    nearly the same the best one only."""
    documents = documents or like is not None
    hits = finish(_search(settings, text or "", k, documents=documents, like=like, distinct=distinct))
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
        place = f"chunk {metadata.get('chunk', '?')}{place_in_text(metadata)}"
        if documents:
            place = f"{in_short(hit['id'], NAME)}, {metadata.get('chunks', '?')} chunks"
        out.print(Text(f"   {source} {place}{_flags(hit)}", style="dim"))
        out.print(Text("   " + in_short(" ".join(hit["text"].split()), EXCERPT)))
    if not hits:
        out.print("nothing found: is the index filled? `penstock status` shows the lag")


def _flags(hit: Hit) -> str:
    """After a comma; nothing where nothing is wrong."""
    flags = hit["penstock"].get("flags")
    return f", {in_short(', '.join(map(str, flags)), NAME)}" if isinstance(flags, list) else ""


async def _search(
    settings: Settings, text: str, k: int, *, documents: bool, like: str | None, distinct: bool
) -> list[Hit]:
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        if documents:
            require_document_vectors(generation)
        if like is None:
            with closing(QueryModels(settings)) as models:
                question = await models.question(generation, text)
        else:  # needs no model
            question = await vector_of_document(client, settings, generation, like)
        asked = partial(search_documents, but=like) if documents else search_generation
        ask = partial(asked, client, settings, generation, question)
        return await search_distinct(client, settings, generation, ask, k) if distinct else await ask(k)
