"""Asks the child, bounds it, and starts it again where it died, hung, or has grown."""

import asyncio
import contextlib
import os
import signal
import sys
from math import ceil
from pathlib import Path
from typing import Any

import orjson

from agents.extras import brought_by
from agents.sources.convert import ConversionError, Converted, Linked
from agents.sources.convert.kinds import EXTRA, HTML, KINDS, is_there
from streams.sections import Section

CPU_S = 60.0
"""Of a processor, for one file. What takes more is killed, however long it waited for its turn."""
PATIENCE_S = 600.0
"""For one file by the clock, where its library waits for what never comes; at the share that is left to it, `CPU_S`."""
HUNG_UP_S = 10.0
"""For a process to end that answers no more."""
MEMORY_BYTES = 2 * 1024**3
"""Of address space, with the libraries."""
FILES = 500
"""That one process converts; libraries keep some memory of each."""


def install(kind: str) -> str:
    """How the library of a kind comes."""
    return f"{kind} needs {KINDS[kind][1]}: {brought_by(EXTRA)}"


class Converter:
    """One file at a time. Close it: it has a process, from the first file on."""

    def __init__(
        self, patience_s: float = PATIENCE_S, memory_bytes: int = MEMORY_BYTES, *, cpu_s: float = CPU_S
    ) -> None:
        self._patience_s = patience_s
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._files = 0

    async def close(self) -> None:
        """End the process. Twice is harmless; the next file begins another."""
        await self._end()

    async def convert(self, path: Path, kind: str) -> Converted:
        """The text of a file. `kind`: as `kind_of` says. Raises ConversionError with the reason."""
        return await self._convert(path, kind, {})

    async def convert_page(self, path: Path, charset: str | None) -> Converted:
        """The text of a page of HTML, which may be none, and its links. `charset`: as its server says.

        Raises ConversionError.
        """
        return await self._convert(path, HTML, {"page": {"charset": charset}})

    async def _convert(self, path: Path, kind: str, more: dict[str, Any]) -> Converted:
        if not is_there(kind):
            raise ConversionError(install(kind))
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await self._ask({"path": os.fsencode(path).hex(), "kind": kind, **more})
        except TimeoutError:
            await self._end()
            raise ConversionError(f"it took more than {self._patience_s:.0f} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._ended()
            if code == -signal.SIGXCPU:
                raise ConversionError(f"it took more than {self._cpu_s:.0f} s of a processor") from None
            raise ConversionError(f"the library for {kind} ended its process ({code}): the file is broken") from None
        except BaseException:
            await self._end()  # stopped in the midst of it: the next answer would be this one's
            raise
        if "error" in answer:
            raise ConversionError(str(answer["error"]))
        told: dict[str, Any] = answer["converted"]
        told["sections"] = tuple(Section(**row) for row in told["sections"])
        if linked := told["linked"]:
            rows = {name: tuple(linked[name]) for name in ("links", "robots")}
            told["linked"] = Linked(**linked | rows)
        return Converted(**told)

    async def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self._files >= FILES:
            await self._end()
        if self._process is None:
            self._files = 0
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agents.sources.convert.child",
                str(self._memory_bytes),
                str(ceil(self._cpu_s)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us
            )
        self._files += 1
        to, answers = self._process.stdin, self._process.stdout
        if to is None or answers is None:
            raise ConnectionError
        to.write(orjson.dumps(asked) + b"\n")
        await to.drain()
        size = int.from_bytes(await answers.readexactly(4), "big")
        found: dict[str, Any] = orjson.loads(await answers.readexactly(size))
        return found

    async def _ended(self) -> int | None:
        """Its exit code, where it has hung up: a kill would take that away from whoever waits for it."""
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HUNG_UP_S):
                    await self._process.wait()
        return await self._end()

    async def _end(self) -> int | None:
        """Kill the process. Returns its exit code, where there was one."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()
