"""`penstock index verify`: finds every kind of planted damage, and mends it."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from elasticsearch import AsyncElasticsearch

from agents.elastic.client import connect
from agents.kafka.dead_letters import DEAD_LETTER_CONFIG
from agents.kafka.reader import log_reader
from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World
from tests.kit.oracle import assert_true
from tests.stack.test_faults import text

MODEL_SPEED = "fast"

EXPECTED = {
    "missing chunk": 1,
    "stubbed chunk": 1,
    "orphan chunk": 2 + 3,  # two planted, and those of the document that was never rejected
    "wrong text": 1,
    "wrong hash": 1,
    "wrong place": 2,
    "wrong flags": 3,
    "wrong model": 1,
    "wrong vector": 2,  # another text has another vector, too
    "left writing": 1,
    "missing entry": 2,
    "stale entry": 1,
    "version ahead": 3,  # of the stale entry's chunks
    "wrong entry": 1,
    "dead letter missing": 2,
}


class Damage:
    """Changes rows behind Penstock's back, chunks at the versions that they have."""

    def __init__(self, client: AsyncElasticsearch, index: str) -> None:
        self.client = client
        self.index = index

    async def chunk(self, key: str, **changes: Any) -> None:
        """`penstock__stub=True` changes `penstock.stub`."""
        row = await self.client.get(index=self.index, id=key, source_includes="*,vector")
        source = row["_source"]
        for name, value in changes.items():
            inner, _, field = name.rpartition("__")
            (source[inner] if inner else source)[field] = value
        await self.put(key, source, row["_version"])

    async def put(self, key: str, source: Any, version: int) -> None:
        await self.client.index(index=self.index, id=key, document=source, version=version, version_type="external_gte")

    async def entry(self, doc: str, **changes: Any) -> None:
        registry = f"{self.index}-registry"
        source = (await self.client.get(index=registry, id=doc))["_source"]
        await self.client.index(index=registry, id=doc, document=source | changes)

    async def all(self) -> None:
        """One of each kind."""
        (version,) = [(await self.client.get(index=self.index, id="d-1#0"))["_version"]]
        await self.client.delete(index=self.index, id="d-1#0", version=version, version_type="external_gte")
        row = await self.client.get(index=self.index, id="d-2#1", source_includes="*,vector")
        stub = {"metadata": {"doc_id": "d-2", "chunk": 1}, "penstock": row["_source"]["penstock"] | {"stub": True}}
        await self.put("d-2#1", stub, row["_version"])
        for doc in ("d-3", "ghost"):
            extra = row["_source"] | {"metadata": row["_source"]["metadata"] | {"doc_id": doc, "chunk": 9}}
            await self.put(f"{doc}#9", extra, 1)
        await self.chunk("d-4#0", text="Somebody wrote this.")
        await self.chunk("d-5#0", penstock__chunk_hash="0" * 64)
        await self.chunk("d-6#0", metadata__start=1)
        await self.chunk("d-16#0", metadata__heading="B")
        await self.chunk("d-17#0", penstock__flags=["mojibake"])
        await self.chunk("d-18#0", metadata__language="de")
        await self.chunk("d-19#0", penstock__signature="AAA=")
        await self.chunk("d-7#0", penstock__model="another")
        await self.chunk("d-8#0", vector=row["_source"]["vector"][::-1])
        await self.entry("d-9", state="writing")
        await self.client.delete(index=f"{self.index}-registry", id="d-10")
        version = (await self.client.get(index=f"{self.index}-registry", id="d-11"))["_source"]["version"]
        await self.entry("d-11", version=version - 1, content_hash="old")
        await self.entry("d-12", n=9, hi=9)
        await self.entry("d-13", chunk_index_uuid="of an index that is gone")
        await self.entry("d-14", state="rejected", n=0)
        await self.client.indices.close(index=self.index)  # versions of deleted ids are remembered for a minute
        await self.client.indices.open(index=self.index, wait_for_active_shards="1")


def test_planted_damage_is_found_and_mended(world: World, embedder: OnnxEmbedder, tmp_path: Path) -> None:
    async def scenario() -> None:
        world.split_at(120, 20)
        await world.create(partitions=2)
        pages = [{"start": 0, "end": 60, "page": 1, "heading": "A"}, {"start": 60, "end": 90, "page": 2}]
        await world.produce(
            (f"d-{i}".encode(), {"text": text(i, 6), "sections": pages if i > 15 else []}) for i in range(30)
        )
        await world.produce([(b"bad", b"{"), (b"d-29", {"text": "It shrank."})])
        worker = world.start_worker()
        await world.settled(worker=worker)
        clean, code = verified(world)
        assert (code, clean["clean"], clean["kinds"], clean["documents"]) == (0, True, {}, 30)
        async with connect(world.settings.elasticsearch) as client:
            (index,) = await client.indices.get_alias(name=world.name)
            await Damage(client, index).all()
        await lose_dead_letters(world)

        found, code = verified(world, "--metrics", str(tmp_path / "verify.prom"))
        assert (code, found["kinds"]) == (1, EXPECTED), found["findings"]
        told = [finding["what"] for finding in found["findings"] if finding["kind"] == "wrong vector"]
        assert all(
            re.fullmatch(r"not its text's: cosine -?[01]\.\d+, needed 0\.999, at \d+ tokens", what) for what in told
        )
        assert sum(row["wrong"] for row in found["widths"].values()) == 2
        assert sum(row["vectors"] for row in found["widths"].values()) == found["vectors"]
        assert 'penstock_verify_findings{kind="wrong text"} 1.0' in (tmp_path / "verify.prom").read_text()
        mended, code = verified(world, "--repair")
        assert (code, mended["kinds"]) == (0, EXPECTED), mended
        assert mended["after_repair"]["kinds"] == {}
        assert verified(world)[1] == 0
        await assert_true(world, embedder)

    asyncio.run(scenario())


async def lose_dead_letters(world: World) -> None:
    """The topic is deleted, and made anew empty."""
    topic = world.settings.dead_letter_topic
    await world.delete_topic(topic)
    async with log_reader(world.settings) as reader:
        await reader.create_topic(topic, 1, DEAD_LETTER_CONFIG)


def verified(world: World, *arguments: str) -> tuple[Any, int]:
    """What `penstock index verify --json` printed, and its exit code."""
    done = world.command("index", "verify", "--json", "--sample", "1000", *arguments)
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done.returncode
