"""The indices of one alias: made with the contract, found again, compared with the worker's own contract.

<alias>                           readers search here
<alias>-<model>-000001            chunks
<alias>-<model>-000001-registry   one entry a document
<index>-write-<incarnation>       an alias on each of the two, through which workers write

The incarnation is made of both uuids and the epoch: a worker that knew an index which was deleted since can write
neither into nothing (a plain bulk would make an index with a dynamic mapping) nor into the one made anew under the same
name, and one that slept through a new epoch writes nothing at the old one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from elasticsearch import ApiError, AsyncElasticsearch, TransportError

from agents.elastic import explain
from agents.settings import Settings
from models.manifest import Manifest
from streams.contract import chunk_mappings, differences, fingerprint, registry_mappings
from streams.epochs import Epochs, from_contract
from streams.errors import PenstockError, RefusedError
from streams.plan import FieldNames
from streams.split import SplitRules

LOAD_NOTE = "penstock_load"
"""In a mapping's `_meta`, beside the contract: settings of an index in load mode when that ends."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexIdentity:
    """The chunk index and its registry as found now. `sink` changes when either is made anew or restored."""

    index: str
    registry: str
    chunk_index_uuid: str
    """The contract's own: a restored index has it, too, and its registry is about it then."""
    incarnation: str
    sink: str
    contract: dict[str, Any]

    @property
    def epochs(self) -> Epochs:
        """Which epoch a record belongs to."""
        return from_contract(self.contract["cuts"])

    @property
    def write_alias(self) -> str:
        """Where chunks are written."""
        return _write_alias(self.index, self.incarnation)

    @property
    def registry_alias(self) -> str:
        """Where registry entries are read and written."""
        return _write_alias(self.registry, self.incarnation)


def _incarnation(uuids: dict[str, str], contract: dict[str, Any]) -> str:
    return fingerprint({"uuids": uuids, "epoch": len(contract["cuts"])})[:12]


def _write_alias(index: str, incarnation: str) -> str:
    return f"{index}-write-{incarnation}"


def field_names(settings: Settings) -> FieldNames:
    """Configured names of the text and the vector field, and types of the producer's own fields."""
    es = settings.elasticsearch
    return FieldNames(text=es.text_field, vector=es.vector_field, metadata=es.metadata_fields)


def split_rules(settings: Settings, manifest: Manifest) -> SplitRules:
    """Configured splitting, within the model's limit."""
    return SplitRules(
        max_chars=settings.split.max_chars,
        overlap_chars=settings.split.overlap_chars,
        max_tokens=manifest.max_tokens,
    )


def contract_of(settings: Settings, manifest: Manifest, partitions: int) -> dict[str, Any]:
    """What these settings and this model would write. `cuts` begin empty: epoch 0."""
    names = field_names(settings)
    return {
        "format": 1,
        "model": manifest.contract(),
        "similarity": "cosine",
        "split": {
            "max_chars": settings.split.max_chars,
            "overlap_chars": settings.split.overlap_chars,
            "max_tokens": manifest.max_tokens,
        },
        "fields": {"text": names.text, "vector": names.vector}
        | ({"metadata": dict(names.metadata)} if names.metadata else {}),
        "source": {"topic": settings.source.topic, "partitions": partitions},
        "cuts": [],
    }


class Index:
    """Index administration through one client."""

    def __init__(self, client: AsyncElasticsearch, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._alias = settings.elasticsearch.alias

    async def create(self, contract: dict[str, Any], *, load: bool = False) -> tuple[str, bool]:
        """Make the first index of the alias, its registry and its aliases. Returns (name, whether it was made).

        `load`: without refreshes and replicas until a worker sees lag 0 (`agents.load_mode`).
        Idempotent: an existing one with the same contract is left as it is, half a creation is completed.
        Raises RefusedError when the alias has an index with another contract.
        """
        if (existing := await self._resolve()) is not None:
            await self._require_same(existing, contract)
            await self._call(lambda: self._open_for_writing(existing))
            return existing, False
        name = f"{self._alias}-{contract['model']['name'].lower()}-000001"
        es = self._settings.elasticsearch
        shape = {"number_of_shards": es.shards, "number_of_replicas": es.replicas}
        options = {"type": es.hnsw_type, "m": es.hnsw_m, "ef_construction": es.hnsw_ef_construction}
        mappings = chunk_mappings(
            {**contract, "id": uuid4().hex}, names=field_names(self._settings), index_options=options
        )
        wanted = {"number_of_replicas": es.replicas, "refresh_interval": es.refresh_interval}
        if load:
            mappings["_meta"][LOAD_NOTE] = wanted
            wanted = {"number_of_replicas": 0, "refresh_interval": "-1"}
            shape["number_of_replicas"] = 0
        await self._create_one(f"{name}-registry", registry_mappings(), shape, {})
        await self._create_one(name, mappings, {**shape, **wanted}, {self._alias: {}})
        await self._call(lambda: self._open_for_writing(name))
        return name, True

    async def _create_one(
        self, name: str, mappings: dict[str, Any], settings: dict[str, Any], aliases: dict[str, Any]
    ) -> None:
        async def request() -> None:
            if not await self._client.indices.exists(index=name):
                await self._client.indices.create(index=name, mappings=mappings, settings=settings, aliases=aliases)

        await self._call(request)

    async def _open_for_writing(self, name: str) -> None:
        """Point the write aliases of this very incarnation at the index and its registry, and at nothing else."""
        uuids, _ = await self._uuids_and_shards(name)
        incarnation = _incarnation(uuids, await self._contract(name))
        actions: list[dict[str, Any]] = []
        for index in (name, f"{name}-registry"):
            actions += [
                {"remove": {"index": index, "alias": f"{index}-write-*", "must_exist": False}},
                {"add": {"index": index, "alias": _write_alias(index, incarnation)}},
            ]
        await self._client.indices.update_aliases(actions=actions)

    async def _uuids_and_shards(self, name: str) -> tuple[dict[str, str], dict[str, int]]:
        """Uuids and numbers of shards of the index and its registry. Raises RefusedError without the latter."""
        registry = f"{name}-registry"
        settings = await self._client.indices.get_settings(index=f"{name},{registry}", ignore_unavailable=True)
        if registry not in settings:
            raise RefusedError(
                f"the registry {registry} is missing, and with it what may be stale: "
                f"delete the index {name} too, then `penstock index create`"
            )
        for index in (name, registry):
            if settings[index]["settings"]["index"].get("translog", {}).get("durability", "request") != "request":
                raise RefusedError(f"index.translog.durability of {index} must be `request`: set it back")
        stored = {index: settings[index]["settings"]["index"] for index in (name, registry)}
        return (
            {index: str(values["uuid"]) for index, values in stored.items()},
            {index: int(values["number_of_shards"]) for index, values in stored.items()},
        )

    async def identify(self, contract: dict[str, Any]) -> IndexIdentity:
        """The index that a worker with this contract writes into.

        Raises PenstockError when there is none, RefusedError when its contract differs: the message names the
        fields and the command that resolves it.
        """
        name = await self._resolve()
        if name is None:
            raise PenstockError(
                f"there is no index behind the alias {self._alias}: create it with `penstock index create`"
            )
        stored = await self._require_same(name, contract)
        return await self._call(lambda: self._identity(name, stored))

    async def _identity(self, name: str, stored: dict[str, Any]) -> IndexIdentity:
        registry = f"{name}-registry"
        uuids, counts = await self._uuids_and_shards(name)
        incarnation = _incarnation(uuids, stored)
        for index in (name, registry):
            if not await self._client.indices.exists_alias(index=index, name=_write_alias(index, incarnation)):
                raise RefusedError(
                    f"{index} is not open for writing: it was restored, or half made; `penstock index create` opens it"
                )
        stats = await self._client.indices.stats(index=f"{name},{registry}", level="shards", metric="docs")
        histories = []
        for index in (name, registry):
            shards = stats["indices"].get(index, {}).get("shards", {})
            started = {
                shard: copy["commit"]["user_data"]["history_uuid"]
                for shard, copies in shards.items()
                for copy in copies
                if copy["routing"]["primary"] and "commit" in copy
            }
            if len(started) != counts[index]:
                raise PenstockError(f"{len(started)} of {counts[index]} shards of {index} are started: try again later")
            histories += [f"{index}/{shard}/{history}" for shard, history in sorted(started.items())]
        return IndexIdentity(
            index=name,
            registry=registry,
            chunk_index_uuid=stored.get("id", uuids[name]),
            incarnation=incarnation,
            sink=fingerprint({"uuids": uuids, "histories": histories, "contract": fingerprint(stored)}),
            contract=stored,
        )

    async def rows(self) -> list[dict[str, Any]]:
        """Every Penstock index whose name belongs to the alias, with its size and whether readers see it."""

        async def request() -> list[dict[str, Any]]:
            found = await self._client.indices.get(index=f"{self._alias}-*", expand_wildcards="open")
            rows = []
            for name, body in sorted(found.items()):
                contract = body["mappings"].get("_meta", {}).get("penstock")
                if contract is None:
                    continue
                rows.append(
                    {
                        "index": name,
                        "serving": self._alias in body["aliases"],
                        "model": contract["model"]["name"],
                        "dims": contract["model"]["dims"],
                        **await self._counts(name, f"{name}-registry"),
                        "contract": fingerprint(contract),
                    }
                )
            return rows

        return await self._call(request)

    async def _counts(self, name: str, registry: str) -> dict[str, int]:
        alive = {"bool": {"must_not": {"term": {"penstock.stub": True}}}}
        documents = {"bool": {"filter": [{"term": {"state": "done"}}, {"range": {"n": {"gt": 0}}}]}}
        await self._client.indices.refresh(index=f"{name},{registry}", ignore_unavailable=True)
        chunks = await self._client.count(index=name, query=alive)
        entries = await self._client.count(index=registry, query=documents, ignore_unavailable=True)
        return {"documents": entries["count"], "chunks": chunks["count"]}

    async def stored_contract(self) -> tuple[str, dict[str, Any]] | None:
        """Name and contract of the index behind the alias; None without one."""
        name = await self._resolve()
        return None if name is None else (name, await self._contract(name))

    async def set_epochs(self, name: str, cuts: list[dict[str, Any]], partitions: int) -> None:
        """Write the cuts, and the number of partitions that they lead to, into the contract.

        Then the write aliases: whoever knows the old cuts only can write no more.
        """

        async def request() -> None:
            mapping = await self._client.indices.get_mapping(index=name)
            meta = mapping[name]["mappings"]["_meta"]
            source = {**meta["penstock"]["source"], "partitions": partitions}
            contract = {**meta["penstock"], "cuts": cuts, "source": source}
            await self._client.indices.put_mapping(index=name, meta={**meta, "penstock": contract})
            await self._open_for_writing(name)

        await self._call(request)

    async def search(self, vector: list[float], k: int) -> list[dict[str, Any]]:
        """The k nearest chunks: `{score, id, text, metadata, penstock}`, best first."""
        names = field_names(self._settings)

        async def request() -> list[dict[str, Any]]:
            answer = await self._client.search(
                index=self._alias,
                knn={
                    "field": names.vector,
                    "query_vector": vector,
                    "k": k,
                    "num_candidates": max(100, 10 * k),
                },
                source_excludes=[names.vector],
                size=k,
            )
            return [
                {
                    "score": hit["_score"],
                    "id": hit["_id"],
                    "text": hit["_source"][names.text],
                    "metadata": hit["_source"]["metadata"],
                    "penstock": hit["_source"]["penstock"],
                }
                for hit in answer["hits"]["hits"]
            ]

        return await self._call(request)

    async def _resolve(self) -> str | None:
        """Name of the one index behind the alias, None without."""

        async def request() -> str | None:
            if not await self._client.indices.exists_alias(name=self._alias):
                if await self._client.indices.exists(index=self._alias):
                    raise RefusedError(
                        f"{self._alias} is an index, not an alias: choose another elasticsearch.alias, or delete it"
                    )
                return None
            names = list(await self._client.indices.get_alias(name=self._alias))
            if len(names) != 1:
                raise RefusedError(f"the alias {self._alias} has {len(names)} indices: {', '.join(sorted(names))}")
            return str(names[0])

        return await self._call(request)

    async def _contract(self, name: str) -> dict[str, Any]:
        async def request() -> dict[str, Any]:
            mapping = await self._client.indices.get_mapping(index=name)
            body: dict[str, Any] = mapping[name]["mappings"]
            contract: dict[str, Any] | None = body.get("_meta", {}).get("penstock")
            if contract is None:
                raise RefusedError(f"{name} was not made by Penstock: choose another elasticsearch.alias")
            vector = body["properties"].get(contract["fields"]["vector"], {})
            model = {**contract["model"], "dims": vector.get("dims")}  # as the mapping has it, whatever _meta says
            return {**contract, "model": model, "similarity": vector.get("similarity")}

        return await self._call(request)

    async def _require_same(self, name: str, contract: dict[str, Any]) -> dict[str, Any]:
        stored = await self._contract(name)
        rows = differences(stored, contract)
        if rows and all(row.startswith("source.partitions") for row in rows):
            raise RefusedError(
                f"{contract['source']['topic']} has {contract['source']['partitions']} partitions, {name} was made for "
                f"{stored['source']['partitions']}: keys have moved, and offsets no longer compare. Stop the workers, "
                "then begin a new epoch with `penstock index epoch bump --why …`"
            )
        if rows:
            raise RefusedError(
                f"the index {name} has another contract:\n"
                + "\n".join(f"  {row}" for row in rows)
                + "\nuse the settings and the model that it was made with; or fill a new one: choose another "
                "elasticsearch.alias and source.group, then `penstock index create`"
            )
        return stored

    async def _call(self, request: Callable[[], Awaitable[T]]) -> T:
        try:
            return await request()
        except (ApiError, TransportError) as exc:
            raise PenstockError(explain(exc, self._settings.elasticsearch.url)) from exc
