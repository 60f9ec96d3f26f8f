"""From one model to the next under load, and back."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agents.elastic.client import connect
from agents.settings import Settings
from tests.kit.harness import World, again_and_again, meanwhile, until
from tests.kit.two_models import SECOND, SURE, of_group, rows
from tests.stack.test_faults import text

DOCUMENTS = 80


@asynccontextmanager
async def load(world: World) -> AsyncIterator[None]:
    """New documents and changed ones all the time."""

    async def produce(turn: int) -> None:
        await world.produce([(f"doc-{1 + turn % (DOCUMENTS - 1)}".encode(), {"text": text(turn)})])

    async with again_and_again(produce, 0.5):
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
                await asyncio.sleep(0.3)

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
        await two.produce((f"doc-{n}".encode(), {"text": text(n) if n else SURE}) for n in range(DOCUMENTS))
        old = two.start_worker()
        await two.settled(worker=old)
        async with connect(two.settings.elasticsearch) as client:
            await client.indices.refresh(index=first_index)
        nothing = await command("index", "promote")
        assert (nothing.returncode, "no further index" in nothing.stderr) == (1, True), nothing.stderr
        alone = await command("index", "rollback")
        assert (alone.returncode, "is the first" in alone.stderr) == (3, True), alone.stderr
        seen: dict[str, int] = {}
        async with load(two), readers(two.settings, DOCUMENTS, seen):
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
            assert rows(verified)["documents"] == DOCUMENTS
        both = await generations()
        assert both[first_index]["documents"] == both[second_index]["documents"] == DOCUMENTS
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
