"""Writes docs/mutations.md anew, a trace for every mutation: `python -m tests.simulation.traces`. Takes minutes."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.explore import Choices, Explored, exhaustively, randomly
from tests.simulation.scenarios import EXHAUSTIVE, MUTATIONS, RANDOM, Mutation
from tests.simulation.world import Violated, simulate

PAGE = Path(__file__).parents[2] / "docs" / "mutations.md"
RUNS = 1500
HEAD = f"""# Mutations of the protocol, and the trace that finds each

Each rule below was taken out of the product (`tests/simulation/scenarios.py`), and the exploration of the world named
found it; `tests/simulation/test_simulation.py` does so again in every run. The traces are the shortest of {RUNS:,} runs
(`python -m tests.simulation.traces`). `w0`, `w1`, `w2` are workers, `last` is the one that finishes after all faults;
`a#0@3` is chunk 0 of document a at version 3 (offset 2); `again` is a request repeated after its answer was lost.
"""


def shortest(mutation: Mutation) -> list[str]:
    """What was violated, then the steps that led there."""
    found: list[list[str]] = []

    def kept(run: Callable[[Choices], int]) -> Callable[[Choices], int]:
        def noted(choices: Choices) -> int:
            try:
                return run(choices)
            except Violated as violated:
                found.append([line.strip() for line in str(violated).splitlines()])
                return 0

        return noted

    with pytest.MonkeyPatch.context() as patch:
        mutation.apply(patch)
        explore(mutation.world, kept)
    return min(found, key=len)


def explore(world: str, kept: Callable[[Callable[[Choices], int]], Callable[[Choices], int]]) -> Explored:
    """Of a small world all of it, up to a limit."""
    if world in EXHAUSTIVE:
        return exhaustively(kept(simulate(EXHAUSTIVE[world])), limit=RUNS)
    return randomly(kept(simulate(RANDOM[world])), RUNS, seed=0)


def main() -> None:
    logging.disable(logging.CRITICAL)
    parts = [HEAD]
    for mutation in MUTATIONS:
        what, *trace = shortest(mutation)
        steps = "\n".join(trace)
        parts.append(f"## {mutation.rule}\n\nIn “{mutation.world}”: {what}\n\n```\n{steps}\n```\n")
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
