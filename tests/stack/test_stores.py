"""Sources that are watched: what changes is published until somebody ends it, and nothing is lost or there twice."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.forks import Forked
from tests.kit.harness import World, until
from tests.stack.test_sources import folder_of, ingest, records

MODEL_SPEED = "fast"


class Watching:
    """`penstock ingest … --watch`, and the passes that it has told."""

    def __init__(self, process: Forked, output: Path, errors: Path) -> None:
        self.process = process
        self._output = output
        self._errors = errors
        self._read = 0

    def passes(self) -> list[dict[str, Any]]:
        """All of them so far."""
        return [json.loads(line) for line in self._output.read_text().splitlines(keepends=True) if line[-1] == "\n"]

    async def told(self, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first pass, of those that were not looked at so far, of which that is true; waits for it."""

        async def look() -> bool:
            running, found = self.process.poll() is None, self.passes()
            while self._read < len(found):
                self._read += 1
                if check(found[self._read - 1]):
                    return True
            assert running, self._errors.read_text()
            return False

        await until(look)
        return self.passes()[self._read - 1]

    async def ended(self) -> tuple[int, str]:
        """Exit code, and what it said besides."""
        code = await asyncio.to_thread(self.process.wait, 300)
        return code, self._errors.read_text()


@asynccontextmanager
async def watching(
    world: World, *arguments: object, extra: dict[str, str] | None = None, change: str = ""
) -> AsyncIterator[Watching]:
    """It runs meanwhile."""
    output, errors = world.tmp / "watch.out", world.tmp / "watch.err"
    words = ("ingest", *map(str, arguments), "--json")
    process = await asyncio.to_thread(world.start, *words, output=output, errors=errors, extra=extra, change=change)
    try:
        yield Watching(process, output, errors)
    finally:
        process.kill()
        process.wait()


def published(count: int) -> Callable[[dict[str, Any]], bool]:
    """A pass that published so many."""
    return lambda row: bool(row.get("published") == count)


def failed(count: int) -> Callable[[dict[str, Any]], bool]:
    """A pass in which so many objects failed."""
    return lambda row: bool("objects" in row and row["objects"]["failed"] == count)


def test_a_folder_is_watched_until_sigterm(world: World, tmp_path: Path) -> None:
    """What fails or is refused is told, and the rest goes on; another run of the source between two passes, too."""
    folder = folder_of(tmp_path, 8)
    (folder / "sub").mkdir()
    for number in range(3):
        (folder / f"{number}.md").rename(folder / "sub" / f"{number}.md")

    async def scenario() -> None:
        arguments = ("files", folder, "--watch", "1", "--sync", "--max-deletes", "2", "--exclude", "*.tmp.md")
        async with watching(world, *arguments) as watch:
            await watch.told(published(8))
            (folder / "bad.txt").write_bytes(b"a\0b")
            await watch.told(failed(1))
            await watch.told(failed(0))  # it is looked at again, but not each time
            (folder / "half.tmp.md").write_text("half")
            (folder / "new.md").write_text("# New")
            assert (await watch.told(published(1)))["source"] == f"{folder.as_uri()}/"
            (folder / "sub").rename(tmp_path / "elsewhere")
            (folder / "3.md").write_text("# Other")
            found = await watch.told(published(1))
            assert (found["deleted"], found["gone"]) == (0, 3)
            assert "3 of 9 documents" in found["refused"][0]
            watch.process.send_signal(signal.SIGSTOP)  # perhaps in a pass, whose transaction is refused then
            once = (folder, "--sync", "--max-deletes", "3", "--exclude", "*.tmp.md")
            assert (await asyncio.to_thread(ingest, world, *once, code=1))["deleted"] == 3
            watch.process.send_signal(signal.SIGCONT)
            (folder / "4.md").unlink()
            assert (await watch.told(lambda row: row.get("deleted", 0) > 0))["deleted"] == 1
            watch.process.terminate()
            assert await watch.ended() == (0, "")
        left = {record.key: record.value for record in await records(world)}
        names = sorted(key.decode().rpartition("/")[2] for key, value in left.items() if key and value)
        assert names == ["3.md", "5.md", "6.md", "7.md", "new.md"]

    asyncio.run(scenario())


HOLDS = """
import asyncio
from pathlib import Path
from agents.sources.publish import Publisher
records = Publisher._records

async def held(self, *arguments):
    rows = await records(self, *arguments)
    Path({at!r}).touch()
    while not any(task.cancelling() for task in asyncio.all_tasks()):
        await asyncio.sleep(0.02)
    return rows

Publisher._records = held
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_after_the_transaction_that_is_open(world: World, tmp_path: Path, number: int) -> None:
    folder = folder_of(tmp_path, 3)
    at = tmp_path / "at"

    async def scenario() -> None:
        arguments = ("files", folder, "--watch", "1", "--max-lag", "20")  # one record at a time
        async with watching(world, *arguments, change=HOLDS.format(at=str(at))) as watch:

            async def held() -> bool:
                return at.exists()

            await until(held)
            watch.process.send_signal(number)
            assert await watch.ended() == (0, "")
        assert len(await records(world)) == 1

    asyncio.run(scenario())
    assert ingest(world, folder)["published"] == 2
