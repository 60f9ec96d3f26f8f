"""The protocol under every interleaving of small worlds and some thousands of larger ones; `make chaos` has more."""

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.explore import exhaustively, randomly
from tests.simulation.scenarios import EXHAUSTIVE, MUTATIONS, RANDOM, Mutation
from tests.simulation.world import Violated, simulate

RUNS, SMALL_RUNS, MUTATED_RUNS = 200, 1000, 2000
"""Of each random world here, of each small one at most, and of those with a rule less, which is found within fewer."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The product's own log of thousands of runs."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("world", RANDOM)
def test_random_interleavings_end_in_the_one_true_state(world: str) -> None:
    assert randomly(simulate(RANDOM[world]), RUNS, seed=0).runs == RUNS


@pytest.mark.parametrize("world", EXHAUSTIVE)
def test_every_interleaving_of_a_small_world_ends_in_the_one_true_state(world: str) -> None:
    explored = exhaustively(simulate(EXHAUSTIVE[world]), limit=SMALL_RUNS)
    assert explored.complete or explored.runs == SMALL_RUNS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_taking_a_rule_out_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    def explore() -> None:
        if mutation.world in EXHAUSTIVE:
            exhaustively(simulate(EXHAUSTIVE[mutation.world]), limit=MUTATED_RUNS)
        else:
            randomly(simulate(RANDOM[mutation.world]), MUTATED_RUNS, seed=0)

    mutation.apply(monkeypatch)
    with pytest.raises(Violated):
        explore()
