"""Search through interleavings: all of a small world, or random ones of a larger one.

Stateless: every run starts anew and is steered by its choices (P. Godefroid, "Model checking for programming
languages using VeriSoft", POPL 1997); a run ends early in a state that was seen before.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass


class SeenBefore(Exception):  # noqa: N818 - no error
    """This state was explored already, and so was all that follows from it."""


class Choices:
    """Steers one run: first along a prefix, then always the first possibility."""

    def __init__(self, prefix: list[int], seen: set[Hashable] | None) -> None:
        self._prefix = prefix
        self._seen = seen
        self.trail: list[tuple[int, int]] = []

    def pick_action(self, actors: Sequence[str | None]) -> int:
        """One of the possible actions: of which actor each is a step, None for a fault."""
        return self.pick(len(actors))

    def pick(self, count: int) -> int:
        """One of `count` possibilities."""
        if count == 1:
            return 0
        at = len(self.trail)
        picked = self._prefix[at] if at < len(self._prefix) else 0
        self.trail.append((picked, count))
        return picked

    def visit(self, state: Callable[[], Hashable]) -> None:
        """Raises SeenBefore where another run was here."""
        if self._seen is None or len(self.trail) < len(self._prefix):
            return
        key = state()
        if key in self._seen:
            raise SeenBefore
        self._seen.add(key)


class RandomChoices(Choices):
    """Random, but not evenly: an actor tends to go on, so that others fall far behind, and faults are rare.

    How much so is drawn for each run: one mixture would leave whole regions unseen (A. Groce et al., "Swarm
    testing", ISSTA 2012).
    """

    def __init__(self, seed: str) -> None:
        super().__init__([], None)
        self._rng = random.Random(seed)
        self._stay = self._rng.choice([0.0, 0.8, 0.95])
        self._fault = self._rng.choice([0.02, 0.1, 0.3])
        self._last: str | None = None

    def pick(self, count: int) -> int:
        return self._rng.randrange(count)

    def pick_action(self, actors: Sequence[str | None]) -> int:
        mine = [n for n, actor in enumerate(actors) if actor is not None and actor == self._last]
        steps = [n for n, actor in enumerate(actors) if actor is not None]
        faults = [n for n, actor in enumerate(actors) if actor is None]
        if faults and (not steps or self._rng.random() < self._fault):
            return self._rng.choice(faults)
        picked = self._rng.choice(mine if mine and self._rng.random() < self._stay else steps)
        self._last = actors[picked]
        return picked


@dataclass
class Explored:
    """How much was seen."""

    runs: int = 0
    states: int = 0
    complete: bool = False
    steps: int = 0


def exhaustively(run: Callable[[Choices], int], limit: int | None = None) -> Explored:
    """Every interleaving of `run`, which returns its number of steps; at most `limit` runs."""
    seen: set[Hashable] = set()
    done, prefix = Explored(), list[int]()
    while limit is None or done.runs < limit:
        choices = Choices(prefix, seen)
        with suppress(SeenBefore):
            done.steps += run(choices)
        done.runs += 1
        done.states = len(seen)
        trail = choices.trail
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            done.complete = True
            break
        prefix = [picked for picked, _ in trail[:-1]] + [trail[-1][0] + 1]
    return done


def randomly(run: Callable[[Choices], int], runs: int, seed: int) -> Explored:
    """`runs` interleavings, each chosen step by step."""
    done = Explored()
    for number in range(runs):
        done.steps += run(RandomChoices(f"{seed}/{number}"))
        done.runs += 1
    return done
