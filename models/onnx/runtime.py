"""Which onnxruntime is installed, what a session can be set up as here, and what it really got."""

import math
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

from streams.errors import ConfigError, PenstockError

ProviderName = Literal["auto", "cuda", "openvino", "cpu"]
Precision = Literal["auto", "fp32", "bf16"]
EXTRAS = {"onnxruntime": "cpu", "onnxruntime-openvino": "openvino", "onnxruntime-gpu": "gpu"}
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a session is made. `precision`: what it computes in; `lanes`: runs at the same time, `threads` each."""

    provider: str
    precision: str
    lanes: int
    threads: int

    def __str__(self) -> str:
        lanes = f"{self.lanes} lane{'s' if self.lanes > 1 else ''}"
        return f"{self.provider} {self.precision}, {lanes} of {self.threads} thread{'s' if self.threads > 1 else ''}"


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and its cgroup's quota rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup v2, or no quota ("max")
        return cores


def computes_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; elsewhere that is slower than fp32. Known on Linux only."""
    return any(line.startswith("flags") and BF16_FLAGS & set(line.split()) for line in _cpuinfo())


def processor() -> str:
    """The processor's name, as the system tells it."""
    names = (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _cpuinfo() -> list[str]:
    """Nothing where the system is not Linux."""
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def candidates(
    available: Iterable[str],
    *,
    provider: ProviderName,
    precision: Precision,
    exported: str,
    cores: int,
    bf16: bool,
) -> list[Setup]:
    """Setups worth measuring, the likeliest first.

    `available`: execution providers of the installed runtime. `exported`: precision of the model's file; a bf16
    session computes an fp32 file in bf16. Raises ConfigError when nothing is left.
    """
    layouts = [(cores, 1), (1, cores)] if cores > 1 else [(1, 1)]
    found = []
    for name, full_name in PROVIDERS.items():
        if full_name not in available or provider not in ("auto", name):
            continue
        if name == "cuda":
            found += [Setup(provider=name, precision=exported, lanes=lanes, threads=1) for lanes in (2, 1)]
            continue
        computed = [exported]
        if name == "openvino" and exported == "fp32" and bf16:
            computed = ["bf16", "fp32"]
        found += [
            Setup(provider=name, precision=kind, lanes=lanes, threads=threads)
            for kind in computed
            for lanes, threads in layouts
        ]
    chosen = [setup for setup in found if precision in ("auto", setup.precision)]
    if found and not chosen:
        offered = ", ".join(dict.fromkeys(setup.precision for setup in found))
        raise ConfigError(f"model.precision = {precision}, but this model computes only in {offered} here")
    return chosen


def installed_runtimes() -> list[str]:
    """Distributions that ship the module `onnxruntime`; they overwrite each other, so one is right."""
    found = []
    for name in EXTRAS:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found


def require_one_runtime(found: list[str]) -> None:
    """Raises ConfigError unless exactly one of the extras is installed."""
    extras = ", ".join(EXTRAS.values())
    if not found:
        raise ConfigError(f"no ONNX runtime is installed: install penstock with one of the extras {extras}")
    if len(found) > 1:
        raise ConfigError(
            f"{' and '.join(found)} are installed together and overwrite each other: "
            f"make a fresh environment with exactly one of the extras {extras}"
        )


def require_provider(wanted: ProviderName, available: list[str]) -> None:
    """Raises ConfigError when the provider that was asked for by name is not in the installed runtime."""
    if wanted != "auto" and PROVIDERS[wanted] not in available:
        offered = ", ".join(name for name, provider in PROVIDERS.items() if provider in available)
        raise ConfigError(
            f"model.provider = {wanted}, but the installed onnxruntime offers only {offered}: "
            f"install penstock with the matching extra, or set model.provider"
        )


def prove_provider(asked: str, got: list[str]) -> None:
    """Onnxruntime falls back to the CPU with a log line only. Raises PenstockError when it did."""
    if not got or got[0] != PROVIDERS[asked]:
        raise PenstockError(
            f"asked for {asked}, but the session runs on {', '.join(got) or 'nothing'}: check the driver and the "
            "libraries that this provider loads, or set model.provider = cpu"
        )
