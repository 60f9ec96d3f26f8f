"""Micro-batches for the model: like lengths together, so that little is spent on padding.

The shape of text-embeddings-inference's queue: a run costs (number of texts) × (longest text), padding
included, and that product is bounded by a token budget.
"""

from collections.abc import Callable, Sequence


def plan_runs(lengths: Sequence[int], budget: Callable[[int], int]) -> list[list[int]]:
    """Indices into `lengths` (tokens each), grouped into runs of the model, longest first.

    `budget`: tokens for a run whose longest text has so many; asked once a run, in order. Each index appears exactly
    once. A run's size times its longest member stays within its budget, unless one text alone is longer. Longest
    first: a shortage of memory shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    room = 0
    for index in order:
        if room < 1:
            batches.append([])
            room = max(1, budget(lengths[index]) // max(1, lengths[index]))
        batches[-1].append(index)
        room -= 1
    return batches
