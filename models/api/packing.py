"""Which texts go into one request. Pure."""

from collections.abc import Sequence


def packed(lengths: Sequence[int], *, max_texts: int, max_tokens: int) -> list[list[int]]:
    """Indices into `lengths` (tokens each), longest first, each exactly once.

    A pack has at most so many texts, and so many tokens in all unless one text alone has more. Like lengths are
    together: a service that pads them computes little for nothing.
    """
    packs: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not packs or len(packs[-1]) >= max_texts or lengths[index] > room:
            packs.append([])
            room = max_tokens
        packs[-1].append(index)
        room -= lengths[index]
    return packs


def halves(members: Sequence[int]) -> tuple[list[int], list[int]]:
    """Of a pack with two texts or more."""
    middle = len(members) // 2
    return list(members[:middle]), list(members[middle:])
