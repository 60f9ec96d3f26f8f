"""The commands of the runbook, as they stand there, where that takes long."""

import asyncio
from pathlib import Path

from models.onnx.embedder import OnnxEmbedder
from tests.kit.harness import World
from tests.kit.oracle import assert_true
from tests.kit.two_models import SECOND, SURE, rows
from tests.stack.test_dlq import BROKEN
from tests.stack.test_faults import text


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
        await two.produce((f"doc-{n}".encode(), {"text": text(n) if n else SURE}) for n in range(40))
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


def test_the_runbook_leads_out_of_a_poisoned_topic(world: World, embedder: OnnxEmbedder) -> None:
    """Once the mistake was here (a broken parser), once the records are bad and stay so."""

    async def scenario() -> None:
        await world.create(partitions=2)
        limit = {"PENSTOCK_DEAD_LETTERS__MAX_RATIO": "0.1"}
        await world.produce((f"doc-{i}".encode(), {"text": "poison " + text(i)}) for i in range(150))
        broken = world.start_worker(limit, BROKEN)
        assert await broken.ended() == 3
        letters = len(await world.dead_letters())
        (worker,) = await world.follow("A worker stopped because too many records were rejected")
        taken_up = {(row.partition, row.offset) for row in world.produced}
        assert letters > 100
        await assert_true(world, embedder, also_dead=taken_up)
        assert await asyncio.to_thread(worker.terminate) == 0

        await world.produce((f"bad-{i}".encode(), b"{") for i in range(150))
        stopped = world.start_worker(limit)
        assert await stopped.ended() == 3
        looked = world.command("index", "verify", extra=limit)
        assert looked.returncode == 0, looked.stdout + looked.stderr
        # what the first one settled, up to the limit, no longer counts: enough are left, whatever its batches were
        await world.produce((f"worse-{i}".encode(), b"{") for i in range(150))
        section = "A worker stopped because too many records were rejected"
        (patient,) = await world.follow(section, block=1)
        assert await asyncio.to_thread(patient.terminate) == 0
        await world.produce([(b"after", {"text": "After the flood."})])
        stopped = world.start_worker(limit)
        assert await stopped.ended() == 3, "the last of them still count"
        await world.follow(section, block=2)
        await assert_true(world, embedder, also_dead=taken_up)

    asyncio.run(scenario())
