"""What a chain of cores means: the dense weight it stands for, and its product with an input, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Factors


def dense_weight(cores: Sequence[Array]) -> Array:
    """Contract cores ``(r_{k-1}, m_k, n_k, r_k)`` to the weight of shape ``(prod m, prod n)``."""
    left = np.ones((1, 1, 1))
    for core in cores:
        _, m, n, s = core.shape
        joined = np.tensordot(left, core, axes=(2, 0))
        left = joined.transpose(0, 2, 1, 3, 4).reshape(left.shape[0] * m, left.shape[1] * n, s)
    return left[:, :, 0]


def apply_chain(factors: Factors, inputs: Array) -> Array:
    """Multiply input rows ``(rows, N)`` by the factors, step by step as a kernel does; return ``(rows, M)``."""
    factorization = factors.factorization
    rows = len(inputs)
    state = np.ascontiguousarray(inputs, dtype=np.float64)
    for step, matrix in zip(factorization.steps(rows), factorization.step_matrices(factors.cores), strict=True):
        state = matrix @ state.reshape(step.batch, step.inner, step.columns)
    return state.reshape(rows, math.prod(factorization.out_modes))
