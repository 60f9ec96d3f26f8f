"""Documents of one topic in two models' fields: true through edits that move them, found by both, built anew."""

import asyncio
import json
from typing import Any

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from agents.settings.sections import RouteSettings
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World, scan
from tests.kit.oracle import assert_true
from tests.kit.two_models import SECOND, of_group, rows
from tests.stack.test_faults import text
from tests.stack.test_verify import Damage, verified

MODEL_SPEED = "fast"
FIELD = f"vector_{SECOND}"
KIND = ("kind", b"faq")
FAQ = RouteSettings(name="faq", model=SECOND, header={"kind": ("faq",)})


def short(max_chars: int) -> RouteSettings:
    return RouteSettings(name="short", model=SECOND, max_chars=max_chars)


def filled(world: World) -> None:
    """Of each length some, and one that its header sends to the other model."""
    world.split_at(120, 20)
    world.with_document_vectors()
    world.route(FAQ, short(60))

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"long-{n}".encode(), {"text": text(n, 6)}) for n in range(20))
        await world.produce((f"short-{n}".encode(), {"text": f"Weir number {n} is open."}) for n in range(20))
        await world.produce([(b"faq", {"text": text(99, 6), "title": "Often asked"})], headers=[KIND])
        await world.settled(worker=world.start_worker())

    asyncio.run(scenario())


async def ways(world: World, index: str = "") -> dict[str, set[tuple[str, str]]]:
    """By document: route and model of each of its chunks."""
    found: dict[str, set[tuple[str, str]]] = {}
    for row in (await scan(world.settings, index or world.name)).values():
        if not row["penstock"]["stub"]:
            way = row["penstock"]["route"], row["penstock"]["model"]
            found.setdefault(row["metadata"]["doc_id"], set()).add(way)
    return found


def test_an_edit_that_moves_a_document_leaves_no_old_vector_behind(two: World, embedder: OnnxEmbedder) -> None:
    filled(two)
    default, other = ("default", two.settings.model.name), ("short", SECOND)

    async def scenario() -> None:
        (worker,) = two.workers
        await assert_true(two, embedder)
        before = await ways(two)
        assert (before["long-1"], before["short-1"], before["faq"]) == ({default}, {other}, {("faq", SECOND)})
        grown, shrunk = "Weir number 1 is open. " * 12, "Closed."
        await two.produce([(b"short-1", {"text": grown}), (b"long-1", {"text": shrunk}), (b"short-2", None)])
        # the same text another way and back: nothing but a header tells them apart
        await two.produce([(b"long-2", {"text": text(2, 6)}), (b"short-3", {"text": "Weir number 3 is open."})])
        await two.produce([(b"long-3", {"text": text(3, 6)})], headers=[KIND])
        await two.produce([(b"faq", {"text": text(99, 6), "title": "Often asked"})])
        await two.produce([(b"long-4", {"text": ""}), (b"long-4", {"text": "Anew."}), (b"short-4", {"text": grown})])
        await two.produce([(b"short-4", {"text": "Weir number 4 is open."})])
        await two.settled(worker=worker)
        after = await ways(two)
        assert after["short-1"] == after["faq"] == {default}
        assert after["long-1"] == after["long-4"] == after["short-4"] == {other}
        assert after["long-3"] == {("faq", SECOND)}
        assert "short-2" not in after
        assert worker.metrics()['penstock_records_total{outcome="unchanged"}'] >= 2
        await assert_true(two, embedder)

    asyncio.run(scenario())
    for query, doc in (("Weir number 7 is open.", "short-7"), (text(9, 6), "long-9")):
        for documents in ([], ["--documents"]):
            found = json.loads(two.command("search", "--json", "-k", "4", *documents, query).stdout)
            assert doc in {hit["metadata"]["doc_id"] for hit in found}, (query, documents, found)
    like = json.loads(two.command("search", "--json", "-k", "30", "--like", "short-7").stdout)
    assert "short-7" not in {hit["id"] for hit in like}
    assert len({hit["id"] for hit in like}) == len(like)
    assert f"route: short, model {SECOND}\n" in two.command("config", "try", "-n", "20").stdout


def test_damage_in_any_field_is_found_and_mended(two: World, embedder: OnnxEmbedder) -> None:
    filled(two)

    async def scenario() -> None:
        clean, code = verified(two)
        assert (code, clean["kinds"]) == (0, {}), clean
        async with connect(two.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=two.name)
            right: dict[str, Any] = {
                key: await client.get(index=index, id=key, source_includes="*,vector*")
                for key in ("short-5#0", "long-5#1")
            }
            damage = Damage(client, index)
            # a vector of the other model's, in the field of this one's
            one, another = (right[key]["_source"] for key in ("short-5#0", "long-5#1"))
            for key, changed in (
                ("short-5#0", {**one, FIELD: another["vector"]}),
                ("long-5#1", {**{k: v for k, v in another.items() if k != "vector"}, FIELD: another["vector"]}),
            ):
                await damage.put(key, changed, right[key]["_version"])
        found, code = verified(two)
        assert code == 1
        assert {row["where"] for row in found["findings"]} >= {"short-5#0", "long-5#1"}, found
        mended, code = verified(two, "--repair")
        assert code == 0, mended
        await assert_true(two, embedder)

    asyncio.run(scenario())


def test_other_routes_are_another_contract_and_a_rebuild_embeds_what_they_move(
    two: World, embedder: OnnxEmbedder
) -> None:
    filled(two)
    moved = {"PENSTOCK_ROUTE": json.dumps([r.model_dump(mode="json", exclude_defaults=True) for r in (FAQ, short(22))])}

    async def scenario() -> None:
        refused = two.start_worker(moved)
        assert await refused.ended() == 3
        assert "routes.2.when.max_chars: index 60, worker 22" in refused.log.read_text(), refused.log.read_text()
        before = await ways(two)
        async with log_reader(two.settings) as reader:
            (asked,) = (one for one in two.produced if one.key == b"faq")
            bounds = await reader.bounds(two.name, [asked.partition])
            await reader.delete_before(two.name, {asked.partition: bounds[asked.partition].end})  # chunks say it all
        done = await asyncio.to_thread(two.command, "index", "rebuild", "--json", extra=moved)
        built = rows(done)
        after = await ways(two, built["index"])
        changed = {doc for doc, way in after.items() if way != before[doc]}
        assert changed == {f"short-{n}" for n in range(10, 20)}, "Weir number 10 … has 23 characters"
        assert (built["embedded"], built["from_index"] > 10) == (len(changed), True), built
        assert built["reused"] == sum(not row["penstock"]["stub"] for row in (await two.chunks()).values()) - 10, built
        here = {**of_group(two, built["group"]), **moved}
        follower = two.start_worker(here)
        await two.ready(follower)
        promoted = await asyncio.to_thread(two.command, "index", "promote", built["index"], extra=moved)
        assert promoted.returncode == 0, (promoted.stdout, promoted.stderr)
        found = rows(two.command("index", "verify", "--sample", "1000", "--json", extra=here))
        assert (found["clean"], found["kinds"].keys(), found["vectors"] > 40) == (True, {"no record"}, True), found

    asyncio.run(scenario())
