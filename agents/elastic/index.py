"""The indices of one alias: made with the contract, found again, compared with the worker's own contract.

<alias>                           readers search here
<alias>-<model>-000001            chunks of a generation
<alias>-<model>-000001-registry   one entry a document
<index>-write-<incarnation>       an alias on each of the two, through which workers write
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

from elasticsearch import ApiError, AsyncElasticsearch

from agents.clock import utc_now
from agents.configured import contract_in
from agents.elastic.errors import EXISTS, kind_of, translated
from agents.elastic.incarnation import CREATE, NO_PIPELINE, PIPELINES, IndexIdentity, look, open_for_writing
from agents.elastic.notes import (
    ALIAS_NOTE,
    BASELINE_NOTE,
    BEFORE_NOTE,
    FILL_NOTE,
    GROUP_NOTE,
    LOAD_NOTE,
    LOG_NOTE,
    OF_SNAPSHOTS,
    REBUILD_NOTE,
    SHARDS_NOTE,
    UNVERIFIED_NOTE,
    notes_in,
    read_notes,
    set_back,
    write_notes,
)
from agents.settings import Settings, with_model
from streams.contract import chunk_mappings, differences, registry_mappings, same_log
from streams.epochs import (
    Epochs,
    History,
    another_log,
    begin_epoch,
    for_snapshots,
    from_contract,
    moved_keys,
    to_contract,
    with_group,
)
from streams.errors import AwayError, NoIndexError, PenstockError, RefusedError
from streams.generations import (
    Generation,
    alike,
    fed_beside,
    fed_by,
    forgotten,
    name_of,
    next_number,
    number_of,
    serving_one,
)

DOCUMENTS = {"bool": {"filter": [{"term": {"state": "done"}}, {"range": {"n": {"gt": 0}}}]}}
"""Registry entries of documents that have chunks."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Index:
    """Index administration through one client."""

    def __init__(self, client: AsyncElasticsearch, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._alias = settings.elasticsearch.alias
        self.group = settings.source.group

    @property
    def _shape(self) -> dict[str, Any]:
        """Of an index and its registry."""
        es = self._settings.elasticsearch
        return {"number_of_shards": es.shards, "number_of_replicas": es.replicas}

    async def create(
        self,
        contract: dict[str, Any],
        *,
        load: bool = False,
        beside: bool = False,
        history: History | None = None,
        snapshots: bool = False,
    ) -> tuple[Generation, bool]:
        """Make a generation with its registry and aliases; the first one serves. Returns it, and whether it is new.

        `load`: without refreshes and replicas until a worker sees lag 0 (`agents.worker.load_mode`). `beside`: when
        what is there has another contract, make a further one; so does a consumer group of its own. `history`,
        `snapshots`: see `make`.
        Idempotent: one that is there with this contract is left as it is, half a creation is completed.
        Raises RefusedError when the one of this group, or of nobody yet, has another contract, or has no room for
        snapshots where these are to come.
        """
        found = await self.generations()
        if beside:
            there = next((one for one in reversed(found) if alike(one.contract, contract)), None)
        else:
            there = fed_by(found, self.group, contract)
            if there is None and serving_one(found):
                there = next((one for one in found if one.group is None), None)
        if there:
            await self._complete_registry(there.index)  # first: ways out of a refusal need one
            there = await self._remember(there, None if beside else history)
            self._require_same(there, contract)
            if snapshots:
                require_room_for_snapshots(there)
            await self.open(there.index)
            return there, False
        return await self.make(contract, found, load=load, history=history, snapshots=snapshots), True

    async def _remember(self, generation: Generation, history: History | None) -> Generation:
        """With the cuts that it lacks because it was restored from before them. `history`: what claims know."""
        cuts = forgotten(generation, history)
        if cuts is None or history is None or generation.group not in (None, self.group):
            return generation
        source = {"partitions": history.partitions, "log": history.log}
        await self.set_epochs(generation, to_contract(cuts), source)
        logger.warning(
            f"{generation.index} was restored from before an epoch that claims remember, and has it again: "
            f"{len(cuts.cuts)} cuts"
        )
        return await self.generation(generation.index)

    def require_remembered(self, generation: Generation, history: History | None) -> None:
        """Raises RefusedError where an index that this group feeds lacks cuts that claims know of."""
        if generation.group == self.group and forgotten(generation, history):
            raise RefusedError(
                f"{generation.index} was restored from before an epoch began, which the claims of {self.group} "
                "remember: `penstock index create` gives it back, then start again"
            )

    async def make(
        self,
        contract: dict[str, Any],
        found: Sequence[Generation],
        *,
        load: bool = False,
        notes: Mapping[str, Any] | None = None,
        history: History | None = None,
        snapshots: bool = False,
    ) -> Generation:
        """A generation beside those that were found. `notes`: kept about it.

        Its epochs go on from those of the one that serves. Where none does, from what is remembered of the log
        (`history`): partitions that were added since then are noticed at the start; else from the newest of this log.
        `snapshots`: with room for them below all that is in the log. Raises RefusedError where the epochs have none.
        """
        serving = serving_one(found)
        if serving is None:
            await self._require_free()
        name = await self._free_name(contract, found)
        source = contract["source"]
        ours = [one for one in found if one.contract["source"]["topic"] == source["topic"]]
        if serving is None:
            ours = [one for one in ours if same_log(one.contract["source"]["log"], source["log"])]
        if ours and (serving is not None or history is None):
            model = serving if serving is not None and serving in ours else ours[-1]
            self._require_same(model, {**model.contract, "source": source})
            contract = {**contract, "cuts": model.contract["cuts"]}
            if snapshots:
                require_room_for_snapshots(model)
        else:
            room = to_contract(Epochs((for_snapshots(utc_now()),))) if snapshots else []
            if history is not None:
                source = {**source, "partitions": history.partitions}
            cuts = history.cuts if history is not None else contract["cuts"]
            contract = {**contract, "source": source, "cuts": [*room, *cuts]}
        es = self._settings.elasticsearch
        shape = self._shape
        options = {"type": es.hnsw_type, "m": es.hnsw_m, "ef_construction": es.hnsw_ef_construction}
        mappings = chunk_mappings({**contract, "id": uuid4().hex}, index_options=options)
        mappings["_meta"][ALIAS_NOTE] = self._alias
        wanted = {"number_of_replicas": es.replicas, "refresh_interval": es.refresh_interval}
        # a registry that outlived its index says nothing of this one's shards and vectors, nor one of a rebuild that
        # did not come to its index
        of_before = (SHARDS_NOTE, UNVERIFIED_NOTE, REBUILD_NOTE, FILL_NOTE, BASELINE_NOTE, *OF_SNAPSHOTS)
        notes = {**dict.fromkeys(of_before), **(notes or {})}
        if load:
            notes[LOAD_NOTE] = wanted
            wanted = {"number_of_replicas": 0, "refresh_interval": "-1"}
            shape["number_of_replicas"] = 0
        await self._create_one(f"{name}-registry", registry_mappings(), shape, {})
        await self._call(lambda: write_notes(self._client, name, notes))
        await self._create_one(name, mappings, {**shape, **wanted}, {} if serving else {self._alias: {}})
        await self.open(name)
        made = await self.generation(name)
        with suppress(AwayError):  # its shards are starting: the first worker notes them
            await self.note(name, **{SHARDS_NOTE: list((await self.identity(made)).shards)})
        return made

    async def _free_name(self, contract: dict[str, Any], found: Sequence[Generation]) -> str:
        """The next one that no index has: one of another alias may be named alike (`docs` and `docs-en`)."""
        number = next_number(found)
        while True:
            name = name_of(self._alias, contract["model"]["name"], number)
            if not await self._call(lambda: self._client.indices.exists(index=name)):  # noqa: B023 - awaited here
                return name
            number += 1

    async def generations(self) -> list[Generation]:
        """All of this alias, oldest first. Contracts have dims and similarity as the mapping has them."""

        async def request() -> list[Generation]:
            names = f"{self._alias},{self._alias}-*"
            found = await self._client.indices.get(
                index=names, features="mappings,aliases", expand_wildcards="all", ignore_unavailable=True
            )
            rows = []
            bodies: dict[str, Any] = found.body
            empty: dict[str, Any] = {"mappings": {}}
            for name, body in bodies.items():
                if (contract := contract_in(body["mappings"])) is None:
                    continue
                notes = notes_in(body["mappings"], bodies.get(f"{name}-registry", empty)["mappings"])
                serving = self._alias in body["aliases"]
                number = number_of(self._alias, name, contract)
                ours = number is not None and notes.get(ALIAS_NOTE, self._alias) == self._alias
                if not ours and not serving:
                    continue
                source = {**contract["source"], "log": _log_of(contract, notes)}
                rows.append(
                    Generation(
                        index=name,
                        number=number or 0,
                        contract={**contract, "source": source},
                        group=notes.get(GROUP_NOTE),
                        serving=serving,
                        before=notes.get(BEFORE_NOTE),
                        aliases=tuple(sorted(alias for alias in body["aliases"] if f"{name}-write-" not in alias)),
                        rebuild=notes.get(REBUILD_NOTE),
                    )
                )
            serving_names = sorted(row.index for row in rows if row.serving)
            if len(serving_names) > 1:
                raise RefusedError(
                    f"the alias {self._alias} has {len(serving_names)} indices: {', '.join(serving_names)}; "
                    "readers can have only one of them: take the others out of the alias, in Elasticsearch (`_aliases`)"
                )
            return sorted(rows, key=lambda row: row.number)

        return await self._call(request)

    async def fed_from(self, topic: str) -> list[Generation]:
        """All that are fed from a topic, of whatever alias; see `everywhere`."""
        return [one for one in await self.everywhere() if one.contract["source"]["topic"] == topic]

    async def fed_beside(self, topic: str, log: str) -> list[Generation]:
        """All that this group feeds beside those of this alias; see `streams.generations.fed_beside`."""
        own = {one.index for one in await self.generations()}
        return fed_beside(await self.everywhere(), self.group, topic, log, own)

    async def everywhere(self) -> list[Generation]:
        """All on this cluster, of whatever alias, as far as this login sees them; closed ones, too.

        Without their aliases. A copy under another name, and one whose alias is not known, has number 0.
        """

        async def request() -> list[Generation]:
            found = await self._client.indices.get_mapping(
                index="*,-.*", expand_wildcards="all", filter_path="*.mappings._meta"
            )
            metas = {name: body["mappings"]["_meta"] for name, body in found.body.items()}
            rows = []
            for name, meta in metas.items():
                contract = meta.get("penstock")
                if contract is None:
                    continue
                notes = notes_in({"_meta": meta}, {"_meta": metas.get(f"{name}-registry", {})})
                source = {**contract["source"], "log": _log_of(contract, notes)}
                rows.append(
                    Generation(
                        index=name,
                        number=number_of(notes.get(ALIAS_NOTE, ""), name, contract) or 0,
                        contract={**contract, "source": source},
                        group=notes.get(GROUP_NOTE),
                        serving=False,
                        before=None,
                        aliases=(),
                        rebuild=None,
                    )
                )
            return sorted(rows, key=lambda row: row.index)

        return await self._call(request)

    async def generation(self, name: str | None = None, found: Sequence[Generation] | None = None) -> Generation:
        """One by its name; without a name the one that serves. `found`: among these, which were just looked up.

        Raises PenstockError when there is no such.
        """
        found = await self.generations() if found is None else found
        one = next((one for one in found if (one.serving if name is None else one.index == name)), None)
        if one is None and name is None:
            await self._require_free()
            raise self.none(found)
        if one is None:
            known = ", ".join(row.index for row in found) or "none"
            raise PenstockError(f"there is no index {name} of the alias {self._alias}: {known}")
        return one

    def none(self, found: Sequence[Generation]) -> NoIndexError:
        """What to do where there is no index behind the alias. `found`: those that serve nobody."""
        whole = [one for one in found if not one.rebuild]
        others = ", ".join(f"{one.index} (fed by {one.group or 'nobody yet'})" for one in whole)
        return NoIndexError(
            f"there is no index behind the alias {self._alias}: create it with `penstock index create`"
            + (f", or `penstock index promote` what is there: {others}" if others else "")
        )

    async def require_served(self, name: str) -> None:
        """Raises PenstockError where no index is behind the alias: readers find nothing, and could find this one.

        So it does where somebody put a half rebuild there.
        """
        found = await self.generations()
        serving = serving_one(found)
        if serving and serving.rebuild:
            raise half_rebuilt(serving, found)
        if serving is None:
            way = f"`penstock index promote {name}`"
            if any(one.rebuild for one in found if one.index == name):
                way = "`penstock index rebuild` goes on with its rebuild"
            raise PenstockError(
                f"there is no index behind the alias {self._alias}, so that readers find nothing: {way}"
            )

    async def require_unblocked(self, name: str) -> None:
        """Raises PenstockError where a block of the index or its registry makes workers wait."""
        both = name, f"{name}-registry"
        settings = await self._call(
            lambda: self._client.indices.get_settings(index=both, name="index.blocks.*", flat_settings=True)
        )
        for index in both:
            for block, value in settings.get(index, {"settings": {}})["settings"].items():
                if value == "true":
                    raise PenstockError(
                        f"{block} of {index} is set, and the workers wait: set it back (`PUT {index}/_settings "
                        f'{{"{block}": null}}`), or make room where Elasticsearch set it because a disk is full'
                    )

    async def mine(self, contract: dict[str, Any] | None = None) -> Generation | None:
        """The generation that a worker with these settings writes into, whatever its contract; None without one."""
        return fed_by(await self.generations(), self.group, contract)

    async def bind(self, name: str, log: str) -> None:
        """This group feeds it from now on, from this log, which was found to be the one that it holds."""
        generation = await self.generation(name)
        notes = {GROUP_NOTE: self.group} if generation.group != self.group else {}
        if notes and generation.group:
            logger.warning(
                f"{name} was fed by the group {generation.group}, and is fed by {self.group} from now on: where "
                "workers of both run, each does the whole work (is source.group right?)"
            )
        if generation.contract["source"]["log"] != log:
            notes[LOG_NOTE] = log
        if notes:
            await self.note(name, **notes)

    async def watch_shards(self, identity: IndexIdentity) -> bool:
        """Note which shards index and registry are on; where they were others, warn until somebody has verified them.

        Returns whether nobody has.
        """
        notes = await self.notes(identity.index)
        sides = sorted(set_back(notes, identity.shards))
        if notes.get(SHARDS_NOTE) != list(identity.shards):
            await self.note(identity.index, **{SHARDS_NOTE: list(identity.shards), UNVERIFIED_NOTE: sides or None})
        if sides:
            logger.warning(str(not_verified(identity.index, self.group, self.group)))
        return bool(sides)

    async def require_verified(self, identity: IndexIdentity, feeder: str | None) -> None:
        """Raises RefusedError where one of the two may be older than the other. `feeder`: the group that feeds it."""
        if set_back(await self.notes(identity.index), identity.shards):
            raise not_verified(identity.index, feeder, self.group)

    async def verified(self, identity: IndexIdentity, before: Mapping[str, Any]) -> None:
        """Everything settled was held against the topic, on these shards, and found to be right, or mended.

        `before`: the notes when that began. Where a worker has noted other shards since, it says nothing about them.
        """
        notes, own = await self.notes(identity.index), list(identity.shards)
        if set_back(notes, identity.shards) and notes.get(SHARDS_NOTE) in (before.get(SHARDS_NOTE), own):
            await self.note(identity.index, **{SHARDS_NOTE: own, UNVERIFIED_NOTE: None})

    async def open(self, name: str) -> None:
        """For writing, where its creation was interrupted before that. Twice is harmless."""
        await self._call(lambda: open_for_writing(self._client, name))

    async def has_registry(self, name: str) -> bool:
        """Whether the registry of an index is there: a copy of the index alone has none.

        Raises RefusedError where its name is an alias of something else: a registry restored under another name.
        """
        registry = f"{name}-registry"
        if await self._call(lambda: self._client.indices.exists_alias(name=registry)):
            raise RefusedError(
                f"{registry} is an alias, and has to be the index itself: delete that alias, restore the registry "
                "under its own name or leave it away, then `penstock index create`"
            )
        return bool(await self._call(lambda: self._client.indices.exists(index=registry)))

    async def _complete_registry(self, name: str) -> None:
        """Where an index has lost its registry: an empty one, of which is known that the chunks are newer.

        So they are where somebody else made it: it has no notes, and workers leave one.
        """
        note = {UNVERIFIED_NOTE: ["registry"]}
        if not await self.has_registry(name):
            await self._create_one(f"{name}-registry", {**registry_mappings(), "_meta": note}, self._shape, {})
        elif GROUP_NOTE not in await self.notes(name) and (await self.counts(name))["chunks"]:
            await self.note(name, **note)

    async def complete(self, name: str) -> None:
        """Give a registry that was made by an earlier version the fields that entries have now. Twice is harmless."""

        async def request() -> None:
            registry = f"{name}-registry"
            found = (await self._client.indices.get_mapping(index=registry))[registry]["mappings"]["properties"]
            missing = {key: kind for key, kind in registry_mappings()["properties"].items() if key not in found}
            if missing:
                await self._client.indices.put_mapping(index=registry, properties=missing)

        await self._call(request)

    async def note(self, name: str, **notes: Any) -> None:
        """Keep something about an index, or forget it (None)."""
        await self._call(lambda: write_notes(self._client, name, notes))

    async def notes(self, name: str) -> dict[str, Any]:
        """All that was noted about an index."""
        return await self._call(lambda: read_notes(self._client, name))

    async def _create_one(
        self, name: str, mappings: dict[str, Any], settings: dict[str, Any], aliases: dict[str, Any]
    ) -> None:
        """Unless it is there. What is added to the arguments holds whatever a template has for all indices."""
        settings = {**settings, **dict.fromkeys(PIPELINES, NO_PIPELINE)}
        mappings = {"_source": {"enabled": True}, "_routing": {"required": False}, **mappings}

        async def request() -> None:
            if await self._client.indices.exists(index=name):
                return
            try:
                await self._client.indices.create(index=name, mappings=mappings, settings=settings, aliases=aliases)
            except ApiError as exc:
                if kind_of(exc) != EXISTS:
                    raise
                return  # somebody else was faster
            if self._alias not in aliases and await self._client.indices.exists_alias(index=name, name=self._alias):
                await self._client.indices.delete_alias(index=name, name=self._alias)

        await self._call(request)

    async def identify(self, contract: dict[str, Any], *, any_log: bool = False) -> IndexIdentity:
        """The index that a worker with this contract writes into.

        `any_log`: also when it holds another log than the topic that is there now; for who only looks.
        Raises PenstockError when there is none, RefusedError when its contract differs: the message names the
        fields and the command that resolves it.
        """
        found = await self.generations()
        mine = fed_by(found, self.group, contract)
        mine = mine or serving_one(found)
        if mine is None:
            await self._require_free()
            raise self.none(found)
        serving = serving_one(found)
        if serving and serving is not mine and alike(serving.contract, contract) and not alike(mine.contract, contract):
            raise another_serves(mine, serving, self._alias)
        self._require_same(mine, contract, any_log=any_log)
        return await self.identity(mine)

    async def identity(self, generation: Generation, *, opened: bool = True) -> IndexIdentity:
        """A generation as it is now; `opened`: it must be open for writing, too.

        Raises PenstockError when it cannot be told, RefusedError when it is not whole.
        """
        way = with_group(CREATE, generation.group, self.group)
        index, contract = generation.index, generation.contract
        return await self._call(lambda: look(self._client, index, contract, way=way, opened=opened))

    async def counts(self, name: str, *, refresh: bool = True) -> dict[str, int]:
        """Documents and chunks of an index."""

        async def request() -> dict[str, int]:
            registry = f"{name}-registry"
            alive = {"bool": {"must_not": {"term": {"penstock.stub": True}}}}
            if refresh:
                await self._client.indices.refresh(index=f"{name},{registry}", ignore_unavailable=True)
            chunks = await self._client.count(index=name, query=alive)
            entries = await self._client.count(index=registry, query=DOCUMENTS, ignore_unavailable=True)
            return {"documents": entries["count"], "chunks": chunks["count"]}

        return await self._call(request)

    async def set_epochs(self, generation: Generation, cuts: list[dict[str, Any]], source: Mapping[str, Any]) -> None:
        """Write the cuts, and the partitions and the log that they lead to, into the contract.

        Then the write aliases: whoever knows the old cuts only can write no more. Raises PenstockError when the cuts
        are no longer those of `generation`. Nobody else writes this mapping's `_meta`, so that no cut is lost.
        """
        name = generation.index

        async def request() -> None:
            mapping = await self._client.indices.get_mapping(index=name)
            meta = mapping[name]["mappings"]["_meta"]
            if meta["penstock"]["cuts"] != generation.contract["cuts"]:
                raise PenstockError(f"somebody else began an epoch of {name} just now: look, and try again")
            contract = {**meta["penstock"], "cuts": cuts, "source": {**meta["penstock"]["source"], **source}}
            await self._client.indices.put_mapping(index=name, meta={**meta, "penstock": contract})
            await open_for_writing(self._client, name)

        await self._call(request)

    async def _require_free(self) -> None:
        """Raises RefusedError where the alias is the name, or the alias, of something that is not ours."""

        async def request() -> None:
            if await self._client.indices.exists_alias(name=self._alias):
                names = sorted(await self._client.indices.get_alias(name=self._alias))
                for name in names:
                    if await self._client.indices.exists(index=f"{name}-registry"):
                        raise RefusedError(
                            f"{name} has lost its contract: somebody wrote another `_meta` into its mapping. Put the "
                            f"old one back, from a snapshot; or delete {name} and {name}-registry, then `penstock "
                            "index create`: the topic is processed from the start"
                        )
                told = ", ".join(names)
                raise RefusedError(f"{told} was not made by Penstock: choose another elasticsearch.alias")
            if await self._client.indices.exists(index=self._alias):
                raise RefusedError(
                    f"{self._alias} is an index, not an alias: choose another elasticsearch.alias, or delete it"
                )

        await self._call(request)

    def _require_same(self, generation: Generation, contract: dict[str, Any], *, any_log: bool = False) -> None:
        name, stored = generation.index, generation.contract
        topic, rows = contract["source"]["topic"], differences(stored, contract)
        way = begin_epoch(generation.group, self.group)
        if (made := stored["format"]) != (ours := contract["format"]):
            raise another_format(name, made, ours)
        if generation.rebuild:  # what it has taken so far is of the log and the partitions that it began with
            way = f"Drop the half rebuild with `penstock index drop {name}`, and begin it anew"
        now, before = contract["source"]["log"], stored["source"]["log"]
        moved = all(row.startswith("source.partitions") for row in rows)
        if moved and not any_log and not same_log(before, now):
            raise another_log(topic, f"{name} holds {before}, this is {now}", way)
        if rows and moved:
            raise moved_keys(topic, contract["source"]["partitions"], name, stored["source"]["partitions"], way)
        if rows:
            if not generation.rebuild:
                way = (
                    "Fill a further index beside it with `penstock index rebuild`, or with `penstock index create` and "
                    "workers with a source.group of their own"
                )
            raise RefusedError(
                f"the index {name} has another contract:\n"
                + "\n".join(f"  {row}" for row in rows)
                + f"\nuse the settings and the model that it was made with, or another index: {way}"
            )

    async def _call(self, request: Callable[[], Awaitable[T]]) -> T:
        with translated(self._settings.elasticsearch.url):
            return await request()


def require_room_for_snapshots(generation: Generation) -> None:
    """Raises RefusedError where versions of the log leave none."""
    if not from_contract(generation.contract["cuts"]).have_room_for_snapshots:
        raise RefusedError(
            f"{generation.index} was made for its topic alone: versions of the topic's records begin where those of a "
            "snapshot would have to be. Choose another elasticsearch.alias and source.group, and run `penstock "
            "backfill --from …` there: it makes an index for both, which workers then fill from the topic, too"
        )


def another_format(name: str, made: int, ours: int) -> RefusedError:
    """What is said of an index that another release made. `made`: its format, `ours`: that of this release."""
    if made > ours:
        return RefusedError(
            f"{name} was made by a later release of Penstock (format {made}, this one writes {ours}): install that "
            "one; nothing was changed"
        )
    return RefusedError(
        f"{name} was made by an earlier release of Penstock (format {made}, this one writes {ours}). Let workers of "
        "that release go on with it, and fill one of this format beside it: `penstock index rebuild`, then workers of "
        "the group that it names, then `penstock index promote`"
    )


def another_serves(own: Generation, serving: Generation, alias: str) -> RefusedError:
    """What is said where readers see an index that was made as these settings are, and their group feeds another."""
    name = f"{serving.index}, which fits these settings"
    if serving.group is None:
        return RefusedError(
            f"readers of {alias} see {name}, and the group {own.group} feeds {own.index}, which does not: "
            "choose another source.group"
        )
    return RefusedError(
        f"{alias} is served by {name}, and fed by the group {serving.group}; the group {own.group} feeds {own.index}, "
        f"which does not fit them: set source.group = {serving.group}, for all commands and workers of these settings "
        f"(`PENSTOCK_SOURCE__GROUP={serving.group} penstock status`)"
    )


def half_rebuilt(serving: Generation, found: Sequence[Generation]) -> RefusedError:
    """What is said where a rebuild serves that has not ended: readers have what it has taken so far. `found`: all."""
    base = (serving.rebuild or {}).get("base")
    told = f"{serving.index} serves, and its rebuild has not ended: readers have a part of the documents"
    if all(one.index != base for one in found):
        return RefusedError(
            f"{told}, and {base}, from which it took them, is gone: `penstock index drop {serving.index}` says how to "
            "begin anew from the topic"
        )
    return RefusedError(
        f"{told}. `penstock index promote {base} --unchecked` gives them all, then `penstock index rebuild` goes on"
    )


def not_verified(name: str, feeder: str | None, group: str) -> RefusedError:
    """What is said of an index whose shards were restored, or lost what they had.

    `feeder` feeds it, and `group` is of the settings of whoever is told.
    """
    told = (
        f"{name} or its registry was restored or made anew, or a shard lost its history, and nobody has verified it "
        "since: chunks may be missing that the registry has as written, or be left that it knows nothing of"
    )
    when = "once the workers have caught up (what that names as lost has to be published again)"
    way = with_group("`penstock index verify --repair`", feeder, group)
    return RefusedError(f"{told}: {way}, {when}")


def _log_of(contract: dict[str, Any], notes: Mapping[str, Any]) -> str | None:
    """Which log an index holds: a worker that found it to be so noted it down where the contract does not know it."""
    own: str | None = contract["source"].get("log")
    noted: str | None = notes.get(LOG_NOTE)
    return noted if noted and same_log(own, noted) else own


def settings_of(settings: Settings, generation: Generation) -> Settings:
    """The settings as the workers of a generation have them: its group and its model."""
    source = settings.source.model_copy(update={"group": generation.group or settings.source.group})
    return with_model(settings.model_copy(update={"source": source}), generation.contract["model"]["name"])
