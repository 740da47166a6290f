"""Means with their intervals."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval, by Student's t (Cornish and Fisher's expansion: to 1 % from five values on)."""
    freedom = len(values) - 1
    z = 1.959964
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(len(values))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % of the median by the order of the values alone: what else ran beside a block does not widen it."""
    ordered, below = sorted(values), 0.0
    for rank in range(len(ordered) // 2 + 1):
        below += math.comb(len(ordered), rank) / 2 ** len(ordered)
        if below > 0.025:
            rank = max(0, rank - 1)
            return ordered[rank], ordered[-1 - rank]
    return ordered[0], ordered[-1]


def bootstrap(draw: Callable[[random.Random], float], times: int = 2000) -> tuple[float, float]:
    """The middle 95 % of what `draw` makes of samples with replacement."""
    source = random.Random(0)
    drawn = sorted(draw(source) for _ in range(times))
    return drawn[int(0.025 * times)], drawn[int(0.975 * times)]


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
