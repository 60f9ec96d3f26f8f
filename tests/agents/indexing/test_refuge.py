"""A budget that is used up sends documents to another model, and none of them back again, over ports in memory."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

from agents.fail_points import FailPoints
from agents.indexing.budget import Budget
from agents.indexing.meter import Meter
from agents.indexing.stages import Parts, Stages, Way
from agents.metrics import Metrics
from models.memory import MemoryEmbedder
from streams.cost import Price
from streams.epochs import Epochs
from streams.memory import MemoryChunks, MemoryDeadLetters, MemoryEntries
from streams.plan import FieldNames, Space
from streams.protocol import Target, Work
from streams.record import Record
from streams.routes import DEFAULT, Conditions, Route
from streams.split import SplitRules

ROUTE = Route(name="cheap", model="c", vector="vector_c", when=Conditions(metadata={"cheap": ("yes",)}))


class Bench:
    """Stages over one index, with a budget that is used up or not. `ended`: as of a process that was killed."""

    def __init__(self) -> None:
        self.spent = False
        self.asked: list[int] = []
        self.entries, self.chunks, self.metrics = MemoryEntries(), MemoryChunks(), Metrics()
        self.restart()

    def restart(self) -> None:
        """Another process."""
        meter = Meter({"m": Price(million_tokens=10**6)}, self.metrics)
        meter.gate = self
        self.embedders = {"m": MemoryEmbedder(), "c": MemoryEmbedder()}
        self.stages = Stages(
            Parts(
                ways=[
                    Way(
                        space=Space(model=name, dims=2, names=FieldNames(vector=vector)),
                        rules=SplitRules(max_chars=chars, overlap_chars=0, max_tokens=1000),
                        embedder=self.embedders[name],
                    )
                    for name, vector, chars in (("m", "vector", 10), ("c", "vector_c", 20))
                ],
                routes=[ROUTE],
                refuge=ROUTE.name,
                epochs=Epochs(),
                target=Target(chunk_index_uuid="u"),
                registry=self.entries,
                chunks=self.chunks,
                dead_letters=MemoryDeadLetters(),
                budget=Budget(10**9),
                metrics=self.metrics,
                fail_points=FailPoints(),
                meter=meter,
            )
        )

    async def room(self, _: int) -> bool:
        return True

    async def affords(self, expected: int) -> bool:
        self.asked.append(expected)
        return not self.spent

    async def prepared(self, offset: int, text: str | None, **metadata: str) -> list[Work]:
        body = None if text is None else orjson.dumps({"text": text, "metadata": metadata})
        record = Record(topic="t", partition=0, offset=offset, timestamp_ms=0, key=b"a", value=body)
        works = [self.stages.work_of(record)]
        await self.stages.prepare(works)
        return works

    async def through(self, offset: int, text: str | None, **metadata: str) -> Work:
        works = await self.prepared(offset, text, **metadata)
        await self.stages.through(works)
        return works[0]

    def fields(self) -> list[set[str]]:
        """The fields of vectors that each chunk has, in order; of stubs none."""
        rows = sorted(self.chunks.rows.items())
        return [set(row.source) & {"vector", "vector_c"} for _, row in rows if not row.source["penstock"]["stub"]]


TEXT = "one two three four five six"


def test_a_document_goes_to_the_refuge_whole_and_stays_while_it_says_the_same() -> None:
    bench = Bench()

    async def scenario() -> None:
        own = await bench.through(0, TEXT)
        assert (own.outcome, own.route, len(own.chunks)) == ("stored", DEFAULT, 3)
        bench.spent = True
        same = await bench.through(1, TEXT)
        assert same.outcome == "unchanged", "a budget moves nothing that is there"
        assert bench.fields() == [{"vector"}] * 3
        other = await bench.through(2, TEXT + "!")
        assert (other.outcome, other.route, len(other.chunks)) == ("stored", "cheap", 2)
        assert bench.fields() == [{"vector_c"}] * 2, "no chunk of the model before is left"
        bench.spent = False
        assert (await bench.through(3, TEXT + "!")).outcome == "unchanged", "nor does the next day"
        back = await bench.through(4, TEXT + "?")
        assert (back.route, bench.fields()) == (DEFAULT, [{"vector"}] * 3)
        bench.spent = True
        deleted = await bench.through(5, None)
        assert (deleted.outcome, bench.fields()) == ("stored", [])
        own_way = await bench.through(6, TEXT, cheap="yes")
        assert (own_way.route, bench.fields()) == ("cheap", [{"vector_c"}] * 2)

    asyncio.run(scenario())
    rerouted = bench.metrics.registry.get_sample_value("penstock_budget_rerouted_total")
    assert rerouted == 1
    assert len(bench.asked) == 5, "a deletion is not asked about, nor what is cheap anyway"


def test_a_crash_never_changes_the_model_of_a_record() -> None:
    async def crashed(bench: Bench, *, spent: bool, written: bool) -> Sequence[Work]:
        """Before its entry is done."""
        bench.spent = spent
        works = await bench.prepared(0, TEXT)
        await bench.stages.begin(works)
        await bench.stages.embed(works)
        if written:

            async def dies(*_: Any) -> None:
                raise InterruptedError

            swap, bench.entries.swap = bench.entries.swap, dies  # type: ignore[method-assign,assignment]
            with suppress(InterruptedError):
                await bench.stages.write(works)
            bench.entries.swap = swap  # type: ignore[method-assign]
        bench.restart()
        return works

    async def scenario() -> None:
        for spent in (False, True):
            for written in (False, True):
                bench = Bench()
                (before,) = await crashed(bench, spent=spent, written=written)
                bench.spent = not spent
                again = await bench.through(0, TEXT)
                assert (again.outcome, again.route, again.space.model) == ("stored", before.route, before.space.model)
                field, n = ("vector_c", 2) if spent else ("vector", 3)
                assert bench.fields() == [{field}] * n
                assert (await bench.through(0, TEXT)).outcome == "superseded", "what is done is settled"

    asyncio.run(scenario())


def test_a_record_that_the_refuge_refused_is_redriven_to_its_own_model() -> None:
    bench = Bench()

    async def scenario() -> None:
        bench.spent = True
        refused, late = await bench.prepared(0, TEXT), await bench.prepared(0, TEXT)
        for works in (refused, late):
            await bench.stages.begin(works)
            await bench.stages.embed(works)
        refused[0].reject("embed", "RefusedByService", "content filter")
        await bench.stages.write(refused)
        assert (refused[0].route, bench.fields()) == ("cheap", [])
        again = bench.stages.work_of(refused[0].record, 2)
        await bench.stages.prepare([again])
        bench.spent = False
        await bench.stages.through([again])
        assert (again.outcome, again.route, bench.fields()) == ("stored", DEFAULT, [{"vector"}] * 3)
        await bench.stages.write(late)
        assert bench.fields() == [{"vector"}] * 3, "who began it for the other model, and was slow, changes nothing"

    asyncio.run(scenario())


def test_a_verification_goes_by_the_model_that_the_entry_tells() -> None:
    bench = Bench()

    async def scenario() -> None:
        bench.spent = True
        await bench.through(0, TEXT)
        works = await bench.prepared(0, TEXT)
        assert works[0].space.model == "m"
        await bench.stages.as_stored(works)
        assert (works[0].space.model, len(works[0].chunks)) == ("c", 2)

    asyncio.run(scenario())
