"""Micro-batches for the model: like lengths together, so that little is spent on padding.

The shape of text-embeddings-inference's queue: a batch costs (number of texts) × (longest text), padding
included, and that product is bounded by a token budget.
"""

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices into `lengths` (tokens each), grouped into batches, longest first.

    Each index appears exactly once. A batch's size times its longest member stays within `max_tokens`,
    unless one text alone is longer. Longest first: a shortage of memory shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    room = 0
    for index in order:
        if room < 1:
            batches.append([])
            room = max(1, max_tokens // max(1, lengths[index]))
        batches[-1].append(index)
        room -= 1
    return batches
