"""`penstock index verify` beside workers: it is not misled by what they are about to do."""

import asyncio
import json

from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World
from tests.kit.oracle import assert_true
from tests.stack.test_faults import text
from tests.stack.test_verify import verified

MODEL_SPEED = "fast"


def test_workers_at_work_are_no_damage(world: World, embedder: OnnxEmbedder) -> None:
    async def scenario() -> None:
        await world.create(partitions=4)
        await world.produce((f"doc-{i % 150}".encode(), {"text": text(i, 1 + i % 4)}) for i in range(600))
        gate = world.gate()
        worker = world.start_worker(gate.environment)
        await world.held_in_the_middle(worker, gate)
        for _ in range(2):  # once while documents are half written, once while they change
            found, code = await asyncio.to_thread(verified, world)
            assert (code, found["kinds"]) == (0, {}), found["findings"]
            gate.open()
        await world.settled(worker=worker)
        found, code = verified(world)
        assert (code, found["documents"], found["unsettled"]) == (0, 150, 0), found
        await world.produce([(b"large", {"text": "One more word. " * 18_000})])
        await world.settled(worker=worker)
        less = {"PENSTOCK_BATCH__MAX_INFLIGHT_BYTES": str(1024**2)}
        for _ in range(2):  # as the newest record of its document, and as one that was overtaken
            done = world.command("index", "verify", "--json", "--repair", extra=less)
            found = json.loads(done.stdout)
            assert (done.returncode, found["kinds"]) == (0, {"too large here": 1}), found
            assert "verify with the workers' largest" in found["findings"][0]["what"]
            await world.produce([(b"large", {"text": "It is short now."})])
            await world.settled(worker=worker)
        assert await world.dead_letters() == []
        assert verified(world)[1] == 0
        await assert_true(world, embedder)

    asyncio.run(scenario())
