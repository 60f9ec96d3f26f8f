"""From many batches of records to the few that are at fault, with everything about them plain that may be."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.kit.records import Batch, plainer

FEW = 3
"""So many at most are looked into one by one."""

Fails = Callable[[Sequence[Batch]], bool]


def shrunk(suspects: Sequence[Batch], fails: Fails, until: float) -> list[Batch]:
    """As few batches of as few records as still fail, their parts made plain. `until`: monotonic seconds.

    1. leave batches out, halves first, those at the end before those at the beginning
    2. the same with the records of those that are left, each in a batch of its own
    3. make one part after the other plain
    """
    batches = _fewest(list(suspects), fails, until)  # 1
    if len(batches) <= FEW:  # 2
        alone = [replace(batch, recipes=(recipe,)) for batch in batches for recipe in batch.recipes]
        if len(alone) > len(batches) and fails(alone):
            batches = _fewest(alone, fails, until)
    while len(batches) <= FEW and time.monotonic() < until:  # 3
        less = next((less for less in _simpler(batches) if fails(less)), None)
        if less is None:
            break
        batches = less
    return batches


def _fewest(batches: list[Batch], fails: Fails, until: float) -> list[Batch]:
    size = len(batches)
    while size > 1:
        size = -(-size // 2)
        start = len(batches)
        while start > 0:
            start = max(0, start - size)
            less = batches[:start] + batches[start + size :]
            if time.monotonic() > until:
                return batches
            if less and fails(less):
                batches = less
    return batches


def _simpler(batches: list[Batch]) -> Iterator[list[Batch]]:
    for number, batch in enumerate(batches):
        less = [replace(batch, codec="none")] if batch.codec != "none" else []
        less += [replace(batch, sequel="")] if batch.sequel else []
        if len(batch.recipes) == 1:
            less += [replace(batch, recipes=(recipe,)) for recipe in plainer(batch.recipes[0])]
        for other in less:
            yield [*batches[:number], other, *batches[number + 1 :]]
