"""Which setup is fastest on this machine: measured once, kept beside the model's files, never silent.

    model.provider, model.precision ─► candidates ─► each loaded and timed on the same texts ─► the fastest
    setups.json: {machine: {setup: tokens a second, or why it cannot be had}}

A machine is its processor, cores, runtime and the model's file; another one measures for itself.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.golden import GOLDEN_TEXTS
from models.manifest import ONNX, TOKENIZER, Manifest
from models.runtime import (
    Precision,
    ProviderName,
    Setup,
    candidates,
    computes_bf16,
    installed_runtimes,
    processor,
    require_one_runtime,
    require_provider,
    usable_cores,
)
from models.session import Session, available_providers
from models.tokens import Tokens
from streams.errors import PenstockError
from streams.split import TokenIds

SETUPS = "setups.json"
MEASURED_S = 0.7
"""Each candidate is timed for so long, after a warm-up."""
RUN_TOKENS = 1024
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The setup to use, and what was found: tokens a second by setup, or why a setup cannot be had."""

    setup: Setup
    measured: dict[str, float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the settings ask for; `threads` None: all usable cores."""

    provider: ProviderName = "auto"
    precision: Precision = "auto"
    threads: int | None = None


def choose(folder: Path, manifest: Manifest, wanted: Wanted, *, say: Say = lambda _: None) -> Verdict:
    """The fastest setup that the settings allow. Measures what this machine has not measured yet: seconds each.

    With one candidate nothing is measured. Raises ConfigError or PenstockError when there is none that works.
    """
    found = _candidates(manifest, wanted)
    if len(found) == 1:
        return Verdict(setup=found[0], measured={})
    machine = _machine(manifest, wanted)
    known = _read(folder).get(machine, {})
    missing = [setup for setup in found if str(setup) not in known]
    if missing:
        say(f"measuring what is fastest here, once: {len(missing)} setups, some {2 * len(missing)} s")
        known |= {str(setup): _measure(folder, manifest, setup, say) for setup in missing}
        _keep(folder, machine, known, say)
    verdict = _fastest(found, known)
    if verdict is None:
        raise PenstockError(f"the model runs on no provider here: {known}")
    return verdict


def kept(folder: Path, manifest: Manifest, wanted: Wanted) -> Verdict | None:
    """What `choose` found before, on this machine. Measures nothing."""
    found = _candidates(manifest, wanted)
    if len(found) == 1:
        return Verdict(setup=found[0], measured={})
    return _fastest(found, _read(folder).get(_machine(manifest, wanted), {}))


def _candidates(manifest: Manifest, wanted: Wanted) -> list[Setup]:
    require_one_runtime(installed_runtimes())
    available = available_providers()
    require_provider(wanted.provider, available)
    return candidates(
        available,
        provider=wanted.provider,
        precision=wanted.precision,
        exported=manifest.precision,
        cores=wanted.threads or usable_cores(),
        bf16=computes_bf16(),
    )


def _fastest(found: list[Setup], known: dict[str, float | str]) -> Verdict | None:
    rates = {setup: rate for setup in found if isinstance(rate := known.get(str(setup)), float)}
    if not rates:
        return None
    measured = {str(setup): known[str(setup)] for setup in found if str(setup) in known}
    return Verdict(setup=max(rates, key=lambda setup: rates[setup]), measured=measured)


def _measure(folder: Path, manifest: Manifest, setup: Setup, say: Say) -> float | str:
    try:
        rate = rate_of(Session(folder, manifest, setup), _samples(folder, manifest))
    except (PenstockError, MemoryError) as exc:
        say(f"{setup}: not to be had: {exc}")
        return str(exc)
    say(f"{setup}: {rate:,.0f} tokens/s")
    return round(rate, 1)


def rate_of(session: Session, batches: Sequence[Sequence[TokenIds]], seconds: float = MEASURED_S) -> float:
    """Tokens a second with all lanes busy, after one run of each batch."""
    for batch in batches:
        session.run(batch)
    begun = time.monotonic()
    with ThreadPoolExecutor(session.setup.lanes) as lanes:

        def work(lane: int) -> int:
            done = 0
            while time.monotonic() < begun + seconds or not done:
                batch = batches[lane % len(batches)]
                session.run(batch)
                done += sum(map(len, batch))
                lane += 1
            return done

        tokens = sum(lanes.map(work, range(session.setup.lanes)))
    return tokens / (time.monotonic() - begun)


def _samples(folder: Path, manifest: Manifest) -> list[list[NDArray[np.int32]]]:
    """Runs of some usual lengths, made of the golden texts' tokens."""
    ids = np.concatenate(Tokens(folder / TOKENIZER).encode(GOLDEN_TEXTS))
    widths = [min(manifest.max_tokens, width, len(ids)) for width in (64, 128, 192, 256)]
    return [
        [ids[start : start + width] for start in range(0, len(ids) - width + 1, max(1, width // 3))][
            : max(1, RUN_TOKENS // width)
        ]
        for width in widths
    ]


def _machine(manifest: Manifest, wanted: Wanted) -> str:
    (runtime,) = installed_runtimes()
    cores = wanted.threads or usable_cores()
    return f"{processor()}, {cores} cores, {runtime} {version(runtime)}, {manifest.files[ONNX][:12]}"


def _read(folder: Path) -> dict[str, dict[str, float | str]]:
    try:
        found: dict[str, dict[str, float | str]] = json.loads((folder / SETUPS).read_text())
        return found
    except (OSError, ValueError):
        return {}


def _keep(folder: Path, machine: str, known: dict[str, float | str], say: Say) -> None:
    """A model's folder may be read-only; then every start measures."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=f".{SETUPS}-", delete=False) as file:
            json.dump({**_read(folder), machine: known}, file, indent=2)
        os.chmod(file.name, 0o644)
        os.replace(file.name, folder / SETUPS)
    except OSError as exc:
        say(f"{folder / SETUPS} cannot be written ({exc.strerror}): every start measures again")
