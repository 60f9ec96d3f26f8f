"""Which setup is fastest on this machine and right: found out once, kept beside the model's files, never silent.

    model.provider, model.precision ─► candidates ─► each loaded and timed on the same texts ─► the fastest one
    whose vectors are right in every shape (`models.onnx.proof`)

A machine is its processor, cores, runtime and the model's file; another one finds out for itself.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.golden import GOLDEN_TEXTS
from models.manifest import ONNX, TOKENIZER, Manifest
from models.onnx.proof import Proof, prove
from models.onnx.reference import Reference, reference_of
from models.onnx.runtime import (
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
from models.onnx.session import Session, available_providers
from models.onnx.setups import SETUPS, Kept
from models.tokens import Tokens
from streams.errors import PenstockError, RefusedError
from streams.split import TokenIds

ROUNDS, ROUND_S = 3, 0.3
"""Each candidate is timed so often and for so long, after a warm-up. The fastest round counts: whatever else is done
on the machine meanwhile only slows."""
CLEARLY = 1.2
"""A setup that computes a run with several threads has to be so many times as fast as one with a lane a core. Alone
they are as fast; in a worker those threads wait for the slowest of them, while Kafka, Elasticsearch and the tokenizer
take their turns on its core: bf16 on 2 cores does 94 chunks/s there, and 112 with two lanes."""
RUN_TOKENS = 1024
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The setup to use, its proof, and what was measured: tokens a second by setup, or why it cannot be had."""

    setup: Setup
    measured: dict[str, float | str]
    proof: Proof = field(default_factory=Proof)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What the settings ask for; `threads` None: all usable cores. `cache`: a folder for what was found out where the
    model's own is read-only."""

    provider: ProviderName = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    cache: Path | None = None


def choose(folder: Path, manifest: Manifest, wanted: Constraints, *, say: Say = lambda _: None) -> Verdict:
    """The fastest setup that the settings allow and whose vectors are right, whatever the shape of a run.

    Measures and proves what this machine does not know yet: seconds each. With one candidate nothing is measured.
    Raises ConfigError or PenstockError when there is none that works, RefusedError when its vectors are wrong.
    """
    found = _candidates(manifest, wanted)
    store = _store(folder, manifest, wanted)
    rates = store.rates() if len(found) > 1 else {}
    missing = [setup for setup in found if len(found) > 1 and str(setup) not in rates]
    if missing:
        say(f"measuring what is fastest here, once: {len(missing)} setups, some {2 * len(missing)} s")
        new = {str(setup): _measure(folder, manifest, setup, say) for setup in missing}
        rates |= new
        _keep(store, say, rates=new)
    proofs, reference = store.proofs(), None
    for setup in _fastest_first(found, rates):
        if str(setup) not in proofs:
            say(f"proving {setup}, once: every width that a run may have")
            reference = reference or reference_of(folder, manifest, wanted.threads or usable_cores())
            proofs[str(setup)] = _prove(folder, manifest, setup, reference)
            _keep(store, say, proofs={str(setup): proofs[str(setup)]})
        proof = proofs[str(setup)]
        if proof.out is None:
            return Verdict(setup=setup, measured=_of(found, rates), proof=proof)
        say(f"{setup} is not used: {proof.out}")
    wrong = {name: proof.out for name, proof in proofs.items() if proof.out and name in map(str, found)}
    if wrong:
        raise RefusedError(
            f"the model {manifest.name} gives wrong vectors here: "
            + "; ".join(f"{name}: {why}" for name, why in wrong.items())
            + ". Choose another model.provider or model.precision, or a model of another precision"
        )
    raise PenstockError(f"the model runs on no provider here: {rates}")


def kept(folder: Path, manifest: Manifest, wanted: Constraints) -> Verdict | None:
    """What `choose` found before, on this machine. Measures and proves nothing."""
    found = _candidates(manifest, wanted)
    store = _store(folder, manifest, wanted)
    rates, proofs = store.rates() if len(found) > 1 else {}, store.proofs()
    for setup in _fastest_first(found, rates):
        proof = proofs.get(str(setup))
        if proof is None or proof.out is None:
            return Verdict(setup=setup, measured=_of(found, rates), proof=proof) if proof else None
    return None


def _candidates(manifest: Manifest, wanted: Constraints) -> list[Setup]:
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


def _fastest_first(found: list[Setup], rates: Mapping[str, float | str]) -> list[Setup]:
    """Of several, those that were measured."""
    if len(found) == 1:
        return found
    known = {setup: rate for setup in found if isinstance(rate := rates.get(str(setup)), float)}
    return sorted(known, key=lambda setup: known[setup] / (CLEARLY if setup.threads > 1 else 1), reverse=True)


def _of(found: list[Setup], rates: Mapping[str, float | str]) -> dict[str, float | str]:
    return {str(setup): rates[str(setup)] for setup in found if str(setup) in rates}


def _prove(folder: Path, manifest: Manifest, setup: Setup, reference: Reference) -> Proof:
    return prove(Session(folder, manifest, setup), reference)


def _measure(folder: Path, manifest: Manifest, setup: Setup, say: Say) -> float | str:
    try:
        rate = rate_of(Session(folder, manifest, setup), _samples(folder, manifest))
    except (PenstockError, MemoryError) as exc:
        say(f"{setup}: not to be had: {exc}")
        return str(exc)
    say(f"{setup}: {rate:,.0f} tokens/s")
    return round(rate, 1)


def rate_of(session: Session, batches: Sequence[Sequence[TokenIds]]) -> float:
    """Tokens a second with all lanes busy, in the fastest of some rounds, after one run of each batch."""
    for batch in batches:
        session.run(batch)
    return max(_round(session, batches) for _ in range(ROUNDS))


def _round(session: Session, batches: Sequence[Sequence[TokenIds]]) -> float:
    begun = time.monotonic()
    with ThreadPoolExecutor(session.setup.lanes) as lanes:

        def work(lane: int) -> int:
            done = 0
            while time.monotonic() < begun + ROUND_S or not done:
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


def _store(folder: Path, manifest: Manifest, wanted: Constraints) -> Kept:
    (runtime,) = installed_runtimes()
    cores = wanted.threads or usable_cores()
    machine = f"{processor()}, {cores} cores, {runtime} {version(runtime)}, {manifest.files[ONNX][:12]}"
    places = [folder / SETUPS]
    if wanted.cache:
        places.append(wanted.cache / "setups" / f"{manifest.files[ONNX][:12]}.json")
    return Kept(machine, *places)


def _keep(store: Kept, say: Say, **found: Any) -> None:
    if not store.add(**found):
        say(f"{store} cannot be written: every start finds out again, seconds each")
