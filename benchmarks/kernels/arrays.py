"""The numbers that every peer gets, and the result that they are checked against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.layers import Case
from lrfdse.ir.factorization import Factorization

Floats = NDArray[np.float64]
SEED = 0


@dataclass(frozen=True, slots=True)
class Arrays:
    """Weights, input and expected output of one case; all but the last are float32 numbers held in float64."""

    x: Floats
    """Shape (rows, inputs)."""
    cores: tuple[Floats, ...]
    """Core k of shape (r_{k-1}, m_k, n_k, r_k)."""
    expected: Floats
    """Shape (rows, outputs), computed in float64."""


def arrays(case: Case) -> Arrays:
    """Draw a case's numbers: those of `lrfdse.kernels.data.example` with the seed that `lrfdse.tune` uses."""
    rng = np.random.default_rng(SEED)

    def draw(shape: tuple[int, ...], scale: float = 1.0) -> Floats:
        return (scale * rng.standard_normal(shape)).astype(np.float32).astype(np.float64)

    x = draw((case.rows, case.layer.inputs))
    cores = tuple(draw(shape, (shape[2] * shape[3]) ** -0.5) for shape in case.factorization.core_shapes)
    return Arrays(x, cores, product(case.factorization, cores, x))


def product(f: Factorization, cores: tuple[Floats, ...], x: Floats) -> Floats:
    """Return ``x What^T`` by contracting the modes one by one, in the direction of the design.

    >>> f = Factorization((2, 3), (2, 2), (2,), "lr")
    >>> a, b = np.ones((1, 2, 2, 2)), np.ones((2, 3, 2, 1))
    >>> product(f, (a, b), np.eye(4))[0]
    array([2., 2., 2., 2., 2., 2.])
    """
    rows = len(x)
    if f.direction == "rl":
        held = x.reshape(-1, f.in_modes[-1], 1)
        for k in reversed(range(len(cores))):
            held = np.einsum("rmnk,bnk->mbr", cores[k], held, optimize=True)
            held = held.reshape(-1, f.in_modes[k - 1], f.bonds[k]) if k else held
        return np.ascontiguousarray(held.reshape(f.outputs, rows).T)
    held = x.T.reshape(1, f.in_modes[0], -1)
    for k, core in enumerate(cores):
        held = np.einsum("kmnr,knb->rbm", core, held, optimize=True)
        held = held.reshape(f.bonds[k + 1], f.in_modes[k + 1], -1) if k + 1 < len(cores) else held
    return np.ascontiguousarray(held.reshape(rows, f.outputs))
