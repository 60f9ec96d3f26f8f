"""What an index is, beyond its name: the incarnation that workers write to, and the sink that claims are about.

The incarnation is made of both uuids and the epoch: a worker that knew an index which was deleted since can write
neither into nothing (a plain bulk would make an index with a dynamic mapping) nor into the one made anew under the same
name, and one that slept through a new epoch writes nothing at the old one. A restored shard changes the sink, too.
"""

from dataclasses import dataclass
from typing import Any

from elasticsearch import AsyncElasticsearch

from agents.configured import contract_in
from agents.elastic.errors import index_gone
from streams.contract import fingerprint
from streams.dead_letter import Home
from streams.epochs import Epochs, from_contract
from streams.errors import AwayError, RefusedError

CREATE = "`penstock index create`"
"""Gives an index the registry, or the write aliases, that it lacks."""
PIPELINES = ("default_pipeline", "final_pipeline")
NO_PIPELINE = "_none"
"""What an ingest pipeline drops or changes on its way is neither what was written nor refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexIdentity:
    """The chunk index and its registry as found now. `sink` changes when either is made anew or restored."""

    index: str
    registry: str
    chunk_index_uuid: str
    """The contract's own: a restored index has it, too, and its registry is about it then."""
    incarnation: str
    sink: str
    shards: tuple[str, str]
    """Of the chunk index, and of its registry: changes when a shard of it is restored, or loses its history."""
    contract: dict[str, Any]

    @property
    def epochs(self) -> Epochs:
        """Which epoch a record belongs to."""
        return from_contract(self.contract["cuts"])

    def home(self, group: str) -> Home:
        """What its dead letters are about."""
        log = self.contract["source"].get("log") or ""
        return Home(group=group, index=self.chunk_index_uuid, log=log, epochs=self.epochs)

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


async def open_for_writing(client: AsyncElasticsearch, name: str) -> None:
    """Point the write aliases of this very incarnation at the index and its registry, and at nothing else."""
    uuids, _ = await _uuids_and_shards(client, name)
    mapping = await client.indices.get_mapping(index=name)
    incarnation = _incarnation(uuids, contract_in(mapping[name]["mappings"]) or {})
    actions: list[dict[str, Any]] = []
    for index in (name, f"{name}-registry"):
        actions += [
            {"remove": {"index": index, "alias": f"{index}-write-*", "must_exist": False}},
            {"add": {"index": index, "alias": _write_alias(index, incarnation)}},
        ]
    await client.indices.update_aliases(actions=actions)


async def _uuids_and_shards(
    client: AsyncElasticsearch, name: str, way: str = CREATE
) -> tuple[dict[str, str], dict[str, int]]:
    """Uuids and numbers of shards of the index and its registry. `way`: the command that makes one that is missing.

    Raises RefusedError without one of them, and where a setting of one endangers what is written.
    """
    registry = f"{name}-registry"
    settings = await client.indices.get_settings(index=f"{name},{registry}", ignore_unavailable=True)
    if name not in settings:  # since it was found
        raise index_gone(name)
    if registry not in settings:
        raise RefusedError(
            f"the registry {registry} is missing, and with it what may be stale: {way} makes it anew, empty, with the "
            "source.group of its workers; they fill it from the topic, then `penstock index verify --repair` from the "
            "chunks. Where `penstock index list` shows another index that is up to date, `penstock index promote "
            "--unchecked` gives it to readers first"
        )
    for index in (name, registry):
        if settings[index]["settings"]["index"].get("translog", {}).get("durability", "request") != "request":
            raise RefusedError(f"index.translog.durability of {index} must be `request`: set it back")
        for kind in PIPELINES:
            pipeline = settings[index]["settings"]["index"].get(kind, NO_PIPELINE)
            if pipeline != NO_PIPELINE:
                raise RefusedError(
                    f"index.{kind} of {index} is `{pipeline}`, which may drop or change what is written: set it back "
                    f'to `{NO_PIPELINE}` (`PUT {index}/_settings {{"index.{kind}": "{NO_PIPELINE}"}}`), and change '
                    "documents before they are published"
                )
    stored = {index: settings[index]["settings"]["index"] for index in (name, registry)}
    return (
        {index: str(values["uuid"]) for index, values in stored.items()},
        {index: int(values["number_of_shards"]) for index, values in stored.items()},
    )


async def _require_open(client: AsyncElasticsearch, aliases: dict[str, str], way: str) -> None:
    """Raises RefusedError where one of the two lacks its write alias, or shares it: nothing can be written then."""
    found = await client.options(ignore_status=404).indices.get_alias(name=",".join(aliases.values()))
    holders = {name: body["aliases"].keys() for name, body in found.body.items() if isinstance(body, dict)}
    for index, alias in aliases.items():
        if alias not in holders.get(index, ()):
            raise RefusedError(f"{index} is not open for writing: it was restored, or half made; {way} opens it")
        others = ", ".join(sorted(name for name, held in holders.items() if alias in held and name != index))
        if others:
            raise RefusedError(
                f"{others} has the write alias of {index}, too, as a copy has that was restored with its aliases, and "
                f"so nothing can be written: take it away there (`DELETE /{others}/_alias/{alias}`), or, if it is a "
                "copy, delete it"
            )


async def look(
    client: AsyncElasticsearch, name: str, stored: dict[str, Any], *, way: str, opened: bool = True
) -> IndexIdentity:
    """An index with this contract as it is now; `opened`: it must be open for writing, `way`: by which command it is.

    Raises RefusedError when it is not whole, AwayError while a shard is not started, and what the client raises.
    """
    registry = f"{name}-registry"
    uuids, counts = await _uuids_and_shards(client, name, way)
    incarnation = _incarnation(uuids, stored)
    if opened:
        await _require_open(client, {index: _write_alias(index, incarnation) for index in (name, registry)}, way)
    stats = await client.indices.stats(index=f"{name},{registry}", level="shards", metric="docs")
    histories: dict[str, list[str]] = {}
    for index in (name, registry):
        shards = stats["indices"].get(index, {}).get("shards", {})
        started = {
            shard: copy["commit"]["user_data"]["history_uuid"]
            for shard, copies in shards.items()
            for copy in copies
            if copy["routing"]["primary"] and "commit" in copy
        }
        if len(started) != counts[index]:
            raise AwayError(f"{len(started)} of {counts[index]} shards of {index} are started: try again later")
        histories[index] = [f"{index}/{shard}/{history}" for shard, history in sorted(started.items())]
    return IndexIdentity(
        index=name,
        registry=registry,
        chunk_index_uuid=stored.get("id", uuids[name]),
        incarnation=incarnation,
        sink=_sink(uuids, histories[name] + histories[registry], stored),
        shards=(fingerprint({"histories": histories[name]}), fingerprint({"histories": histories[registry]})),
        contract=stored,
    )


def _sink(uuids: dict[str, str], histories: list[str], contract: dict[str, Any]) -> str:
    """A further log voids all claims about the one before; a cut in the same log does not."""
    about = {"uuids": uuids, "histories": histories, "contract": fingerprint(contract)}
    logs = from_contract(contract["cuts"]).logs
    return fingerprint(about | ({"logs": logs} if logs else {}))
