"""Whether the runs of a setup give the model's vectors: every width that a run may have, in the batches of a worker.

A kernel may be wrong for one shape only: int8 mixed with bf16 was, where a run is exactly 32 tokens wide. So nothing is
taken from one shape for another. For each class of widths (`models.onnx.widths`):

    1  one row that is as wide as the run
    2  one or two rows, all of them padded
    3  rows of all lengths up to that width, sorted as a worker sorts them, as many as fill a budget

and for the longest and the shortest texts larger budgets too, until a run takes `LONG_RUN_S`. The budgets go round, so
that over the widths the rows are one, few, many, odd and even. Lanes run at the same time, as they do in a worker.

A class with a wrong vector is refused: its texts are padded to the next class that is right, and the same runs are
made again in that way. Wrong again, or without a right class above, the setup is out: it is not the width, then.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from models.cosines import TO_FP32, cosines
from models.onnx.reference import Reference
from models.onnx.session import Session
from models.onnx.widths import classes
from streams.shapes import GRID

BUDGETS = (256, 1024, 256, 384, 256, 512, 256, 384)
"""Tokens of the runs of many rows, in turn."""
LONG_RUN_S = 0.5
"""Beyond the budgets above, those are proved that take no longer; a worker plans no larger ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found. `refused`: least cosine to fp32 by bound of the classes that are padded past; `least`: of the
    others; `most`: tokens of the largest run; `out`: why the setup is not to be used, None when it is."""

    least: float = 1.0
    most: int = GRID[-1]
    refused: dict[int, float] = field(default_factory=dict)
    out: str | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    bound: int
    members: list[int]
    """Places in the reference, longest first."""


def prove(session: Session, reference: Reference) -> Proof:
    """Run them all, some 27,000 tokens for a model of 256; refused classes are padded past by the session from here on.

    A run that is out of memory proves nothing, and a worker plans none of its size.
    """
    needed = TO_FP32[session.setup.precision]
    runs = list(planned(session.widths.bounds, [len(ids) for ids in reference.texts]))
    begun = time.monotonic()
    found, fits = _least(session, reference, runs)
    rate = sum(_tokens(run) for run in runs) / (time.monotonic() - begun) / session.setup.lanes
    refused = {bound: least for bound, least in found.items() if least < needed}
    right = [least for bound, least in found.items() if bound not in refused]
    proof = Proof(least=min(right, default=1.0), most=min(max(BUDGETS), fits), refused=refused)
    last = session.widths.bounds[-1]
    if last in refused:
        return replace(proof, out=_wrong(last, refused[last], needed))
    if refused:
        session.pad_past(refused)
        again, _ = _least(session, reference, [run for run in runs if run.bound in refused])
        worst = min(again, key=lambda bound: again[bound], default=last)
        if again.get(worst, 1.0) < needed:
            return replace(proof, out=_wrong(worst, again[worst], needed))
        proof = replace(proof, least=min(proof.least, *again.values()))
    for budget in (budget for budget in GRID if fits > budget > max(BUDGETS) and budget / rate <= LONG_RUN_S):
        large = list(_larger(session.widths.bounds, [len(ids) for ids in reference.texts], budget))
        least, fits = _least(session, reference, large)
        if not least or min(least.values()) < needed or fits < budget:
            break
        proof = replace(proof, most=budget, least=min(proof.least, *least.values()))
    return proof


def planned(bounds: tuple[int, ...], lengths: Sequence[int]) -> Iterator[_Run]:
    """The runs of all classes. `lengths`: of the reference's texts, one of each bound among them."""
    for number, (least, greatest) in enumerate(classes(bounds)):
        full = lengths.index(greatest)
        inside = [place for place, length in enumerate(lengths) if least <= length < greatest] or [full]
        smaller = [place for place, length in enumerate(lengths) if length < least]
        yield _run(greatest, [full], lengths)
        yield _run(greatest, [*inside[:1], *_some(smaller, number, number % 2)], lengths)
        rows = max(2, BUDGETS[number % len(BUDGETS)] // greatest)
        yield _run(greatest, [full, full, *inside, *_some(smaller or [full], number, rows - 2 - len(inside))], lengths)


def _larger(bounds: tuple[int, ...], lengths: Sequence[int], budget: int) -> Iterator[_Run]:
    """Runs of so many tokens of the narrowest class, one in the middle, and the widest."""
    for bound in sorted({bounds[0], bounds[len(bounds) // 2], bounds[-1]}):
        full = lengths.index(bound)
        fitting = [place for place, length in enumerate(lengths) if length <= bound]
        if budget // bound > 1:
            yield _run(bound, [full, *_some(fitting, bound, budget // bound - 1)], lengths)


def _some(places: Sequence[int], begin: int, count: int) -> list[int]:
    return [places[(begin + step) % len(places)] for step in range(max(0, count))] if places else []


def _run(bound: int, members: Iterable[int], lengths: Sequence[int]) -> _Run:
    return _Run(bound, sorted(members, key=lambda place: -lengths[place]))


def _tokens(run: _Run) -> int:
    return run.bound * len(run.members)


def _least(session: Session, reference: Reference, runs: Sequence[_Run]) -> tuple[dict[int, float], int]:
    """Least cosine to the reference by class, over those of these runs that fit into memory; and how many tokens do."""

    def work(run: _Run) -> float | None:
        try:
            vectors = session.run([reference.texts[place] for place in run.members])
        except MemoryError:
            return None
        return float(cosines(vectors, reference.vectors[run.members]).min())

    least: dict[int, float] = {}
    fits = 2 * GRID[-1]
    with ThreadPoolExecutor(session.setup.lanes) as lanes:
        for run, cosine in zip(runs, lanes.map(work, runs), strict=True):
            if cosine is None:
                fits = min(fits, max(GRID[0], _tokens(run) // 2))
            else:
                least[run.bound] = min(cosine, least.get(run.bound, 1.0))
    return least, fits


def _wrong(width: int, cosine: float, needed: float) -> str:
    return f"wrong vectors, at {width} tokens too (least cosine to fp32 {cosine:.3f}, needed {needed})"
