"""What a chain of cores means: the dense weight that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array, Factorization


def dense_weight(cores: Sequence[Array]) -> Array:
    """Contract cores ``(r_{k-1}, m_k, n_k, r_k)`` to the weight of shape ``(prod m, prod n)``."""
    return product_of(cores)[0, :, :, 0]


def weight_of(factorization: Factorization, cores: Sequence[Array]) -> Array:
    """Return the weight that cores stand for, of the sizes of the factorization, padding included."""
    if factorization.repair:
        return np.asarray(dense_weight(cores[:1]) + dense_weight(cores[1:]))
    return dense_weight(cores)


def product_of(cores: Sequence[Array]) -> Array:
    """Contract consecutive cores to one of shape ``(r, prod m, prod n, s)``; none of them is a core of ones."""
    if not cores:
        return np.ones((1, 1, 1, 1))
    found = cores[0]
    for core in cores[1:]:
        r, m, n, _ = found.shape
        joined = np.tensordot(found, core, axes=(3, 0))
        found = joined.transpose(0, 1, 3, 2, 4, 5).reshape(r, m * core.shape[1], n * core.shape[2], core.shape[3])
    return found
