"""What embedding costs, over ports in memory: of each document its part, exact, whether it is written or not."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from agents.fail_points import FailPoints
from agents.indexing.budget import Budget
from agents.indexing.meter import Meter
from agents.indexing.stages import Parts, Stages, Way
from agents.metrics import Metrics
from models.embedder import Embedding
from models.memory import MemoryEmbedder
from streams.batch_size import BatchSize
from streams.cost import Price, Used
from streams.epochs import Epochs
from streams.memory import MemoryChunks, MemoryDeadLetters, MemoryEntries
from streams.plan import FieldNames, Space
from streams.protocol import Target, Work
from streams.record import Record
from streams.split import SplitRules

NOON = 1_764_504_000.0
"""2025-11-30."""


class Priced(MemoryEmbedder):
    """Uses seven tokens more than its texts have, and a request."""

    async def embed(self, tokens: Sequence[Any]) -> Embedding:
        made = await super().embed(tokens)
        made.used = made.used.plus(Used(tokens=7, requests=1))
        return made


class Bench:
    """Stages with a meter, batches of two chunks."""

    def __init__(self) -> None:
        self.now, self.metrics = NOON, Metrics()
        self.meter = Meter({"m": Price(million_tokens=10**6, request=5)}, self.metrics, lambda: self.now)
        self.stages = Stages(
            Parts(
                ways=[
                    Way(
                        space=Space(model="m", dims=2, names=FieldNames()),
                        rules=SplitRules(max_chars=1000, overlap_chars=0, max_tokens=1000),
                        embedder=Priced(),
                        batch=BatchSize(start=2, least=2, most=2),
                    )
                ],
                epochs=Epochs(),
                target=Target(chunk_index_uuid="u"),
                registry=MemoryEntries(),
                chunks=MemoryChunks(),
                dead_letters=MemoryDeadLetters(),
                budget=Budget(10**9),
                metrics=self.metrics,
                fail_points=FailPoints(),
                meter=self.meter,
            )
        )

    async def through(self, *documents: tuple[str, tuple[str, ...]], offset: int = 0) -> list[Work]:
        """All stages; each document is (id, chunks)."""
        records = [
            Record(
                topic="t",
                partition=0,
                offset=offset + place,
                timestamp_ms=0,
                key=key.encode(),
                value=orjson.dumps({"chunks": [{"text": text} for text in texts]}),
            )
            for place, (key, texts) in enumerate(documents)
        ]
        works = [self.stages.work_of(record) for record in records]
        await self.stages.prepare(works)
        await self.stages.through(works)
        return works

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def test_each_document_has_its_part_by_tokens_and_all_parts_are_the_whole() -> None:
    bench = Bench()

    async def scenario() -> None:
        works = await bench.through(("s3://b/a", ("ab", "abcd", "abcdef")), ("doc", ("x",)))
        # two slices of 2 chunks: 6 + 7 tokens, 7 + 7 tokens, and a request each
        assert [work.spend.cost for work in works] == [13 + 5 + (14 + 5) * 6 // 7, 3]
        assert bench.meter.charged == {"2025-11-30": 13 + 5 + 14 + 5}
        (row,), (other,) = (work.spend.rows for work in works)
        assert row[:4] == ("2025-11-30", "m", "default", "s3://b")
        assert (row.tokens, row.documents) == (13 + 12, 1)
        assert (other.source, other.tokens, other.documents) == ("(none)", 2, 1)
        assert bench.sample("penstock_cost_total", model="m", route="default") == pytest.approx(37e-9)
        assert bench.sample("penstock_model_tokens_total", model="m") == 27
        assert bench.sample("penstock_document_cost_count") == 2
        assert bench.sample("penstock_document_cost_sum") == pytest.approx(37e-9)
        assert bench.meter.in_flight == 0

    asyncio.run(scenario())


def test_what_is_read_back_or_unchanged_costs_nothing_and_days_are_told_apart() -> None:
    bench = Bench()

    async def scenario() -> None:
        await bench.through(("a", ("one", "two")))
        bench.now += 86_400
        (again,) = await bench.through(("a", ("one", "two")), offset=1)
        (edited,) = await bench.through(("a", ("one", "three")), offset=2)
        assert not again.spend
        assert [(row.day, row.tokens) for row in edited.spend.rows] == [("2025-12-01", 5 + 7)]
        assert bench.sample("penstock_document_cost_count") == 2

    asyncio.run(scenario())


def test_a_run_that_may_not_begin_is_given_up_with_its_batch() -> None:
    bench, asked = Bench(), list[int]()

    class Closed:
        async def room(self, expected: int) -> bool:
            asked.append(expected)
            return len(asked) < 3

        async def affords(self, _: int) -> bool:
            return True

    bench.meter.gate = Closed()

    async def scenario() -> None:
        works = [
            bench.stages.work_of(
                Record(topic="t", partition=0, offset=0, timestamp_ms=0, key=b"a", value=orjson.dumps({"chunks": rows}))
            )
            for rows in [[{"text": "x" * size} for size in (1, 2, 30, 40, 5)]]
        ]
        await bench.stages.prepare(works)
        await bench.stages.begin(works)
        assert not await bench.stages.embed(works)
        assert asked[0] == 3 + 5, "by its price, before anything is known"
        assert asked[1] == 70 + 5, "the first run bears what a start costs"
        assert asked[2] == round((70 + 7 + 5) / 70 * 5), "and from then on as it was of late"
        assert works[0].spend.cost == bench.meter.charged.total() == 15 + 70 + 7 + 5
        assert bench.meter.in_flight == 0

    asyncio.run(scenario())
