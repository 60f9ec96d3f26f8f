"""An index built again beside the one that serves: from the topic, and of what that has lost from the serving one."""

import asyncio
from typing import Any

import pytest

from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.elastic.notes import REBUILD_NOTE
from agents.kafka.reader import log_reader
from agents.settings import Settings
from streams.contract import chunk_mappings, registry_mappings
from tests.kit.harness import World, scan
from tests.kit.two_models import SECOND, of_group, rows
from tests.stack.test_faults import text

MODEL_SPEED = "fast"
FORMER = """
import agents.configured, agents.indexing.stages
from streams.flags import NOTHING
agents.configured.FORMAT = 2
agents.indexing.stages.all_judged = lambda documents: [NOTHING for _ in documents]
"""
"""A change: the release before chunks had flags, a language and a signature."""


def test_an_index_is_built_again_from_what_the_topic_lost_and_what_it_has(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle and begun again; workers of its group go on from there; readers see nothing of it.

    The registry was made before entries kept their content's version. Some of what the topic lost came twice unchanged.
    """
    index, again = f"{two.name}-all-minilm-l6-v2-000001", f"{two.name}-all-minilm-l6-v2-000002"

    async def texts(name: str) -> dict[str, Any]:
        found = await scan(two.settings, name)
        return {key: (row["text"], row["metadata"]) for key, row in found.items() if not row["penstock"]["stub"]}

    async def versions(name: str) -> dict[str, int]:
        return {row["doc_id"]: row["version"] for row in (await scan(two.settings, f"{name}-registry")).values()}

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            older = registry_mappings()
            older["properties"].pop("content_version", None)
            patch.setattr("agents.elastic.index.registry_mappings", lambda: older)
            await two.create(partitions=2)
        whole = {"text": "Ein Satz.\n\n" + "Noch ein Satz. " * 200, "title": "T", "metadata": {"tags": ["x"]}}
        given = {"chunks": [{"text": "one"}, {"text": "two", "metadata": {"page": 2}}], "url": "u"}
        await two.produce([(b"whole", whole), (b"given", given), (b"gone", {"text": "short"}), (b"bad", b"{")])
        await two.produce((f"doc-{n}".encode(), {"text": text(n)}) for n in range(60))
        worker = two.start_worker()
        await two.settled(worker=worker)
        await two.produce([(b"whole", whole), (b"given", given)])
        await two.produce((f"doc-{n}".encode(), {"text": text(n)}) for n in range(8))
        await two.settled(worker=worker)
        assert worker.metrics()['penstock_records_total{outcome="unchanged"}'] == 10
        await two.produce((f"doc-{n}".encode(), {"text": text(n)}) for n in range(60, 150))
        await two.settled(worker=worker)
        async with log_reader(two.settings) as reader:
            bounds = await reader.bounds(two.name, range(2))
            await reader.delete_before(two.name, {number: bound.end - 20 for number, bound in bounds.items()})
        await two.produce([(b"gone", None), (b"doc-3", {"text": "changed"}), (b"new", {"text": "new"})])
        await two.settled(worker=worker)

        told = two.command("index", "create", "--model", SECOND)
        assert "lacks its first" in told.stdout, told.stdout
        other = rows(two.command("index", "rebuild", "--model", SECOND, "--json"))
        assert (other["index"], other["group"]) == (f"{two.name}-{SECOND}-000002", f"{two.name}-2")
        assert (await texts(other["index"])).keys() == (await texts(index)).keys()
        assert two.command("index", "drop", other["index"], "--yes").returncode == 0

        gate = two.gate()
        gate.let(8)
        log = two.tmp / "rebuild.log"
        slow = two.start("index", "rebuild", "--rate", "20", output=log, errors=log, extra=gate.environment)
        await gate.holds(slow)
        slow.kill()
        slow.wait()
        assert await _has(two.settings, again, 1)
        refused = two.command("index", "rebuild", "--from", "3")
        assert (refused.returncode, "has not ended" in refused.stderr) == (3, True), refused.stderr
        other = two.command("index", "rebuild", extra={"PENSTOCK_SPLIT__MAX_CHARS": "300"})
        assert (other.returncode, f"`penstock index drop {again}`, and begin" in other.stderr) == (3, True), (
            other.stderr
        )
        early = two.command("index", "promote", again, "--wait", "0")
        assert (early.returncode, "FAIL  rebuild" in early.stdout) == (3, True), early.stdout
        async with connect(two.settings.elasticsearch) as client:
            move = [{"remove": {"index": index, "alias": two.name}}, {"add": {"index": again, "alias": two.name}}]
            await client.indices.update_aliases(actions=move)  # by hand
            half, back = two.command("index", "rebuild"), ("index", "promote", index, "--unchecked")
            assert (half.returncode, f"`penstock {' '.join(back)}`" in half.stderr) == (3, True), half.stderr
            assert rows(two.command("status", "--json"))["problem"] in half.stderr
            assert two.command(*back).returncode == 0
            # as if it was killed a moment after it had made them
            await client.indices.delete_alias(index=f"{again}*", name=f"{again}-*write-*")
        done = rows(two.command("index", "rebuild", "--json"))
        assert (done["index"], done["group"], done["resumed"]) == (again, f"{two.name}-2", True)
        assert (done["from_topic"], done["changing"]) == (0, 0), done
        assert 0 < done["from_index"] < 120  # the rest was done before the kill
        assert (done["embedded"], done["reused"] >= done["from_index"]) == (0, True), "model and texts are the same"
        assert await texts(again) == await texts(index)
        assert await versions(again) == await versions(index)
        alike = two.command("index", "digest", "--against", again, "--min-cosine", "0.9999", "--json")
        assert alike.returncode == 0, (alike.stdout, alike.stderr)
        manifest, told = rows(alike), rows(alike)["against"]
        assert (manifest["index"], told["index"], told["digest"]) == (index, again, manifest["digest"])
        assert (manifest["unfinished"], manifest["loose_chunks"], told["ranges"]) == (0, 0, [])
        assert (manifest["documents"], told["vectors"] > 100) == (154, True)
        (two.tmp / "before.json").write_text(alike.stdout)

        await two.produce([(b"later", {"text": "later"})])
        await two.settled(worker=worker)
        for against in (again, str(two.tmp / "before.json")):
            other = two.command("index", "digest", "--against", against, "--by", "partition")
            assert (other.returncode, "partition 1: " in other.stdout) == (1, True), (other.stdout, other.stderr)
            assert ("later: only in the first" in other.stdout) == (against == again), other.stdout
        follower = two.start_worker(of_group(two, done["group"]))
        promoted = two.command("index", "promote", again)
        assert promoted.returncode == 0, (promoted.stdout, promoted.stderr)
        assert (await texts(again)).keys() == (await texts(index)).keys()
        assert "later#0" in await texts(again)
        metrics = follower.metrics()
        assert metrics["penstock_chunks_embedded_total"] == 1  # it went on where the rebuild ended
        third = rows(two.command("index", "rebuild", "--from", "1s", "--json", extra=of_group(two, done["group"])))
        assert (third["group"], third["from_topic"] <= 1) == (f"{two.name}-2-3", True), third
        assert (await texts(third["index"])).keys() == (await texts(again)).keys()
        async with connect(two.settings.elasticsearch) as client:
            await client.indices.delete(index=again)  # by mistake: another one is there
        rescued = two.command("index", "promote", "--json")
        assert (rows(rescued)["index"], rows(rescued)["before"]) == (third["index"], None)
        assert rows(two.command("index", "status", "--json"))["index"]["index"] == third["index"]

    asyncio.run(scenario())


async def _has(settings: Settings, index: str, documents: int) -> bool:
    async with connect(settings.elasticsearch) as client:
        if not await client.indices.exists(index=f"{index}-registry"):
            return False
        await client.indices.refresh(index=f"{index}-registry")
        return int((await client.count(index=f"{index}-registry"))["count"]) >= documents


def test_a_rebuild_of_deletions_alone_and_what_must_not_happen_beside_it(world: World) -> None:
    """No chunk has to be read; deletions are not forgotten, and no epoch begins, before it has ended.

    Nor is anything built into somebody's copy of an index.
    """
    first = f"{world.name}-all-minilm-l6-v2-000001"

    async def scenario() -> None:
        await world.create(partitions=1)
        await world.produce([(b"k", {"text": "secret"}), (b"k", None), (b"other", {"text": "other"})])
        await world.settled(worker=(worker := world.start_worker()))
        assert worker.terminate() == 0
        async with log_reader(world.settings) as reader:
            await reader.delete_before(world.name, {0: 2})
        rebuilt = world.command("index", "rebuild", "--json")
        assert rebuilt.returncode == 0, rebuilt.stderr
        again = rows(rebuilt)["index"]
        entries = {row["doc_id"]: row["n"] for row in (await scan(world.settings, f"{again}-registry")).values()}
        assert entries == {"k": 0, "other": 1}
        async with connect(world.settings.elasticsearch) as client:
            half = {"base": first, "from": {"0": 0}}
            await Index(client, world.settings).note(again, **{REBUILD_NOTE: half})
        vacuum = world.command("index", "vacuum", "--before", "0s")
        assert (vacuum.returncode, f"the rebuild of {again}" in vacuum.stderr) == (3, True), vacuum.stderr
        assert world.command("index", "epoch", "bump", "--why", "a test").returncode == 0
        refused = world.command("index", "rebuild")
        assert (refused.returncode, f"`penstock index drop {again}`" in refused.stderr) == (3, True), refused.stderr
        assert world.command("index", "drop", again, "--yes").returncode == 0
        assert world.command("index", "rebuild").returncode == 0

        copy = first.replace("000001", "000003")
        async with connect(world.settings.elasticsearch) as client:
            await client.indices.add_block(index=first, block="write")
            await client.indices.clone(index=first, target=copy)
            await client.indices.put_settings(index=first, settings={"index.blocks.write": None})
        refused = world.command("index", "rebuild")
        assert (refused.returncode, f"{copy} has no registry" in refused.stderr) == (3, True), refused.stderr
        assert world.command("index", "drop", copy, "--yes").returncode == 0

    asyncio.run(scenario())


def test_an_index_of_the_former_format_is_filled_anew_beside_its_workers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def former_mappings(*arguments: Any, **options: Any) -> dict[str, Any]:
        mappings = chunk_mappings(*arguments, **options)
        del mappings["properties"]["metadata"]["properties"]["language"]
        for name in ("flags", "signature"):
            del mappings["properties"]["penstock"]["properties"][name]
        return mappings

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("agents.configured.FORMAT", 2)
            patch.setattr("agents.elastic.index.chunk_mappings", former_mappings)
            await world.create(partitions=1)
        await world.produce((f"doc-{n}".encode(), {"text": text(n)}) for n in range(30))
        worker = world.start_worker(change=FORMER)
        await world.settled(worker=worker)
        async with log_reader(world.settings) as reader:
            await reader.delete_before(world.name, {0: 20})

        later = world.start_worker()
        assert await later.ended() == 3
        first = f"{world.name}-all-minilm-l6-v2-000001"
        assert (
            f"{first} was made by an earlier release of Penstock (format 2, this one writes 3)" in later.log.read_text()
        )
        assert "`penstock index rebuild`" in later.log.read_text()
        assert "an earlier release" in world.command("index", "create").stderr
        assert world.command("search", "anything", "--json").returncode == 0, "readers go on"
        for words in (("index", "duplicates"), ("search", "anything", "--distinct")):
            told = world.command(*words)
            assert (told.returncode, "`penstock index rebuild`" in told.stderr) == (3, True), told.stderr

        names = {"penstock-2": f"{world.name}-2", "documents-all-minilm-l6-v2-000001": first}
        section, group = "Upgrade to a release with another index format", of_group(world, f"{world.name}-2")
        (follower,) = await world.follow(section, names)
        second = f"{world.name}-all-minilm-l6-v2-000002"
        for arguments in (("status",), ("index", "verify"), ("config", "check")):
            told = world.command(*arguments)
            assert f"served by {second}" in told.stdout + told.stderr, (told.stdout, told.stderr)
            assert f"set source.group = {world.name}-2" in told.stdout + told.stderr
        await world.produce([(b"doc-1", {"text": "changed"})])
        await world.settled(worker=worker)
        await world.follow(section, names, block=1)
        assert world.command("index", "promote", second, extra=group).returncode == 0
        assert worker.terminate() == 0
        await world.settled_as(group, follower)
        await world.follow(section, names, block=2)
        pages = [{"start": 0, "end": 3, "page": 7, "heading": "A › B"}, {"start": 3, "end": 6, "page": 8}]
        await world.produce(
            [(b"paged", {"text": "abcdef", "sections": pages}), (b"bad", {"text": "a", "sections": pages})]
        )
        await world.settled_as(group, follower)
        found = {row["metadata"]["doc_id"]: row for row in (await scan(world.settings, second)).values()}
        assert len(found) == 31
        assert found["doc-1"]["text"] == "changed"
        assert {name: found["paged"]["metadata"].get(name) for name in ("page", "page_end", "heading")} == {
            "page": 7,
            "page_end": 8,
            "heading": "A › B",
        }
        assert [letter.key for letter in await world.dead_letters()] == [b"bad"]
        backwards = world.start_worker(group, change=FORMER)
        assert await backwards.ended() == 3
        assert "was made by a later release of Penstock (format 3, this one writes 2)" in backwards.log.read_text()

    asyncio.run(scenario())
