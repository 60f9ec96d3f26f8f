"""A number of things, or of bytes, that may be there at once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from agents.sources.http.problems import busy


class Room:
    """`total` of them. `full`: what a client is told when there is none left."""

    def __init__(self, total: int, full: str) -> None:
        self.total = total
        self.taken = 0
        self._full = full
        self._given = asyncio.Event()

    def take(self, count: int) -> None:
        """Raises ProblemError (503) where so many are not left; what is larger than all of it passes alone."""
        if self.taken and self.taken + count > self.total:
            raise busy(self._full)
        self.taken += count

    async def wait(self, count: int) -> None:
        """As `take`, when there is room."""
        while self.taken and self.taken + count > self.total:
            self._given.clear()
            await self._given.wait()
        self.taken += count

    def give(self, count: int) -> None:
        """Back."""
        self.taken -= count
        self._given.set()

    @contextmanager
    def held(self, count: int = 1) -> Iterator[None]:
        """Taken meanwhile."""
        self.take(count)
        try:
            yield
        finally:
            self.give(count)
