"""A worker process under measurement."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from agents.settings import Settings
from bench.servers import cpu_s, environment_of

PENSTOCK = (str(Path(sys.executable).with_name("penstock")), "worker")
GIVE_UP_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one run: seconds from the first admitted record to the last claim, metrics at the end, most memory (RSS), CPU
    seconds of worker, broker and Elasticsearch in between, and what `/statusz` said last."""

    seconds: float
    metrics: dict[str, float]
    peak_rss: int
    cpu_s: dict[str, float]
    status: dict[str, Any]

    @property
    def idle_share(self) -> float:
        """Of the time that the model's lanes had, between their first run and their last."""
        busy, idle = (self.metrics[f'penstock_session_seconds_total{{state="{state}"}}'] for state in ("busy", "idle"))
        return idle / (busy + idle)

    @property
    def padding_share(self) -> float:
        """Of the tokens that the model computed."""
        padding = self.metrics["penstock_padding_tokens_total"]
        return padding / (padding + self.metrics["penstock_tokens_total"])


class Process:
    """One worker. `folder`: of the servers; its log goes there. `command`: in the place of `penstock worker`."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        command: Sequence[str] = PENSTOCK,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self._folder = folder
        self._log = folder / f"{settings.source.group}-{settings.admin.port}.log"
        self._base = f"http://127.0.0.1:{settings.admin.port}"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=environment_of(settings, environment or {}),
                stdout=output,
                stderr=output,
            )

    async def until(self, records: int, *, at_most_s: float = GIVE_UP_S) -> Measured:
        """Wait until so many records are settled, or so long."""
        peak, begun, before = 0, 0.0, dict[str, float]()
        async with aiohttp.ClientSession() as http:
            wait_s = 0.05
            while True:
                await asyncio.sleep(wait_s)
                if self._process.poll() is not None:
                    raise RuntimeError(f"the worker ended early:\n{self._log.read_text()[-2000:]}")
                peak = max(peak, _peak_rss(self._process.pid))
                status = await self._get(http, "/statusz")
                if status is None or "partitions" not in status:  # while it asks for its servers it says so
                    continue
                rows, now = status["partitions"], time.monotonic()
                if not begun and (any(row["open"] or row["settled_offset"] for row in rows) or (rows and not records)):
                    begun, before = now, self._cpu_s()
                settled = sum(row["settled_offset"] for row in rows)
                if begun and (settled >= records or now - begun > at_most_s):
                    after = self._cpu_s()
                    metrics = await self._metrics(http)
                    return Measured(
                        seconds=now - begun,
                        metrics=metrics,
                        peak_rss=peak,
                        cpu_s={name: round(after[name] - before[name], 2) for name in after},
                        status=status,
                    )
                left_s = (now - begun) * (records - settled) / settled if begun and settled else 0.2
                wait_s = min(1.0, max(0.02, left_s / 4))  # every look takes a little of what is measured

    async def stop(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, 60)

    async def records(self, http: aiohttp.ClientSession) -> float:
        """Records that this worker settled."""
        metrics = await self._metrics(http)
        return sum(value for name, value in metrics.items() if name.startswith("penstock_records_total"))

    def _cpu_s(self) -> dict[str, float]:
        times = psutil.Process(self._process.pid).cpu_times()
        return {"worker": times.user + times.system, **cpu_s(self._folder)}

    async def _get(self, http: aiohttp.ClientSession, path: str) -> Any:
        try:
            async with http.get(self._base + path) as answer:
                return await answer.json()
        except aiohttp.ClientError:
            return None

    async def _metrics(self, http: aiohttp.ClientSession) -> dict[str, float]:
        async with http.get(f"{self._base}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def _peak_rss(pid: int) -> int:
    """Most resident bytes so far, as the system has counted them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


async def measure(
    settings: Settings,
    records: int,
    folder: Path,
    *,
    command: Sequence[str] = PENSTOCK,
    environment: Mapping[str, str] | None = None,
    at_most_s: float = GIVE_UP_S,
) -> Measured:
    """Start a worker, wait until so many records are settled, stop it."""
    async with AsyncExitStack() as stack:
        process = Process(settings, folder, command=command, environment=environment)
        stack.push_async_callback(process.stop)
        return await process.until(records, at_most_s=at_most_s)
