"""The ceiling of a row: the bare session, all texts tokenised and sorted beforehand, in the best shape found."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from models.manifest import Manifest
from models.onnx.proof import prove
from models.onnx.reference import reference_of
from models.onnx.runtime import Precision, ProviderName, candidates, computes_bf16, usable_cores
from models.onnx.session import Session, available_providers
from streams.runs import plan_runs
from streams.split import TokenIds

BUDGETS = (1024, 512, 2048, 256, 4096, 8192)
HOPELESS = 0.85
"""A setup that is so much slower at its first budget wins with no other one, and neither do larger budgets."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A session and the tokens a run that suit it best."""

    session: Session
    budget: int

    @property
    def shape(self) -> str:
        """For people."""
        return f"{self.session.setup}, {self.budget} tokens a run"


def find_ceiling(
    folder: Path,
    manifest: Manifest,
    precision: Precision,
    tokens: Sequence[TokenIds],
    *,
    provider: ProviderName = "auto",
    budgets: Sequence[int] = BUDGETS,
) -> Ceiling:
    """Every setup of this precision whose vectors are right, with every budget: the fastest on these texts."""
    setups = candidates(
        available_providers(),
        provider=provider,
        precision=precision,
        exported=manifest.precision,
        cores=usable_cores(),
        bf16=computes_bf16(),
    )
    best, fastest = None, 0.0
    reference = reference_of(folder, manifest, usable_cores())
    for setup in setups:
        session = Session(folder, manifest, setup)
        if why := prove(session, reference).out:
            print(f"{setup} is left out: {why}", flush=True)
            continue
        rate_of(Ceiling(session, budgets[0]), tokens[:40])
        for budget in budgets:
            rate = rate_of(Ceiling(session, budget), tokens)
            if rate > fastest:
                best, fastest = Ceiling(session, budget), rate
            elif rate < HOPELESS * fastest:
                break
    if best is None:
        raise RuntimeError(f"{manifest.name} gives wrong vectors in every setup")
    return best


def rate_of(ceiling: Ceiling, tokens: Sequence[TokenIds]) -> float:
    """Texts a second."""
    session = ceiling.session
    runs = plan_runs([len(ids) for ids in tokens], lambda _: ceiling.budget)
    begun = time.monotonic()
    with ThreadPoolExecutor(session.setup.lanes) as lanes:
        list(lanes.map(lambda run: session.run([tokens[index] for index in run]), runs))
    return len(tokens) / (time.monotonic() - begun)
