"""How wide a run is: the classes of widths that are proved, and what is padded past. Pure.

1…8 │ 9…16 │ … │ 249…256        a class is known by its greatest width, its bound
"""

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

UNIT = 8
"""Tokens from one bound to the next; beyond `FINE` an eighth of the width, so that long models have some hundred."""
FINE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """`bounds`: ascending, the last is the model's limit. `exact`: a run is as wide as its longest text, not as its
    class. `refused`: bounds of the classes in which runs have given wrong vectors; never the last."""

    bounds: tuple[int, ...]
    exact: bool
    refused: frozenset[int] = frozenset()

    def of(self, longest: int) -> int:
        """Width of a run whose longest text has so many tokens, within the model's limit."""
        place = bisect.bisect_left(self.bounds, longest)
        if self.exact and self.bounds[place] not in self.refused:
            return longest
        return next(bound for bound in self.bounds[place:] if bound not in self.refused)


def bounds_up_to(max_tokens: int, unit: int = UNIT) -> tuple[int, ...]:
    """Bounds of the classes of a model that takes so many tokens: multiples of `unit`, and its limit."""
    bounds, bound = [], 0
    while bound < max_tokens:
        bound += unit if bound < FINE else max(unit, 2 ** (bound.bit_length() - 1) // 8)
        bounds.append(min(bound, max_tokens))
    return tuple(bounds)


def classes(bounds: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    """(Least, greatest) width of each class."""
    return ((below + 1, bound) for below, bound in zip((0, *bounds), bounds, strict=False))
