"""What a chain of cores means: the dense weight that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array


def dense_weight(cores: Sequence[Array]) -> Array:
    """Contract cores ``(r_{k-1}, m_k, n_k, r_k)`` to the weight of shape ``(prod m, prod n)``."""
    left = np.ones((1, 1, 1))
    for core in cores:
        _, m, n, s = core.shape
        joined = np.tensordot(left, core, axes=(2, 0))
        left = joined.transpose(0, 2, 1, 3, 4).reshape(left.shape[0] * m, left.shape[1] * n, s)
    return left[:, :, 0]
