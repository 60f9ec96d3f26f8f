"""The search's own logic, with a worker in its place that cannot stand certain records."""

import random
from collections.abc import Callable, Sequence
from math import inf

import pytest

from tests.kit.records import Batch, batches
from tests.kit.shrink import shrunk

Harm = Callable[[Sequence[Batch]], bool]


def has(part: str) -> Harm:
    return lambda tried: any(part in batch.odd for batch in tried)


@pytest.mark.parametrize(
    ("harm", "left"),
    [
        (has("value=deep"), {"value=deep"}),
        (has("headers=not UTF-8"), {"headers=not UTF-8"}),
        (has("codec=zstd"), {"codec=zstd"}),
        (has("sequel=abort"), {"sequel=abort"}),
        (lambda tried: has("key=long")(tried) and has("key=looks hashed")(tried), {"key=long", "key=looks hashed"}),
    ],
)
def test_what_is_at_fault_is_left_with_everything_else_plain(harm: Harm, left: set[str]) -> None:
    suspects = list(batches(random.Random(5), 600, limit=10_000))
    tries = 0

    def fails(tried: Sequence[Batch]) -> bool:
        nonlocal tries
        tries += 1
        return harm(tried)

    found = shrunk(suspects, fails, inf)
    assert {part for batch in found for part in batch.odd} == left
    assert sum(len(batch.recipes) for batch in found) == len(found) <= 2
    assert tries < 80


def test_what_happens_once_only_stays_as_it_was() -> None:
    suspects = list(batches(random.Random(6), 50, limit=1000))
    assert shrunk(suspects, lambda tried: False, inf) == suspects
