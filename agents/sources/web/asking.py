"""Requests as a host wants them: not too many, not too soon, and again where it was busy."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from agents.sources.convert import ConversionError, Converted
from agents.sources.convert.convert import Converter, install
from agents.sources.convert.kinds import HTML, is_there
from agents.sources.web.fetching import Answer, Asked, Broken, Busy, Client, Fetched, no_copy
from agents.sources.web.hosts import Hosts
from agents.sources.web.urls import host_of

ATTEMPTS = 4
"""Requests for one page in a run, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited:
    """What a page answered, and what is in it; or why that is not known. `option`: what would tell.

    `same`: its bytes are those that are known.
    """

    answer: Answer
    same: bool = False
    converted: Converted | None = None
    error: str | None = None
    option: str | None = None


def passes(answer: Answer) -> bool:
    """Whether it may be another one a little later."""
    return isinstance(answer, Busy) or (isinstance(answer, Broken) and answer.passes)


class Asking:
    """Of all hosts of a crawl. Bodies are in a folder while they are read."""

    def __init__(self, client: Client, converter: Converter, hosts: Hosts, folder: Path) -> None:
        self._client = client
        self._converter = converter
        self._hosts = hosts
        self._folder = folder
        self._one = asyncio.Lock()
        self._files = 0

    async def patiently(self, asked: Asked, path: Path) -> Answer:
        """Waits for its turn, and asks again where that may help: for what a crawl cannot begin without."""
        host = host_of(asked.url)
        for attempt in range(1, ATTEMPTS + 1):
            while (wait_s := self._hosts.wait_s(host)) > 0:  # noqa: ASYNC110 - for a moment, and a place
                await asyncio.sleep(min(wait_s, 0.1))
            begun = self._hosts.begin(host)
            answer: Answer = Broken("it was stopped", passes=False)
            try:
                answer = await self._client.get(asked, path)
            finally:
                self._hosts.end(host, begun, answer)
            if not passes(answer) or attempt == ATTEMPTS or self._hosts.of(host).given_up:
                return answer
        raise AssertionError

    async def visit(self, asked: Asked, body: str | None) -> Visited:
        """Ask once, now, and read what comes; unless it is `body`, the hash of what is known. The host's end is told by
        whoever told its beginning."""
        self._files += 1
        path = self._folder / str(self._files)
        try:
            answer = await self._client.get(asked, path)
            if not isinstance(answer, Fetched) or answer.body == body:
                return Visited(answer=answer, same=isinstance(answer, Fetched))
            if not is_there(answer.kind):
                return Visited(answer=answer, option=install(answer.kind))
            path = path.rename(path.with_name(path.name + answer.kind))
            async with self._one:
                return Visited(answer=answer, converted=await self._convert(path, answer))
        except ConversionError as exc:
            return Visited(answer=answer, error=str(exc))
        except OSError as exc:
            return Visited(answer=no_copy(path, exc))
        finally:
            path.unlink(missing_ok=True)

    async def _convert(self, path: Path, answer: Fetched) -> Converted:
        if answer.kind == HTML:
            return await self._converter.convert_page(path, answer.charset)
        return await self._converter.convert(path, answer.kind)


def clock() -> float:
    """Of hosts and of the frontier: monotonic seconds."""
    return time.monotonic()
