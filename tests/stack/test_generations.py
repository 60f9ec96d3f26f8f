"""From one model to the next under load, and back; an index built again beside the one that serves."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace as with_changes
from pathlib import Path
from typing import Any

import pytest

from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.elastic.notes import REBUILD_NOTE
from agents.kafka.reader import log_reader
from agents.settings import Settings
from models.manifest import GOLDEN, ONNX, read_manifest, sha256_file, write_manifest
from models.onnx.choose import Constraints, choose
from models.onnx.embedder import load_embedder
from models.onnx.session import Session
from models.onnx.tokens import Tokens
from streams.contract import registry_mappings
from tests.kit.harness import (
    COMPACTED,
    Servers,
    World,
    again_and_again,
    meanwhile,
    read_topic,
    scan,
    snapshot,
    until,
    world_on,
)
from tests.stack.test_faults import text
from tests.stack.test_salvage import restore

SECOND = "second"
SURE = "The capital of France is Paris, a city on the Seine."
"""Of `doc-0`, which never changes: asked for by its own text it is the first hit of any model."""


def second_model(original: Path, folder: Path) -> None:
    """The same weights with another pooling, exported as `model export` does."""
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns(f"{ONNX}*"))
    for graph in original.glob(f"{ONNX}*"):
        (folder / graph.name).symlink_to(graph)
    before = read_manifest(folder)
    manifest = with_changes(before, name=SECOND, pooling="cls", files={**before.files}, quality={})
    setup = choose(original, before, Constraints()).setup
    golden = json.loads((folder / GOLDEN).read_text())
    ids = Tokens(folder / "tokenizer.json").encode(golden["texts"])
    golden["vectors"] = Session(folder, manifest, setup).embed(ids).tolist()
    (folder / GOLDEN).write_text(json.dumps(golden))
    manifest.files[GOLDEN] = sha256_file(folder / GOLDEN)
    write_manifest(folder, manifest)
    load_embedder(folder).close()


@pytest.fixture
def two(servers: Servers, model_folder: Path, tmp_path: Path) -> Iterator[World]:
    """A world with two models."""
    yield from _two(servers, model_folder, tmp_path)


@pytest.fixture
def two_on_8(servers8: Servers, model_folder: Path, tmp_path: Path) -> Iterator[World]:
    """The same on Elasticsearch 8."""
    yield from _two(servers8, model_folder, tmp_path)


def _two(servers: Servers, model_folder: Path, tmp_path: Path) -> Iterator[World]:
    models = tmp_path / "models"
    models.mkdir()
    (models / model_folder.name).symlink_to(model_folder)
    second_model(model_folder, models / SECOND)
    with world_on(servers, models / model_folder.name, tmp_path) as made:
        yield made


def of_group(world: World, group: str, model: str | None = None) -> dict[str, str]:
    """Environment of another group's workers and commands."""
    found = {"PENSTOCK_SOURCE__GROUP": group}
    return found | ({"PENSTOCK_MODEL__NAME": model} if model else {})


def rows(done: "subprocess.CompletedProcess[str]", code: int = 0) -> Any:
    """What a command printed with --json."""
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


@asynccontextmanager
async def load(world: World) -> AsyncIterator[None]:
    """New documents and changed ones all the time."""

    async def produce(turn: int) -> None:
        numbers = range(2 * turn, 2 * turn + 2)
        await world.produce((f"doc-{1 + n % 399}".encode(), {"text": text(n)}) for n in numbers)

    async with again_and_again(produce, 0.2):
        yield


@asynccontextmanager
async def readers(settings: Settings, documents: int, seen: dict[str, int]) -> AsyncIterator[None]:
    """A reader of the alias: every answer has the first `documents`, and its search finds something."""
    query = {"bool": {"filter": [{"term": {"metadata.chunk": 0}}], "must_not": [{"term": {"penstock.stub": True}}]}}

    async def read() -> None:
        async with connect(settings.elasticsearch) as client:
            while True:
                alias = settings.elasticsearch.alias
                found = await client.search(index=alias, query=query, size=1, track_total_hits=True, source=False)
                assert found["hits"]["total"]["value"] >= documents, found["hits"]["total"]
                nearest = await client.search(
                    index=alias, knn={"field": "vector", "query_vector": [0.1] * 384, "k": 3, "num_candidates": 20}
                )
                index = nearest["hits"]["hits"][0]["_index"]
                seen[index] = seen.get(index, 0) + 1
                await asyncio.sleep(0.1)

    async with meanwhile(read()):
        yield


def test_a_second_model_is_filled_promoted_and_taken_back_under_load(two: World, tmp_path: Path) -> None:
    """Readers and producers go on all the time: no error, no document missing, and the way back within a second."""
    queries = tmp_path / "queries.txt"
    queries.write_text(f"# questions\n\n{SURE}\nwhere is water kept\n")
    second = of_group(two, f"{two.name}-second", SECOND)
    first_index, second_index = f"{two.name}-all-minilm-l6-v2-000001", f"{two.name}-{SECOND}-000002"

    async def command(*arguments: str, extra: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        return await asyncio.to_thread(lambda: two.command(*arguments, extra=extra))

    async def generations() -> dict[str, Any]:
        found = rows(await command("index", "status", "--json"))["generations"]
        return {row["index"]: row for row in found}

    async def scenario() -> None:
        await two.create(partitions=4)
        await two.produce((f"doc-{n}".encode(), {"text": text(n) if n else SURE}) for n in range(400))
        old = two.start_worker()
        await two.settled(worker=old)
        async with connect(two.settings.elasticsearch) as client:
            await client.indices.refresh(index=first_index)
        nothing = await command("index", "promote")
        assert (nothing.returncode, "no further index" in nothing.stderr) == (1, True), nothing.stderr
        alone = await command("index", "rollback")
        assert (alone.returncode, "is the first" in alone.stderr) == (3, True), alone.stderr
        seen: dict[str, int] = {}
        async with load(two), readers(two.settings, 400, seen):
            made = await command("index", "create", "--model", SECOND)
            assert f"created {second_index}" in made.stdout, (made.stdout, made.stderr)
            assert "exists already" in (await command("index", "create", "--model", SECOND)).stdout
            early = await command("index", "promote", "--wait", "0", "--json")
            assert not rows(early, code=3)["promoted"]
            assert "is not promoted (claims)" in early.stderr
            one_group = two.start_worker({"PENSTOCK_MODEL__NAME": SECOND})
            assert await one_group.ended() == 3
            assert "source.group of their own" in one_group.log.read_text()

            new = two.start_worker(second)
            await two.ready(new)
            strange = await command(
                "index", "promote", second_index, "--queries", str(queries), "--min-overlap", "1", "--json"
            )
            gates = {gate["name"]: gate["passed"] for gate in rows(strange, code=3)["gates"]}
            assert gates == {"claims": True, "documents": True, "queries": False}, strange.stdout
            done = rows(await command("index", "promote", "--queries", str(queries), "--min-overlap", "0.05", "--json"))
            assert (done["promoted"], done["before"]) == (True, first_index)
            assert "already" in (await command("index", "promote")).stderr  # twice is harmless
            assert done["queries"]["queries"] == 2
            await until(lambda: _sees(seen, second_index))

            refused = await command("index", "drop", second_index, "--yes")
            assert (refused.returncode, "what readers of" in refused.stderr) == (3, True), refused.stderr
            busy = await command("index", "drop", first_index, "--yes")
            assert (busy.returncode, "(1) feed" in busy.stderr) == (3, True), busy.stderr
            back = rows(await command("index", "rollback", "--json"))
            assert (back["index"], back["before"], back["problem"]) == (first_index, second_index, None)
            assert rows(await command("index", "rollback", "--json"))["index"] == second_index
            both = await generations()
            assert {name: (row["serving"], row["workers"]) for name, row in both.items()} == {
                first_index: (False, 1),
                second_index: (True, 1),
            }
            found = await command("search", "how does a turbine turn", "--json")  # with the model of what serves
            assert {hit["penstock"]["model"] for hit in rows(found)} == {SECOND}
        assert seen.keys() == {first_index, second_index}, seen

        again = rows(
            await command("index", "promote", first_index, "--alias", f"{two.name}-ab", "--json")
        )  # A/B: a second alias, the first stays
        assert (again["before"], again["alias"]) == (None, f"{two.name}-ab")
        likeness = rows(
            await command(
                "index", "compare", two.name, f"{two.name}-ab", "--queries", str(queries), "-k", "5", "--json"
            )
        )
        assert (likeness["queries"], 0 < likeness["overlap"] < 1) == (2, True), likeness
        async with connect(two.settings.elasticsearch) as client:
            await client.indices.delete_alias(index=first_index, name=f"{two.name}-ab")

        await until(lambda: _no_lag(generations), 60, every_s=0.5)
        for extra in ({}, second):
            verified = await command("index", "verify", "--json", extra=extra)
            assert rows(verified)["documents"] == 400
        both = await generations()
        assert both[first_index]["documents"] == both[second_index]["documents"] == 400
        async with connect(two.settings.elasticsearch) as client:
            await client.indices.close(index=first_index)
            shut = await command("index", "rollback")
            assert (shut.returncode, f"{first_index} is closed: open it" in shut.stderr) == (3, True), shut.stderr
            await client.indices.open(index=first_index)
            assert rows(await command("index", "rollback", "--json"))["index"] == first_index
            await client.indices.close(index=first_index)
            shut = await command("index", "promote", "--json")
            (told,) = [gate["told"] for gate in rows(shut, code=3)["gates"] if not gate["passed"]]
            assert f"{first_index} is closed: open it" in told, told
            assert "--unchecked goes on without" in told, told
            assert rows(await command("index", "promote", "--unchecked", "--json"))["before"] == first_index
        assert await asyncio.to_thread(old.terminate) == 0
        assert "dropped" in (await command("index", "drop", first_index, "--yes")).stdout
        gone = await command("index", "rollback")
        assert (gone.returncode, "was dropped" in gone.stderr) == (3, True), gone.stderr
        assert await asyncio.to_thread(new.terminate) == 0

    asyncio.run(scenario())


async def _sees(seen: dict[str, int], index: str) -> bool:
    return index in seen


async def _no_lag(generations: Any) -> bool:
    return all(row["lag"] == 0 for row in (await generations()).values())


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
        early = two.command("index", "promote", again, "--wait", "0")
        assert (early.returncode, "FAIL  rebuild" in early.stdout) == (3, True), early.stdout
        async with connect(two.settings.elasticsearch) as client:  # as if it was killed a moment after it had made them
            await client.indices.delete_alias(index=f"{again}*", name=f"{again}-*write-*")
        done = rows(two.command("index", "rebuild", "--json"))
        assert (done["index"], done["group"], done["resumed"]) == (again, f"{two.name}-2", True)
        assert (done["from_topic"], done["changing"]) == (0, 0), done
        assert 0 < done["from_index"] < 120  # the rest was done before the kill
        assert await texts(again) == await texts(index)
        assert await versions(again) == await versions(index)

        await two.produce([(b"later", {"text": "later"})])
        await two.settled(worker=worker)
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


def test_the_runbook_leads_to_another_model_back_and_to_an_index_built_again(two_on_8: World, tmp_path: Path) -> None:
    two, queries = two_on_8, tmp_path / "questions.txt"
    queries.write_text(f"{SURE}\n")
    first, second = f"{two.name}-all-minilm-l6-v2-000001", f"{two.name}-{SECOND}-000002"
    names = {
        "NEW-MODEL": SECOND,
        "penstock-new": f"{two.name}-new",
        "--queries questions.txt": f"--queries {queries} --min-overlap 0.1",
        "documents-all-minilm-l6-v2-000001": first,
    }

    def serving() -> str:
        return str(rows(two.command("index", "status", "--json"))["index"]["index"])

    async def scenario() -> None:
        await two.create(partitions=2)
        await two.produce((f"doc-{n}".encode(), {"text": text(n) if n else SURE}) for n in range(60))
        old = two.start_worker()
        await two.settled(worker=old)
        (new,) = await two.follow("Change the model", names)
        assert serving() == second
        await two.follow("A bad model was promoted")
        assert serving() == first
        assert await asyncio.to_thread(new.terminate) == 0
        assert two.command("index", "drop", second, "--yes").returncode == 0
        (again,) = await two.follow(
            "Build the index again, beside the one that serves", {"penstock-2": f"{two.name}-2"}
        )
        assert serving() == f"{two.name}-all-minilm-l6-v2-000002"
        assert await asyncio.to_thread(old.terminate) == 0
        await two.follow("Change the model", names, block=1)
        assert await asyncio.to_thread(again.terminate) == 0

    asyncio.run(scenario())


async def _has(settings: Settings, index: str, documents: int) -> bool:
    async with connect(settings.elasticsearch) as client:
        if not await client.indices.exists(index=f"{index}-registry"):
            return False
        await client.indices.refresh(index=f"{index}-registry")
        return int((await client.count(index=f"{index}-registry"))["count"]) >= documents


def test_a_rebuild_keeps_what_compaction_took_from_the_topic(world: World) -> None:
    """A deletion whose tombstone is gone before the record on the partition that the key was on; a document whose newer
    record is a dead letter; and an open letter whose record is gone."""

    async def texts(name: str) -> dict[str, str]:
        found = await scan(world.settings, name)
        return {row["metadata"]["doc_id"]: row["text"] for row in found.values() if not row["penstock"]["stub"]}

    async def scenario() -> None:
        await world.create(partitions=1, configs=COMPACTED)
        await world.produce([(b"secret", {"text": "first"}), (b"kept", {"text": "good"}), (b"lettered", b"{")])
        await world.settled(worker=(worker := world.start_worker()))
        await world.produce([(b"kept", b"{"), (b"lettered", b"[")])
        await world.settled(worker=worker)
        assert worker.terminate() == 0
        async with log_reader(world.settings) as reader, connect(world.settings.elasticsearch) as client:
            await reader.grow_topic(world.name, 2)
            assert world.command("index", "epoch", "bump", "--why", "a test").returncode == 0
            registry = (await snapshot(world, client)).partition(",")[2]
            await world.produce([(b"secret", None)], partition=1)
            await world.settled(worker=(worker := world.start_worker()))

            async def compacted() -> bool:
                """The head of the log is left alone: something has to come after."""
                for partition in range(2):
                    await world.produce([(f"busy-{partition}".encode(), {"text": "busy"})], partition=partition)
                left = [(row.partition, row.offset) for row in await read_topic(world.settings, world.name)]
                return (1, 0) not in left and [offset for number, offset in left if not number][:3] == [0, 3, 4]

            await until(compacted, every_s=1)
            await world.settled(worker=worker)
            await restore(world, client, registry)
        worker = world.workers[-1]
        told = rows(world.command("index", "verify", "--json", "--repair"))
        assert told["kinds"].get("version ahead"), told  # the deletion, which the registry no longer knows
        told = rows(world.command("index", "verify", "--json"))
        assert (told["clean"], told["kinds"]) == (True, {"no record": 1}), told
        served = await texts(world.name)
        assert served.keys() == {"kept", "busy-0", "busy-1"}
        vacuumed = rows(world.command("index", "vacuum", "--before", "0s", "--json"))
        assert (vacuumed["entries"], vacuumed["kept"]) == (0, 1), vacuumed
        rebuilt = rows(world.command("index", "rebuild", "--json"))
        assert (rebuilt["letters"], rebuilt["damaged"]) == (1, []), rebuilt
        assert worker.terminate() == 0
        own = of_group(world, rebuilt["group"])
        await world.settled_as(own, worker := world.start_worker(own))
        promoted = world.command("index", "promote", rebuilt["index"])
        assert promoted.returncode == 0, (promoted.stdout, promoted.stderr)
        assert await texts(world.name) == served
        checked = world.command("index", "verify", extra=own)
        assert checked.returncode == 0, checked.stdout
        assert world.command("index", "drop", f"{world.name}-all-minilm-l6-v2-000001", "--yes").returncode == 0
        assert world.command("dlq", "purge", "--yes", extra=own).returncode == 0
        still = rows(world.command("dlq", "list", "--json", extra=own))
        assert sorted(row["offset"] for row in still["letters"] if row["standing"] == "open") == [2, 3, 4], still

        assert worker.terminate() == 0
        await world.produce([(b"busy-1", None)], partition=1)

        async def tombstone_gone() -> bool:
            await world.produce([(b"after", {"text": "after"})], partition=1)
            left = {(row.partition, row.key) for row in await read_topic(world.settings, world.name)}
            return (1, b"busy-1") not in left

        await until(tombstone_gone, every_s=1)
        early = rows(world.command("index", "verify", "--json", extra=own))
        assert early["kinds"] == {"no record": 2}, early  # there is lag: its newest record may be among that
        await world.settled_as(own, world.start_worker(own))
        assert "busy-1" in await texts(world.name)
        found = rows(world.command("index", "verify", "--json", extra=own), code=1)
        assert found["kinds"] == {"no record": 1, "deleted meanwhile": 1}, found
        mended = world.command("index", "verify", "--repair", extra=own)
        assert mended.returncode == 0, mended.stdout
        assert (await texts(world.name)).keys() == {"kept", "busy-0", "after"}
        assert rows(world.command("index", "verify", "--json", extra=own))["kinds"] == {"no record": 1}

    asyncio.run(scenario())


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
