"""A fitting method: SVD of the weight with each input weighed by its root mean square."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrfdse.factorize.problem import Problem
from lrfdse.factorize.starts import diagonal_start
from lrfdse.ir.factorization import Factorization

SMALLEST = 1e-3
"""Of the largest root mean square, what an input that is hardly ever on counts for: its weights are not thrown away."""


class RootMeanSquareSvd:
    """TT-SVD of the weight with column n scaled by the root mean square of input n, unscaled afterwards."""

    source = "ASVD (arXiv 2312.05821) with alpha = 1 and root mean squares"
    needs_moments = True

    def fit(self, problem: Problem, factorization: Factorization) -> tuple[NDArray[np.float64], ...]:
        """Return core k of shape ``(r_{k-1}, m_k, n_k, r_k)``."""
        assert problem.moments is not None
        scales = np.sqrt(np.maximum(np.diag(problem.moments.second), 0.0))
        largest = scales.max()
        scales = np.maximum(scales, SMALLEST * largest) if largest > 0 else np.ones_like(scales)
        outputs, inputs = problem.weight.shape
        more = (0, factorization.outputs - outputs), (0, factorization.inputs - inputs)
        return diagonal_start(np.pad(problem.weight, more), np.pad(scales, more[1], mode="mean"), factorization)


SVD_RMS = RootMeanSquareSvd()
