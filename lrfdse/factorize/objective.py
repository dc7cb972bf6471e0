"""The squared error that fits minimise, for one layer."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.splits import Splits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.ir.factorization import Array


@dataclasses.dataclass(frozen=True)
class OutputError:
    """The squared error ``trace(H D G D^T)`` of a train What, with ``D = T - What``.

    What fits share beside the parameters is made by the first of them that needs it.

    Parameters
    ----------
    weight
        The target T, shape (M, N): the layer's weight W, or what the layer should be on other inputs.
    covariance
        G, of the inputs, shape (N, N), positive semidefinite.
    product
        ``H T G``, shape (M, N).
    weighting
        H, of the outputs, shape (M, M), positive definite; None is the identity.
    root, lift
        Where few samples were seen, ``G = S S^T + lift I`` with S of few columns, shape (N, K): products with G are
        taken through it.
    """

    weight: Array
    covariance: Array
    product: Array
    weighting: Array | None = None
    root: Array | None = None
    lift: float = 0.0

    @classmethod
    def of(
        cls,
        weight: Array,
        covariance: Array,
        weighting: Array | None = None,
        root: Array | None = None,
        lift: float = 0.0,
    ) -> OutputError:
        """Return the error with its product taken once, for all fits of the layer.

        Parameters
        ----------
        weight, covariance, weighting, root, lift
            As for the class.
        """
        weight = np.asarray(weight, dtype=np.float64)
        product = weight @ covariance if root is None else (weight @ root) @ root.T + lift * weight
        return cls(weight, covariance, product if weighting is None else weighting @ product, weighting, root, lift)

    @functools.cached_property
    def splits(self) -> Splits:
        """SVDs of the target's unfoldings, and of those of the target under a covariance that is separable."""
        return Splits()

    @functools.cached_property
    def weighting_root(self) -> Array:
        """Lower triangular ``K`` with ``K K^T`` the weighting, which must not be None."""
        assert self.weighting is not None
        return np.asarray(np.linalg.cholesky(self.weighting))

    @functools.cached_property
    def turned(self) -> OutputError:
        """The error of ``K^T T``, without the weighting, which it holds; see `weighting_root`."""
        return self.of_target(self.weighting_root.T @ self.weight)

    @functools.cached_property
    def unweighted(self) -> OutputError:
        """The error of the same target without the weighting."""
        found = self.of_target(self.weight)
        found.__dict__["splits"] = self.splits
        return found

    def of_target(self, weight: Array) -> OutputError:
        """Return the error of another target, without a weighting."""
        return OutputError.of(weight, self.covariance, None, self.root, self.lift)

    def padded(self, outputs: int, inputs: int) -> OutputError:
        """Return the error of the layer padded with zeros: outputs that are zero and inputs that never vary."""
        m, n = self.weight.shape
        if (m, n) == (outputs, inputs):
            return self
        added = ((0, outputs - m), (0, inputs - n))
        weighting = self.weighting
        if weighting is not None:
            scale = float(np.trace(weighting)) / m
            weighting = np.pad(weighting, (added[0], added[0]))
            weighting[range(m, outputs), range(m, outputs)] = scale
        return OutputError(
            np.pad(self.weight, added),
            np.pad(self.covariance, (added[1], added[1])),
            np.pad(self.product, added),
            weighting,
            None if self.root is None else np.pad(self.root, (added[1], (0, 0))),
            self.lift,
        )

    def weighed(self, rows: Array) -> Array:
        """Return ``rows @ G``."""
        if self.root is None:
            return rows @ self.covariance
        found: Array = (rows @ self.root) @ self.root.T
        if self.lift:
            found += self.lift * rows
        return found

    @property
    def whole(self) -> float:
        """The error of a train that is zero."""
        return max(float(np.vdot(self.product, self.weight)), 0.0)

    def __call__(self, cores: Sequence[Array]) -> float:
        """Return the squared error of a train."""
        return self.of_difference(self.weight - dense_weight(cores))

    def of_difference(self, difference: Array) -> float:
        """Return the squared error of a train that differs so from the target, shape (M, N)."""
        if self.root is not None and self.weighting is None:
            half = difference @ self.root
            return float(np.vdot(half, half)) + self.lift * float(np.vdot(difference, difference))
        image = self.weighed(difference)
        return max(float(np.vdot(image if self.weighting is None else self.weighting @ image, difference)), 0.0)
