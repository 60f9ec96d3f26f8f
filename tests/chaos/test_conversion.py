"""Conversion on the cores of a worker: what it takes from that, with nothing else to hold it back."""

import asyncio
from pathlib import Path
from typing import Any

from agents.kafka.reader import log_reader
from tests.agents.sources.test_convert import pdf_of
from tests.kit.harness import World, until
from tests.stack.test_faults import text

WINDOW_S = 20.0
BACKLOG, FILES, PAGES, SENTENCES = 10_000, 2_000, 40, 14


def test_conversion_does_not_starve_a_worker_beside_it(world: World, tmp_path: Path, summary: dict[str, Any]) -> None:
    """A deep backlog, so that every chunk that the worker does not embed was taken from it."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}.pdf").write_bytes(
            pdf_of(*(text(number * PAGES + page, SENTENCES) for page in range(PAGES)))
        )

    async def published() -> int:
        async with log_reader(world.settings) as reader:
            return sum(bound.end for bound in (await reader.bounds(world.name, range(2))).values())

    async def scenario() -> None:
        await world.create(partitions=2)
        await world.produce((f"doc-{number}".encode(), {"text": text(number, SENTENCES)}) for number in range(BACKLOG))
        worker = world.start_worker()

        def embedded() -> float:
            return worker.metrics()["penstock_chunks_embedded_total"]

        async def rate() -> float:
            """Chunks a second."""
            before = embedded()
            await asyncio.sleep(WINDOW_S)
            return (embedded() - before) / WINDOW_S

        await world.ready(worker)

        async def under_way() -> bool:
            return embedded() > 200

        await until(under_way)
        alone = await rate()
        more = range(BACKLOG, BACKLOG + int(6 * WINDOW_S * alone))  # however fast this machine is
        await world.produce((f"doc-{number}".encode(), {"text": text(number, SENTENCES)}) for number in more)
        before = await published()
        log = tmp_path / "ingest.log"
        ingest = world.start("ingest", "files", str(folder), "--max-lag", "1000000", output=log, errors=log)

        async def converting() -> bool:
            assert ingest.poll() is None, log.read_text()
            return await published() > before

        await until(converting)
        before = await published()
        beside = await rate()
        files = (await published() - before) / WINDOW_S
        assert ingest.poll() is None, "there were too few files"
        assert embedded() < more.stop, "there was too little to embed"
        summary["worker beside conversion: chunks/s alone, beside; files/s"] = [
            round(alone, 1),
            round(beside, 1),
            round(files, 1),
        ]
        assert beside > 0.5 * alone, (alone, beside)  # a core of two at most; mostly it is a fifth of them

    asyncio.run(scenario())
