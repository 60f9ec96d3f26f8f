"""`penstock search`."""

from contextlib import closing
from typing import Any

from rich.text import Text

from agents.commands.run.output import console, place_in_text, print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.preflight import load_model
from agents.operations.search import (
    embed_query,
    require_document_vectors,
    search_documents,
    vector_of_document,
    with_model_of,
)
from agents.operations.search import search as search_generation
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import in_short

NAME = 200
"""Characters of a title or id that are shown."""


def search(settings: Settings, text: str | None, k: int, *, documents: bool, like: str | None, as_json: bool) -> None:
    """The hits, best first. One of `text` and `like`, the id of a document, is there."""
    hits = finish(_search(settings, text or "", k, documents) if like is None else _search_like(settings, like, k))
    documents = documents or like is not None
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
        out.print(Text(f"   {source} {place}", style="dim"))
        out.print(Text("   " + " ".join(hit["text"].split())[:240]))
    if not hits:
        out.print("nothing found: is the index filled? `penstock status` shows the lag")


async def _search(settings: Settings, text: str, k: int, documents: bool) -> list[dict[str, Any]]:
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        if documents:
            require_document_vectors(generation)
        nearest = search_documents if documents else search_generation
        with closing(load_model(with_model_of(settings, generation))) as embedder:
            return await nearest(client, settings, generation, embed_query(embedder, text), k)


async def _search_like(settings: Settings, doc_id: str, k: int) -> list[dict[str, Any]]:
    """Needs no model."""
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        vector = await vector_of_document(client, settings, generation, doc_id)
        return await search_documents(client, settings, generation, vector, k, but=doc_id)
