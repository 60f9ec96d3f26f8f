"""What the stages do with a model that changes, over ports in memory."""

import asyncio
from pathlib import Path

import orjson
import pytest

from agents.fail_points import FailPoints
from agents.indexing.budget import Budget
from agents.indexing.stages import Parts, Stages, Way
from agents.metrics import Metrics
from agents.worker.startup import SEEN_S
from models.memory import MemoryEmbedder, vector_of
from streams.document_vector import FIELD
from streams.epochs import Epochs
from streams.errors import ModelChangedError
from streams.memory import MemoryChunks, MemoryDeadLetters, MemoryEntries
from streams.plan import FieldNames, Space
from streams.protocol import Target, Work
from streams.record import Record
from streams.split import SplitRules

TEXTS = ("a penstock", "leads water", "to the turbine")


class Bench:
    """Stages, and what they write."""

    def __init__(self) -> None:
        self.embedder, self.chunks, self.metrics = MemoryEmbedder(), MemoryChunks(), Metrics()
        self.parts = Parts(
            ways=[
                Way(
                    space=Space(model="m", dims=2, names=FieldNames(document=FIELD)),
                    rules=SplitRules(max_chars=1000, overlap_chars=0, max_tokens=1000),
                    embedder=self.embedder,
                )
            ],
            epochs=Epochs(),
            target=Target(chunk_index_uuid="u"),
            registry=MemoryEntries(),
            chunks=self.chunks,
            dead_letters=MemoryDeadLetters(),
            budget=Budget(10**9),
            metrics=self.metrics,
            fail_points=FailPoints(),
        )
        self.stages = Stages(self.parts)

    async def begun(self, offset: int, *texts: str) -> list[Work]:
        """Of one record."""
        value = orjson.dumps({"chunks": [{"text": text} for text in texts]})
        record = Record(topic="t", partition=0, offset=offset, timestamp_ms=0, key=b"doc", value=value)
        works = [self.stages.work_of(record)]
        await self.stages.prepare(works)
        await self.stages.begin(works)
        return works

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"model": "m"})


def test_what_a_swapped_model_gave_is_not_written_nor_what_comes_after_it() -> None:
    bench = Bench()

    async def scenario() -> None:
        works = await bench.begun(0, *TEXTS)
        await bench.stages.embed(works)
        await bench.stages.write(works)
        right = dict(bench.chunks.rows)
        assert len(right) == len(TEXTS)
        assert (bench.value("penstock_canary_cosine"), bench.value("penstock_model_changed")) == (1, None)
        bench.embedder.model = lambda text: vector_of(text)[::-1]
        works = await bench.begun(1, *TEXTS, "more")
        with pytest.raises(ModelChangedError) as caught:
            await bench.stages.embed(works)
        assert bench.value("penstock_canary_cosine") == caught.value.cosine < 0.1
        assert bench.value("penstock_model_changed") == 1
        bench.embedder.model = vector_of  # itself again, for now
        for again in (bench.stages.embed(works), bench.stages.write(works), bench.stages.prove()):
            with pytest.raises(ModelChangedError):
                await again
        assert bench.chunks.rows == right
        assert bench.value("penstock_canary_cosine") == caught.value.cosine

    asyncio.run(scenario())


def test_a_batch_that_waits_to_be_written_is_not_when_the_model_proves_wrong_meanwhile() -> None:
    bench = Bench()

    async def scenario() -> None:
        works = await bench.begun(0, *TEXTS)
        await bench.stages.embed(works)
        bench.embedder.model = lambda text: vector_of(text)[::-1]
        with pytest.raises(ModelChangedError):
            await bench.stages.prove()
        with pytest.raises(ModelChangedError):
            await bench.stages.write(works)
        assert bench.chunks.rows == {}

    asyncio.run(scenario())


def test_a_changed_document_s_own_vector_is_of_all_its_chunks_embedded_or_read_back() -> None:
    bench = Bench()

    async def scenario() -> None:
        for offset, texts in enumerate((TEXTS, (*TEXTS[:2], "to a longer turbine"))):
            works = await bench.begun(offset, *texts)
            await bench.stages.embed(works)
            assert works[0].known == (set(), {0, 1})[offset]
            await bench.stages.write(works)
            rows = [bench.chunks.rows[f"doc#{number}"].source for number in range(3)]
            total = sum(len(text) * vector_of(text)[1] for text in texts) / sum(map(len, texts))
            own = rows[0][FIELD]
            assert own[1] / own[0] == pytest.approx(total, rel=1e-5)
            assert not any(FIELD in row for row in rows[1:])

    asyncio.run(scenario())


def test_what_was_embedded_is_remembered_by_document() -> None:
    bench = Bench()

    async def scenario() -> None:
        works = await bench.begun(0, *TEXTS)
        await bench.stages.embed(works)

    asyncio.run(scenario())
    moments = bench.parts.ways[0].moments
    assert (moments._all.chunks, moments._all.pairs) == (3, 2)


def test_a_worker_that_ends_for_its_model_stays_long_enough_to_be_scraped() -> None:
    """`ops/prometheus` and the worker agree."""
    config = (Path(__file__).parents[3] / "ops" / "prometheus" / "prometheus.yml").read_text()
    assert "scrape_interval: 15s" in config
    assert SEEN_S > 15
