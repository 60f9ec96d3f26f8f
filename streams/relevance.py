"""How good a ranking is: nDCG of judged documents, and how sure that is of so many questions.

Formulas: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002), with linear gains, as
trec_eval and BEIR have it; the percentile bootstrap of Efron.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

AT = 10
"""Places that count."""
RESAMPLES = 1000
SURE = 0.95

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over questions, and between what it lies, in 95 of 100 such samples of questions."""

    mean: float
    low: float
    high: float


def ndcg(ranking: Sequence[K], gains: Mapping[K, float], at: int = AT) -> float:
    """Of the first `at`, 0 to 1; 0 where nothing has a gain. What is not judged has none; a document counts once."""
    gained = [gains.get(found, 0.0) for found in list(dict.fromkeys(ranking))[:at]]
    best = sorted((gain for gain in gains.values() if gain > 0), reverse=True)[:at]
    return _discounted(gained) / _discounted(best) if best else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(place) for place, gain in enumerate(gains, 2)))


def gains_of(ranking: Sequence[K]) -> dict[K, float]:
    """For whoever takes a ranking for right: its first has the greatest gain, its last has 1."""
    return {found: float(len(ranking) - place) for place, found in enumerate(ranking)}


def estimate(values: Sequence[float] | NDArray[np.float64], seed: int = 0) -> Estimate:
    """Mean of at least one value, with its interval by bootstrap; the same values give the same interval.

    Of paired differences it is that of the difference. 4 kB a value are in memory.
    """
    found = np.asarray(values, dtype=np.float64)
    means = _resamples(len(found), seed) @ found / len(found)
    low, high = np.quantile(means, ((1 - SURE) / 2, (1 + SURE) / 2))
    return Estimate(mean=float(found.mean()), low=float(low), high=float(high))


@lru_cache(maxsize=1)
def _resamples(count: int, seed: int) -> NDArray[np.float32]:
    """How often each of so many values is in each resample: (resamples, values)."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float32)
