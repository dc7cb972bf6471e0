"""TT-SVD of a matrix (Oseledets 2011, algorithm 1, on the tensor with paired output and input modes)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.factorize.linalg import leading_split
from lrfdse.factorize.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lrfdse.factorize.splits import Splits
    from lrfdse.ir.factorization import Array, Factorization


def tt_svd(
    weight: Array,
    factorization: Factorization,
    thresholds: Thresholds = DEFAULT,
    splits: Splits | None = None,
    name: str = "",
) -> tuple[Array, ...]:
    """Return cores ``(r_{k-1}, m_k, n_k, r_k)`` of `weight`, shape (M, N), by successive truncated SVDs.

    A weight smaller than the factorization's sizes is padded with zeros. A rank above what a bond can carry leaves
    zeros in the cores, so that their shapes are always those of the factorization. Large weights are worked on in
    single precision (`lrfdse.factorize.linalg.leading_split`).

    Parameters
    ----------
    weight
        Shape (M, N).
    factorization
        Its shape.
    thresholds
        When to work in single precision.
    splits
        Has the SVD of the first unfolding where a train of the same modes was made before; None makes it anew.
    name
        Tells the weight from others that share `splits`, unless it is a function of the weight and the modes alone.
    """
    m, n, bonds = factorization.out_modes, factorization.in_modes, factorization.bonds
    d = len(m)
    padded: NDArray[Any] = np.asarray(weight, dtype=np.float32 if weight.size >= thresholds.large else np.float64)
    if weight.shape != (factorization.outputs, factorization.inputs):
        added = zip((factorization.outputs, factorization.inputs), weight.shape, strict=True)
        padded = np.pad(padded, [(0, wanted - size) for wanted, size in added])
    order = [axis for k in range(d) for axis in (k, d + k)]
    rest = padded.reshape(*m, *n).transpose(order)
    cores = []
    for k in range(d - 1):
        unfolding = rest.reshape(bonds[k] * m[k] * n[k], -1)
        if k == 0 and splits is not None:
            u, found = splits.split((name, m, n), unfolding, bonds[k + 1], thresholds)
        else:
            u, found = leading_split(unfolding, bonds[k + 1], thresholds)
        core = np.zeros((len(u), bonds[k + 1]))
        core[:, : u.shape[1]] = u
        carried = np.zeros((bonds[k + 1], found.shape[1]), found.dtype)
        carried[: len(found)] = found
        cores.append(core.reshape(bonds[k], m[k], n[k], bonds[k + 1]))
        rest = carried
    cores.append(rest.reshape(bonds[-2], m[-1], n[-1], 1).astype(np.float64, copy=False))
    return balanced(cores)


def carried_ranks(factorization: Factorization) -> tuple[int, ...]:
    """Return the ranks cut to what the bonds can carry: ``r_k <= r_{k-1} m_k n_k`` from both ends.

    >>> from lrfdse.ir.factorization import Factorization
    >>> carried_ranks(Factorization((2, 3, 2), (2, 1, 2), (9, 9)))
    (4, 4)
    """
    ranks = list(factorization.ranks)
    sizes = [m * n for m, n in zip(factorization.out_modes, factorization.in_modes, strict=True)]
    before = 1
    for k in range(len(ranks)):
        before = ranks[k] = min(ranks[k], before * sizes[k])
    after = 1
    for k in reversed(range(len(ranks))):
        after = ranks[k] = min(ranks[k], after * sizes[k + 1])
    return tuple(ranks)


def balanced(cores: Sequence[Array]) -> tuple[Array, ...]:
    """Return the same product with both sides of every bond index at equal norm, which suits float32."""
    made = list(cores)
    for k in range(len(made) - 1):
        left = np.sqrt(np.einsum("amnr,amnr->r", made[k], made[k]))
        right = np.sqrt(np.einsum("rmnb,rmnb->r", made[k + 1], made[k + 1]))
        scale = np.sqrt(np.divide(right, left, out=np.ones_like(left), where=(left > 0) & (right > 0)))
        made[k] = made[k] * scale
        made[k + 1] = made[k + 1] / scale[:, None, None, None]
    return tuple(made)
