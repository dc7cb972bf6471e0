"""Statistics that several benchmarks report."""

from __future__ import annotations

import math
from collections.abc import Sequence


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the rank correlation; not a number where one side is constant or is not all numbers.

    >>> spearman([1, 2, 3], [10, 20, 15]), spearman([1, 1, 1], [10, 20, 15])
    (0.5, nan)
    """
    from scipy.stats import spearmanr

    if len(set(one)) < 2 or len(set(other)) < 2 or any(math.isnan(value) for value in (*one, *other)):
        return math.nan
    return float(spearmanr(one, other).statistic)
