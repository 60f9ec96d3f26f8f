"""How alike two rankings of the same queries are: what a change of the model does to what readers find."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of one query. `overlap`: share of the top k that both have. `correlation`: of their order, None below two."""

    query: str
    overlap: float
    correlation: float | None
    missing: tuple[str, ...]
    """What the first found, and the second did not."""


def agreement(query: str, first: Sequence[str], second: Sequence[str]) -> Agreement:
    """Compare the ids that two indices found, best first, without duplicates.

    `correlation` is Spearman's rank correlation of the ids that both have: 1 - 6 Σd² / (n (n² - 1)), with d the
    difference of ranks among those n. (C. Spearman, 1904.) Two empty rankings agree.
    """
    common = [item for item in first if item in set(second)]
    n = len(common)
    place = {item: rank for rank, item in enumerate(item for item in second if item in set(common))}
    squares = sum((rank - place[item]) ** 2 for rank, item in enumerate(common))
    return Agreement(
        query=query,
        overlap=n / max(len(first), len(second)) if first or second else 1.0,
        correlation=1 - 6 * squares / (n * (n * n - 1)) if n > 1 else None,
        missing=tuple(item for item in first if item not in place),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreements:
    """Over all queries: means, and the queries that agree least."""

    queries: int
    overlap: float
    correlation: float | None
    worst: tuple[Agreement, ...]


def summary(rows: Sequence[Agreement], worst: int = 5) -> Agreements:
    """Raises ValueError without any query."""
    if not rows:
        raise ValueError("there are no queries")
    correlations = [row.correlation for row in rows if row.correlation is not None]
    return Agreements(
        queries=len(rows),
        overlap=fmean(row.overlap for row in rows),
        correlation=fmean(correlations) if correlations else None,
        worst=tuple(sorted(rows, key=lambda row: row.overlap)[:worst]),
    )
