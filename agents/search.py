"""Search the index with the model that it was filled with."""

from typing import Any

from agents.elastic import connect
from agents.index import Index
from agents.settings import Settings
from models.embedder import Embedder
from streams.contract import differences
from streams.errors import ConfigError, PenstockError, RefusedError


async def search_index(settings: Settings, embedder: Embedder, text: str, k: int) -> list[dict[str, Any]]:
    """The k chunks nearest to the text, best first. Raises RefusedError when the index has another model's vectors."""
    try:
        vector = embedder.embed_query(text)
    except ValueError as exc:
        raise ConfigError(f"the search text is too long: {exc}") from exc
    async with connect(settings.elasticsearch) as client:
        index = Index(client, settings)
        stored = await index.stored_contract()
        if stored is None:
            raise PenstockError(
                f"there is no index behind the alias {settings.elasticsearch.alias}: `penstock index create`"
            )
        name, contract = stored
        rows = differences({"model": contract["model"]}, {"model": embedder.manifest.contract()})
        if rows:
            raise RefusedError(f"the index {name} was filled with another model: {'; '.join(rows)}; set model.name")
        return await index.search(vector, k)
