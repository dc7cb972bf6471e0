"""How far a train is from a weight, without the dense matrix that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.factorize.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array, Factorization


def squared_difference(weight: NDArray[Any], cores: Sequence[Array], thresholds: Thresholds = DEFAULT) -> float:
    """Return ``|W - What|^2`` of a train ``What`` whose padding is cut off.

    The train is cut where its two halves are smallest, and their product taken a few rows of the unfolding at a time:
    in single precision from `lrfdse.factorize.thresholds.Thresholds.large` elements on, summed in double.

    Parameters
    ----------
    weight : array, shape (M, N)
        The weight.
    cores
        Core k of shape ``(r_{k-1}, m_k, n_k, r_k)``, the product of all m at least M, of all n at least N.
    thresholds
        When to work in single precision, and on how much at a time.
    """
    kind = np.float32 if weight.size >= thresholds.large else np.float64
    left, right = _halves([core.astype(kind) for core in cores])
    (a, b, _), (_, c, d) = left.shape, right.shape
    whole: NDArray[Any] = weight.astype(kind, copy=False)
    if whole.shape != (a * c, b * d):
        whole = np.pad(whole, ((0, a * c - whole.shape[0]), (0, b * d - whole.shape[1])))
    blocks = whole.reshape(a, c, b, d)
    outputs, inputs = weight.shape
    total = 0.0
    flat = right.reshape(len(right), c * d)
    step = max(1, thresholds.chunk // (c * d))
    for i in range(a):
        for start in range(0, b, step):
            part = (left[i, start : start + step] @ flat).reshape(-1, c, d)
            rest = blocks[i, :, start : start + step].transpose(1, 0, 2) - part
            # What padding holds is cut off.
            rest[:, max(outputs - i * c, 0) :] = 0
            for j in range(max(inputs // d - start, 0), len(rest)):
                rest[j, :, max(inputs - (start + j) * d, 0) :] = 0
            total += float(np.einsum("jcd,jcd->", rest, rest, dtype=np.float64))
    return total


def squared_error(
    weight: NDArray[Any], factorization: Factorization, cores: Sequence[Array], thresholds: Thresholds = DEFAULT
) -> float:
    """Return ``|W - What|^2`` of the cores of a factorization; see `squared_difference`."""
    if not factorization.repair:
        return squared_difference(weight, cores, thresholds)
    return squared_difference(weight - cores[0][0, :, :, 0].astype(weight.dtype), cores[1:], thresholds)


def _halves(cores: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the product of the cores left of a bond ``(a, b, r)`` and right of it ``(r, c, d)``."""
    outputs = int(np.prod([core.shape[1] for core in cores]))
    inputs = int(np.prod([core.shape[2] for core in cores]))
    sizes, a, b = [], 1, 1
    for core in cores[:-1]:
        a, b = a * core.shape[1], b * core.shape[2]
        sizes.append(core.shape[3] * (a * b + outputs * inputs // (a * b)))
    cut = int(np.argmin(sizes)) + 1 if sizes else 1
    left = np.ones((1, 1, 1), cores[0].dtype)
    for core in cores[:cut]:
        joined = np.tensordot(left, core, axes=(2, 0)).transpose(0, 2, 1, 3, 4)
        left = joined.reshape(left.shape[0] * core.shape[1], left.shape[1] * core.shape[2], core.shape[3])
    right = np.ones((1, 1, 1), cores[0].dtype)
    for core in reversed(cores[cut:]):
        joined = np.tensordot(core, right, axes=(3, 0)).transpose(0, 1, 3, 2, 4)
        right = joined.reshape(core.shape[0], core.shape[1] * right.shape[1], core.shape[2] * right.shape[2])
    return left, right
