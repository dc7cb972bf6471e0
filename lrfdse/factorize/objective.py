"""The squared error that fits minimise, for one layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.factorize.chain import dense_weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.design import Array


@dataclasses.dataclass(frozen=True, slots=True)
class OutputError:
    """The squared error ``trace(H D G D^T)`` of a train What, with ``D = T - What``.

    Parameters
    ----------
    weight
        The target T, shape (M, N): the layer's weight W, or what the layer should be on other inputs.
    covariance
        G, of the inputs, shape (N, N), positive semidefinite.
    product
        ``H T G``, shape (M, N).
    metric
        H, of the outputs, shape (M, M), positive definite; None is the identity.
    """

    weight: Array
    covariance: Array
    product: Array
    metric: Array | None = None

    @classmethod
    def of(cls, weight: Array, covariance: Array, metric: Array | None = None) -> OutputError:
        """Take the product once, for all fits of the layer."""
        weight = np.asarray(weight, dtype=np.float64)
        product = weight @ covariance
        return cls(weight, covariance, product if metric is None else metric @ product, metric)

    def padded(self, outputs: int, inputs: int) -> OutputError:
        """Return the error of the layer padded with zeros: outputs that are zero and inputs that never vary."""
        m, n = self.weight.shape
        if (m, n) == (outputs, inputs):
            return self
        added = ((0, outputs - m), (0, inputs - n))
        metric = self.metric
        if metric is not None:
            scale = float(np.trace(metric)) / m
            metric = np.pad(metric, (added[0], added[0]))
            metric[range(m, outputs), range(m, outputs)] = scale
        return OutputError(
            np.pad(self.weight, added),
            np.pad(self.covariance, (added[1], added[1])),
            np.pad(self.product, added),
            metric,
        )

    @property
    def whole(self) -> float:
        """The error of a train that is zero."""
        return max(float(np.vdot(self.product, self.weight)), 0.0)

    def __call__(self, cores: Sequence[Array]) -> float:
        """Return the squared error of a train."""
        return self.of_difference(self.weight - dense_weight(cores))

    def of_difference(self, difference: Array) -> float:
        """Return the squared error of a train that differs so from the target, shape (M, N)."""
        image = difference @ self.covariance
        return max(float(np.vdot(image if self.metric is None else self.metric @ image, difference)), 0.0)
