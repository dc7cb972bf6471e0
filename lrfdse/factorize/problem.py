"""One layer to be factorized, with what its fits share, computed once."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.errors import InputError
from lrfdse.factorize.linalg import (
    full_svd,
    is_direct,
    leading_svd,
    left_vectors,
    shrinkage,
    shrunk,
    square_root,
)
from lrfdse.factorize.objective import OutputError
from lrfdse.factorize.target import Cumulative
from lrfdse.factorize.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array, Factorization
    from lrfdse.ir.factors import Moments

DAMPING = 0.1
"""Part of a weighting's mean eigenvalue that is added to all, so that its inverse stays small.

Measured on two layers of lenet300-fashion: the table of docs/method.md, section 7, is flat from 0.0001 to 0.1.
"""

_CONSTANT = 1e-13
"""Part of an input's second moment below which its variance counts as zero: rounding of the difference of the two."""


@dataclasses.dataclass(slots=True)
class Problem:
    """A layer's weight, the moments of its inputs, the weighting of its outputs, and how much a fit may cost.

    Parameters are those of `lrfdse.factorize.fit.Fitter`.
    """

    weight: Array
    moments: Moments | None = None
    weighting: Array | None = None
    beta: float | None = 1.0
    sweeps: int = 12
    budget: float | None = None
    name: str = ""
    ridge: float | None = None
    thresholds: Thresholds = DEFAULT
    _left_vectors: Array | None = None
    _covariance: Array | None = None
    _root: Array | None = None
    _shrunk: Array | None = None
    _weighting_root: Array | None = None
    _cumulative: Cumulative | None = None
    _error: OutputError | None = None
    _principal: tuple[Array, Array] | None = None

    def __post_init__(self) -> None:
        # Nothing but closed forms in single precision is made of a large weight without data.
        is_single = self.moments is None and self.weight.size >= self.thresholds.large
        self.weight = np.asarray(self.weight, dtype=np.float32 if is_single else np.float64)
        if self.weight.ndim != 2:
            raise ValueError(f"a weight has two axes (outputs, inputs), but this one has shape {self.weight.shape}")
        where = f"layer {self.name!r}" if self.name else "the layer"
        _refuse_not_finite(self.weight, f"weights of {where}")
        outputs, inputs = self.weight.shape
        if (seen := self.moments) is not None:
            parts = (seen.cross, seen.output_mean, seen.output_variance)
            if any(part is None for part in parts) and any(part is not None for part in parts):
                raise ValueError("Moments need all of cross, output_mean and output_variance, or none of them")
            shapes = {"mean": (inputs,), "second": (inputs, inputs)}
            shapes |= {} if seen.cross is None else {"cross": (outputs, inputs), "output_mean": (outputs,)}
            for part, shape in shapes.items():
                array = getattr(seen, part)
                if array.shape != shape:
                    raise ValueError(f"{part} of {where} has shape {array.shape} instead of {shape}")
                _refuse_not_finite(array, f"calibration moments of {where}")
            if seen.count < 1:
                raise InputError(f"{where} reads no rows on the calibration data: at least one is needed")
        if self.weighting is not None:
            if self.weighting.shape != (outputs, outputs):
                raise ValueError(
                    f"the output weighting of {where} has shape {self.weighting.shape} instead of {(outputs, outputs)}"
                )
            _refuse_not_finite(self.weighting, f"output weighting of {where}")
            scale = float(np.trace(self.weighting)) / outputs
            # A weighting that is zero prefers no output to another.
            self.weighting = (self.weighting + self.weighting.T) / 2 if scale > 0 else None

    @property
    def left_vectors(self) -> Array | None:
        """All left singular vectors of a large weight, of no more outputs than inputs; None of any other weight."""
        outputs, inputs = self.weight.shape
        if (
            self._left_vectors is None
            and self.weight.size >= self.thresholds.large
            and outputs <= min(inputs, self.thresholds.most_vectors)
        ):
            self._left_vectors = left_vectors(self.weight)
        return self._left_vectors

    @property
    def covariance(self) -> Array:
        """Covariance of the inputs, as the calibration data have it, shape (N, N)."""
        if self._covariance is None:
            assert self.moments is not None
            covariance = self.moments.covariance
            # Of an input that never varies, the difference of moments leaves rounding that would pass for a variance.
            constant = np.diag(covariance) <= _CONSTANT * np.diag(self.moments.second)
            covariance[constant] = 0.0
            covariance[:, constant] = 0.0
            self._covariance = covariance
        return self._covariance

    @property
    def root(self) -> Array:
        """``S`` with ``S S^T`` the covariance."""
        if self._root is None:
            self._root = square_root(self.covariance)
        return self._root

    @property
    def has_few_samples(self) -> bool:
        """Whether products with the root take less than those with the covariance, and enough for that to matter."""
        outputs, inputs = self.weight.shape
        if self.moments is None or outputs * inputs**2 < self.thresholds.costly:
            return False
        return bool(self.thresholds.few_samples * self.moments.count <= inputs)

    @property
    def damped_weighting(self) -> Array | None:
        """The weighting with a part of its mean eigenvalue added to all."""
        if self.weighting is None:
            return None
        scale = float(np.trace(self.weighting)) / len(self.weighting)
        return np.asarray(self.weighting + DAMPING * scale * np.eye(len(self.weighting)))

    @property
    def weighting_root(self) -> Array | None:
        """Lower triangular ``K`` with ``K K^T`` the damped weighting."""
        if self._weighting_root is None and (damped := self.damped_weighting) is not None:
            self._weighting_root = np.asarray(np.linalg.cholesky(damped))
        return self._weighting_root

    def principal(self, turned: Array, rank: int) -> tuple[Array, Array]:
        """Return the leading left singular vectors and singular values of ``turned @ root``, at most `rank`.

        Where one SVD serves every rank, and the target is one for all factorizations, it is made once.

        Parameters
        ----------
        turned
            ``K^T T``, with T the target and K the root of the weighting; T itself without a weighting.
        rank
            How many at most.
        """
        if not self.root.shape[1]:
            return np.zeros((len(turned), 0)), np.zeros(0)
        if self.is_cumulative or not is_direct((len(turned), self.root.shape[1]), rank):
            return leading_svd(turned @ self.root, rank)[:2]
        if self._principal is None:
            self._principal = full_svd(turned @ self.root)[:2]
        vectors, values = self._principal
        return vectors[:, :rank], values[:rank]

    def part(self, weight: Array) -> Problem:
        """Return the problem of a part of the target, as a layer of its own that reads what this one does."""
        moments = self.moments
        if moments is None:
            return Problem(weight, None, self.weighting, name=self.name, thresholds=self.thresholds)
        return Problem(
            weight,
            dataclasses.replace(moments, cross=None, output_mean=None, output_variance=None),
            self.weighting,
            name=self.name,
            thresholds=self.thresholds,
            _covariance=self.covariance,
            _root=self.root,
            _weighting_root=self.weighting_root,
        )

    def release(self) -> None:
        """Let go of what fits share and the next would make again; what takes long to make again is kept."""
        self._error = self._principal = self._covariance = self._shrunk = None

    @property
    def is_cumulative(self) -> bool:
        """Whether the outputs to reach are those of other inputs than the layer reads."""
        return self.moments is not None and self.moments.cross is not None

    @property
    def cumulative(self) -> Cumulative:
        """The targets, where `is_cumulative` holds."""
        if self._cumulative is None:
            assert self.moments is not None
            self._cumulative = Cumulative.of(self.weight, self.moments, self.ridge)
        return self._cumulative

    def target(self, factorization: Factorization) -> Array:
        """Return what the factorization is to approximate, shape (M, N)."""
        if not self.is_cumulative:
            return self.weight
        beta = self.cumulative.beta(factorization, self.covariance) if self.beta is None else self.beta
        return self.cumulative.at(beta)

    def error(self, factorization: Factorization) -> OutputError:
        """Return the squared error that iterative fits minimise: with shrunk covariance and damped weighting."""
        if self._error is not None:
            return self._error
        assert self.moments is not None
        if self._shrunk is None:
            self._shrunk = shrunk(self.covariance, self.moments.count)
        root, lift = None, 0.0
        if self.has_few_samples:
            part, scale = shrinkage(self.covariance, self.moments.count)
            root, lift = math.sqrt(1 - part) * self.root, part * scale
        made = OutputError.of(self.target(factorization), self._shrunk, self.damped_weighting, root, lift)
        if not self.is_cumulative:
            self._error = made
        return made


def _refuse_not_finite(array: Array, what: str) -> None:
    if bad := int(array.size - np.isfinite(array).sum()):
        raise InputError(f"{what} must be finite, but {bad} of {array.size} are NaN or Inf")
