"""The simulation at length: at least 100,000 interleavings, no rule taken out."""

import logging
from typing import Any

import pytest

from tests.simulation.explore import exhaustively, randomly
from tests.simulation.scenarios import EXHAUSTIVE, RANDOM
from tests.simulation.world import simulate

RANDOM_RUNS = 15_000
EXHAUSTIVE_RUNS = 12_000


@pytest.mark.parametrize("world", RANDOM)
def test_random(world: str, summary: dict[str, Any]) -> None:
    logging.disable(logging.CRITICAL)
    seed = summary.setdefault("simulation: seed", 20)
    done = randomly(simulate(RANDOM[world]), RANDOM_RUNS, seed)
    _count(summary, done.runs, done.steps)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("world", EXHAUSTIVE)
def test_exhaustive(world: str, summary: dict[str, Any]) -> None:
    logging.disable(logging.CRITICAL)
    done = exhaustively(simulate(EXHAUSTIVE[world]), EXHAUSTIVE_RUNS)
    _count(summary, done.runs, done.steps)
    summary["simulation: small worlds explored whole"] = (
        summary.get("simulation: small worlds explored whole", 0) + done.complete
    )
    logging.disable(logging.NOTSET)


def _count(summary: dict[str, Any], runs: int, steps: int) -> None:
    for name, count in (("simulation: interleavings", runs), ("simulation: steps", steps)):
        summary[name] = summary.get(name, 0) + count
