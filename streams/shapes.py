"""Which shape a run of the model should have on this machine: found by measuring, while running.

Texts are grouped by width (tokens of the longest, in classes that double), and each class has its own budget of tokens
a run: some processors like many short texts at once and few long ones, or the reverse. A budget is moved step by step
along a grid towards more tokens a second:

    a run ends ─► its rate is a sample of its size ─► the best budget is the one with the greatest median, smoothed
               ─► its neighbours on the grid are tried until they have samples, and again every so often

A run takes no longer than `longest_run_s` (a batch under light load should not wait for a full one), and no budget
is tried again that ran out of memory. Pure: whoever runs the model says how long it took.
"""

import bisect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from streams.runs import plan_runs

GRID = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768, 65536)
"""Budgets, in tokens a run, padding included."""
CLASSES = tuple(2**power for power in range(3, 17))
"""Upper bounds of the widths that share a budget."""
START = 1024
ENOUGH = 3
"""Samples that a budget needs before it is compared."""
KEPT = 15
"""Samples that count: older ones were made under other circumstances."""
TRY_EVERY = 24
"""So often a neighbour is measured again although it was slower."""
CLEARLY = 1.01
"""A larger budget must be so much faster to be preferred: a shorter run is worth something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Texts that go through the model together: indices into the lengths given, longest first.

    `width`: tokens of the longest; `tokens`: of all, without padding; `budget`: what the run was filled up to;
    `padded`: whether the others are filled up to the longest.
    """

    members: list[int]
    width: int
    tokens: int
    budget: int
    padded: bool = True

    @property
    def padding(self) -> int:
        """Tokens that are computed for nothing."""
        return self.width * len(self.members) - self.tokens if self.padded else 0


class _Class:
    """What is known of one class of widths. `rates`: median tokens a second, of budgets with enough samples."""

    def __init__(self, start: int) -> None:
        self.samples: dict[int, deque[float]] = {}
        self.pending: dict[int, int] = {}
        self.rates: dict[int, float] = {}
        self.best = start
        """The smallest budget that no other one clearly beats; the start before anything is known."""
        self.chosen = 0
        self.turn = 0

    def add(self, budget: int, rate: float) -> None:
        """One more sample."""
        samples = self.samples.setdefault(budget, deque(maxlen=KEPT))
        samples.append(rate)
        if len(samples) >= ENOUGH:
            self.rates[budget] = median(samples)
            self._decide()

    def forget_above(self, budget: int) -> None:
        """These ran out of memory."""
        for larger in [other for other in self.samples if other > budget]:
            del self.samples[larger]
            self.rates.pop(larger, None)
        self.best = min(self.best, budget)
        self._decide()

    def _decide(self) -> None:
        """A rate is drawn towards its neighbours': what is fast has fast neighbours, the rest is noise."""
        rows = sorted(self.rates.items())
        smooth = {}
        for place, (budget, rate) in enumerate(rows):
            near = [rate, *(other for _, other in rows[max(0, place - 1) : place + 2])]
            smooth[budget] = sum(near) / len(near)
        if smooth:
            fastest = max(smooth.values())
            self.best = next(budget for budget, rate in smooth.items() if rate * CLEARLY >= fastest)


class Shapes:
    """The budgets in use. `fixed`: one budget for all widths, nothing is tried. Not for use by two threads."""

    def __init__(
        self, *, longest_run_s: float = float("inf"), most: int | None = None, fixed: int | None = None
    ) -> None:
        """`most`: tokens a run at most, beside what memory and `longest_run_s` allow."""
        self._longest_run_s = longest_run_s
        self._most = most or GRID[-1]
        self._fixed = fixed
        self._classes: dict[int, _Class] = {}

    def bound(self, tokens: int) -> None:
        """Plan no run of more tokens. A fixed budget stays: whoever fixed it knows why."""
        self._most = min(self._most, tokens)

    def plan(self, lengths: Sequence[int]) -> list[Run]:
        """Divide texts of these lengths into runs. Each run must be followed by `observe`, `failed` or `dropped`."""
        budgets: list[int] = []

        def budget(width: int) -> int:
            budgets.append(self._fixed or self._choose(width))
            return budgets[-1]

        return [
            Run(members=members, width=lengths[members[0]], tokens=sum(lengths[i] for i in members), budget=tokens)
            for members, tokens in zip(plan_runs(lengths, budget), budgets, strict=True)
        ]

    def observe(self, run: Run, seconds: float) -> None:
        """The run took so long."""
        known = self._ended(run)
        used = run.width * len(run.members)
        if seconds > 0:  # what was left over fills less than its budget: it is a sample of what it fills
            size = run.budget if used + run.width > run.budget else _at_most(used)
            known.add(size, run.tokens / seconds)

    def failed(self, run: Run) -> None:
        """The run did not fit into memory: no run of so many tokens is planned any more."""
        self._ended(run)
        used = run.width * len(run.members)
        self._most = min(self._most, _at_most(used // 2))
        for known in self._classes.values():
            known.forget_above(self._most)

    def dropped(self, run: Run) -> None:
        """The run did not take place."""
        self._ended(run)

    @property
    def budgets(self) -> dict[int, int]:
        """The best budget by class of widths, as far as is known."""
        return {width: known.best for width, known in sorted(self._classes.items())}

    def _ended(self, run: Run) -> _Class:
        known = self._class(run.width)
        known.pending[run.budget] = max(0, known.pending.get(run.budget, 0) - 1)
        return known

    def _class(self, width: int) -> _Class:
        bound = CLASSES[min(bisect.bisect_left(CLASSES, width), len(CLASSES) - 1)]
        if bound not in self._classes:
            near = min(self._classes, key=lambda other: abs(other - bound), default=None)
            self._classes[bound] = _Class(START if near is None else self._classes[near].best)
        return self._classes[bound]

    def _choose(self, width: int) -> int:
        known = self._class(width)
        allowed = self._allowed(known, width)
        best = min(allowed, key=lambda budget: abs(budget - known.best))
        place = allowed.index(best)
        near = [allowed[i] for i in (place - 1, place + 1, place - 2, place + 2) if 0 <= i < len(allowed)]
        known.chosen += 1
        chosen = best
        for budget in [best, *near]:
            if len(known.samples.get(budget, ())) + known.pending.get(budget, 0) < ENOUGH:
                chosen = budget
                break
        else:
            if known.chosen % TRY_EVERY == 0 and near:
                known.turn += 1
                chosen = near[known.turn % len(near)]
        known.pending[chosen] = known.pending.get(chosen, 0) + 1
        return chosen

    def _allowed(self, known: _Class, width: int) -> list[int]:
        """Budgets for texts of this width, the smallest of them whatever it costs."""
        possible = [budget for budget in GRID if width <= budget <= self._most] or [max(width, 1)]
        rate = known.rates.get(known.best)
        if rate is None:
            return [min(possible, key=lambda budget: abs(budget - known.best))]
        return [budget for budget in possible if budget / rate <= self._longest_run_s] or possible[:1]


def _at_most(tokens: int) -> int:
    """The greatest budget of the grid that is not above."""
    return GRID[max(0, bisect.bisect_right(GRID, tokens) - 1)]
