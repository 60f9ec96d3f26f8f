"""Whether a search finds a document as the registry has it: what was written, and refreshed since."""

from typing import Any

from elasticsearch import AsyncElasticsearch

from agents.elastic.errors import translated
from agents.elastic.incarnation import IndexIdentity
from agents.settings.sections import ElasticsearchSettings
from streams.epochs import epoch_of_version, offset_of_version
from streams.ids import entry_id
from streams.registry import Entry, from_source


class Sight:
    """Of one index, through one client. Raises PenstockError where Elasticsearch cannot be asked, or refuses."""

    def __init__(self, client: AsyncElasticsearch, settings: ElasticsearchSettings, identity: IndexIdentity) -> None:
        self._client = client
        self._url = settings.url
        self._identity = identity

    async def entry(self, doc_id: str) -> Entry | None:
        """As it is now; None without one, or where it is about another index."""
        with translated(self._url):
            found = await self._client.options(ignore_status=404).get(
                index=self._identity.registry, id=entry_id(doc_id)
            )
        if not found.body.get("found"):
            return None
        entry = from_source(found.body["_source"])
        return entry if entry.chunk_index_uuid == self._identity.chunk_index_uuid else None

    async def shows(self, entry: Entry) -> bool:
        """Whether searches find all chunks of a document that is done, and none of an older version."""
        alive: dict[str, Any] = {
            "bool": {
                "filter": [{"term": {"metadata.doc_id": entry.doc_id}}],
                "must_not": [{"term": {"penstock.stub": True}}],
            }
        }
        made = entry.version if entry.content_version is None else entry.content_version
        own = [
            {"term": {"penstock.epoch": epoch_of_version(made)}},
            {"term": {"penstock.offset": offset_of_version(made)}},
        ]
        with translated(self._url):
            found = await self._client.search(
                index=self._identity.index,
                size=0,
                track_total_hits=True,
                query=alive,
                aggs={"own": {"filter": {"bool": {"filter": own}}}},
            )
        return bool(found["hits"]["total"]["value"] == entry.n == found["aggregations"]["own"]["doc_count"])
