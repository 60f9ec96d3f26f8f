"""Documents' own vectors: true through edits, deletions, repairs and rebuilds; searched by, and found to be damaged."""

import asyncio
import json
from typing import Any

import numpy as np

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from models.onnx.embedder import OnnxEmbedder
from streams.document_vector import FIELD
from tests.kit.harness import World
from tests.kit.oracle import assert_true, stored_vectors
from tests.stack.test_faults import text
from tests.stack.test_verify import Damage, verified

MODEL_SPEED = "fast"

WHALES = "The blue whale is the largest animal of the sea. Whales sing, and breathe air. Their calves drink milk. "
TURBINES = (
    "A turbine turns the power of water into rotation. A penstock leads water to the turbine. A weir holds it up. "
)
SEALS = "A seal is a mammal of the sea, as whales are; it breathes air, and its pups drink milk on the ice. "


def filled(world: World) -> None:
    """A world of documents of one to some chunks."""
    world.split_at(120, 20)
    world.with_document_vectors()

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce(
            [
                (b"whales", {"text": WHALES * 3, "title": "Whales"}),
                (b"seals", {"text": SEALS, "title": "Seals"}),
                (b"turbines", {"text": TURBINES * 2, "title": "Turbines"}),
                *((f"d-{i}".encode(), {"text": text(i, 6)}) for i in range(12)),
            ]
        )
        await world.settled(worker=world.start_worker())

    asyncio.run(scenario())


def test_a_document_s_vector_is_true_through_its_life(world: World, embedder: OnnxEmbedder) -> None:
    filled(world)
    asyncio.run(life(world, embedder))


async def life(world: World, embedder: OnnxEmbedder) -> None:
    (worker,) = world.workers
    await assert_true(world, embedder)
    before = worker.metrics()
    # one chunk of many, the last, changes: the first is written again with another mean, and not embedded again
    await world.produce([(b"whales", {"text": WHALES * 3 + "Krill is what they eat.", "title": "Whales"})])
    await world.settled(worker=worker)
    after = worker.metrics()
    assert after["penstock_chunks_embedded_total"] - before["penstock_chunks_embedded_total"] <= 2
    assert after['penstock_chunks_skipped_total{reason="reused"}'] > 0
    await assert_true(world, embedder)
    # the same content again, one that shrinks, one that goes, one that comes back
    await world.produce([(b"seals", {"text": SEALS, "title": "Seals"}), (b"d-1", {"text": "short"}), (b"d-2", None)])
    await world.produce([(b"d-3", b""), (b"d-3", None), (b"d-3", {"text": text(3, 9)})])
    await world.settled(worker=worker)
    await assert_true(world, embedder)

    found = hits(world, "--documents", "mammals of the sea", "-k", "3")
    assert {hit["id"] for hit in found[:2]} == {"whales", "seals"}
    assert found[0].keys() == {"score", "id", "text", "metadata", "penstock"}
    assert len({hit["id"] for hit in found}) == 3, "each once"
    like = hits(world, "--like", "whales", "-k", "2")
    assert like[0]["id"] == "seals"
    assert "whales" not in {hit["id"] for hit in like}
    assert not {"d-2"} & {hit["id"] for hit in hits(world, "--documents", text(2, 6), "-k", "20")}
    shown = world.command("search", "--like", "whales", "-k", "1").stdout
    assert "Seals" in shown
    assert "seals 1 chunk\n" in shown
    for missing in ("d-2", "nobody"):
        done = world.command("search", "--like", missing)
        assert (done.returncode, f"has no document {missing}, or it was deleted" in done.stderr) == (1, True)


def hits(world: World, *arguments: str) -> Any:
    done = world.command("search", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_damage_is_found_and_mended_from_the_topic_and_from_the_chunks(world: World, embedder: OnnxEmbedder) -> None:
    filled(world)

    async def scenario() -> None:
        for repaired_from in ("the topic", "the chunks"):
            clean, code = verified(world)
            assert (code, clean["kinds"], clean["document_vectors"]) == (0, {}, 15), clean
            async with connect(world.settings.elasticsearch) as client:
                (index,) = await client.indices.get_alias(name=world.name)
                damage = Damage(client, index)
                other = (await stored_vectors(world, ["seals#0"], FIELD))["seals#0"]
                await damage_mean(damage, "whales", other.tolist())
                await damage_mean(damage, "d-4", None)
                await damage_mean(damage, "d-5", None)
            found, code = verified(world, *([] if repaired_from == "the topic" else ["--sample", "0"]))
            wrong = {row["where"]: row["what"] for row in found["findings"]}
            assert code == 1
            assert wrong.pop("whales#0", "not the mean").startswith("not the mean")
            assert wrong == {"d-4#0": "there is none", "d-5#0": "there is none"}
            assert found["kinds"].keys() == {"wrong document vector"}
            if repaired_from == "the chunks":
                async with log_reader(world.settings) as reader:
                    bounds = await reader.bounds(world.name, range(2))
                    ends = {number: bound.end for number, bound in bounds.items()}
                    await reader.delete_before(world.name, ends)
                await spoil(world, "turbines#1")  # a chunk is embedded again, and the mean is another one then
            mended, code = verified(world, "--repair")
            assert (code, mended["after_repair"]["kinds"].get("wrong document vector")) == (0, None), mended
            await assert_true(world, embedder)

    asyncio.run(scenario())


async def damage_mean(damage: Damage, doc: str, vector: Any) -> None:
    row = await damage.client.get(index=damage.index, id=f"{doc}#0", source_includes=f"*,vector,{FIELD}")
    source = {name: value for name, value in row["_source"].items() if name != FIELD}
    await damage.put(f"{doc}#0", source | ({FIELD: vector} if vector else {}), row["_version"])


async def spoil(world: World, key: str) -> None:
    """Another vector, and with it a mean that is true of it."""
    async with connect(world.settings.elasticsearch) as client:
        (index,) = await client.indices.get_alias(name=world.name)
        row = await client.get(index=index, id=key, source_includes="*,vector")
        turned = np.asarray(row["_source"]["vector"])[::-1].tolist()
        await Damage(client, index).put(key, row["_source"] | {"vector": turned}, row["_version"])


def test_an_index_without_them_says_so_and_a_rebuild_gives_it_them(world: World, embedder: OnnxEmbedder) -> None:
    async def fill() -> None:
        world.split_at(120, 20)
        await world.create(partitions=2)
        await world.produce((f"d-{i}".encode(), {"text": text(i, 6)}) for i in range(20))
        worker = world.start_worker()
        await world.settled(worker=worker)
        assert await asyncio.to_thread(worker.terminate) == 0

    asyncio.run(fill())
    for arguments in (["--documents", "x"], ["--like", "d-1"]):
        done = world.command("search", *arguments)
        assert done.returncode == 2
        assert 'set split.document_vector = "mean", then `penstock index rebuild`' in done.stderr
    assert world.command("search", "x").returncode == 0
    world.with_document_vectors()
    refused = world.command("worker")
    assert refused.returncode == 3
    assert "split.document_vector: index absent, worker mean" in refused.stderr
    rebuilt = world.command("index", "rebuild", "--json")
    assert rebuilt.returncode == 0, rebuilt.stderr
    done = world.command("index", "promote", json.loads(rebuilt.stdout)["index"])
    assert done.returncode == 0, done.stderr
    assert hits(world, "--like", "d-1", "-k", "3")
    group = {"PENSTOCK_SOURCE__GROUP": json.loads(rebuilt.stdout)["group"]}
    done = world.command("index", "verify", "--json", extra=group)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["document_vectors"] == 20
