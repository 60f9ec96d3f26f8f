"""What compaction took from a topic, beside an index that is verified, vacuumed and built again."""

import asyncio

from agents.elastic.client import connect
from agents.kafka.reader import log_reader
from tests.kit.harness import COMPACTED, World, read_topic, scan, snapshot, until
from tests.kit.two_models import of_group, rows
from tests.stack.test_salvage import restore

MODEL_SPEED = "fast"


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
        early = rows(world.command("index", "verify", "--json", extra=own), code=1)
        assert early["unsettled"], early  # no record of it is among those
        assert early["kinds"] == {"no record": 1, "deleted meanwhile": 1}, early
        await world.settled_as(own, world.start_worker(own))
        assert "busy-1" in await texts(world.name)
        found = rows(world.command("index", "verify", "--json", extra=own), code=1)
        assert found["kinds"] == {"no record": 1, "deleted meanwhile": 1}, found
        mended = world.command("index", "verify", "--repair", extra=own)
        assert mended.returncode == 0, mended.stdout
        assert (await texts(world.name)).keys() == {"kept", "busy-0", "after"}
        assert rows(world.command("index", "verify", "--json", extra=own))["kinds"] == {"no record": 1}

    asyncio.run(scenario())
