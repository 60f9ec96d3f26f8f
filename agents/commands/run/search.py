"""`penstock search`."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial

from rich.text import Text

from agents.commands.run.output import console, place_in_text, print_json
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.operations.duplicates import search_distinct
from agents.operations.rescore import Hit
from agents.operations.search import (
    Ask,
    QueryModels,
    require_document_vectors,
    search_documents,
    search_rescored,
    vector_of_document,
)
from agents.operations.search import search as search_generation
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import counted, in_short

NAME = 200
"""Characters of a title or id that are shown."""
EXCERPT = 240
"""Characters of a chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`text`, or `like`, the id of a document. `distinct`: of documents that are nearly the same the best one only.
    `rescore`: chunks of other models that the default one embeds."""

    text: str
    k: int
    documents: bool
    like: str | None
    distinct: bool
    rescore: int | None


def search(settings: Settings, wanted: Wanted, *, as_json: bool) -> None:
    """The hits, best first."""
    hits = finish(_search(settings, wanted))
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
        if wanted.documents:
            name = in_short(hit["id"], NAME)
            place = f"{'' if name == source else f'{name}, '}{counted(metadata.get('chunks', 0), 'chunk')}"
        out.print(Text(f"   {source} {place}{_flags(hit)}", style="dim"))
        out.print(Text("   " + in_short(" ".join(hit["text"].split()), EXCERPT)))
    if not hits:
        out.print("nothing found: is the index filled? `penstock status` shows the lag")


def _flags(hit: Hit) -> str:
    """After a comma; nothing where nothing is wrong."""
    flags = hit["penstock"].get("flags")
    return f", {in_short(', '.join(map(str, flags)), NAME)}" if isinstance(flags, list) else ""


async def _search(settings: Settings, wanted: Wanted) -> list[Hit]:
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        if wanted.documents:
            require_document_vectors(generation)
        with closing(QueryModels(settings)) as models:
            if wanted.like is None:
                question = await models.question(generation, wanted.text)
            else:  # needs no model
                question = await vector_of_document(client, settings, generation, wanted.like)
            if wanted.documents:
                ask: Ask = partial(search_documents, client, settings, generation, question, but=wanted.like)
            elif wanted.rescore:
                rescorer = models.rescorer(generation, question, wanted.rescore)
                ask = partial(search_rescored, client, settings, generation, question, rescorer)
            else:
                ask = partial(search_generation, client, settings, generation, question)
            if wanted.distinct:
                return await search_distinct(client, settings, generation, ask, wanted.k)
            return await ask(wanted.k)
