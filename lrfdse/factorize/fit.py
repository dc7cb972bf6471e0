"""Fit factorizations of one layer: to its outputs on calibration data, or to its weight where there are none."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.factorize.als import SWEEPS
from lrfdse.factorize.chain import dense_weight, weight_of
from lrfdse.factorize.difference import squared_error
from lrfdse.factorize.inputs import rounded_inputs
from lrfdse.factorize.methods import METHODS
from lrfdse.factorize.objective import OutputError
from lrfdse.factorize.problem import Problem
from lrfdse.factorize.quantized import quantized
from lrfdse.factorize.repaired import repaired
from lrfdse.factorize.thresholds import DEFAULT, Thresholds
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.halves import halved
from lrfdse.ir.int8 import LARGEST
from lrfdse.ir.storage import FLOAT16, FLOAT32, Storage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.factorize.methods import Method
    from lrfdse.ir.choice import Choice
    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Moments

_BLOCK = 1 << 14
"""Rows of a table that are looked at together."""

_CONSTANT = 1e-24
"""Part of the squared mean output below which its variance is rounding of double precision."""


@dataclasses.dataclass(slots=True)
class Fitter:
    """Fits one layer's factorizations; what they share (roots, targets, products) is computed once.

    Parameters
    ----------
    weight
        W, shape (M, N). Without moments one of `Thresholds.large` elements is held in single precision.
    moments
        Moments of the layer's inputs; None without calibration data. With `Moments.cross`, they are of the inputs
        that a compressed model feeds the layer, and the original outputs are what is fitted.
    method
        One of `lrfdse.factorize.methods.METHODS`. "auto" is the best known: every path is fitted to the outputs, the
        paths of the plain SVD in closed form and others by alternating least squares under the covariance shrunk by the
        number of samples. Without moments every method is "svd", TT-SVD of the weight.
    weighting
        H, symmetric positive semidefinite, shape (M, M): the outputs' differences d count as ``d^T H d``. Fits damp it
        by a tenth of its mean eigenvalue. None is the identity.
    beta
        Between 0, the layer's own outputs on what it reads, and 1, the original ones. None chooses for each
        factorization, by ACES, which did not do better where it was measured (docs/method.md). Without `Moments.cross`
        it has no meaning.
    sweeps, budget
        Limits of alternating least squares (`lrfdse.factorize.als.fit_outputs`).
    name
        The layer's name, for messages.
    ridge
        Ridge of the regression on what a compressed model feeds the layer; None takes that of generalized
        cross-validation. Without `Moments.cross` it has no meaning.
    thresholds
        Sizes at which fits change to cheaper algorithms.
    rows
        Of an embedding, Q of shape (rows, N) where its table is ``Q W^T`` (`lrfdse.model.tables`): stored in int8, its
        table is rounded, not its factors. None of other layers.

    Raises
    ------
    InputError
        A weight or moment is NaN or Inf, or the method is not known.

    Notes
    -----
    The mean is taken out of inputs and outputs because the bias absorbs it. Shrinkage keeps trains from fitting the
    noise of few samples (docs/method.md holds the measurement); the closed form goes without, as a projection of the
    weight itself has no such freedom. Errors are those on the moments as given.
    """

    weight: Array
    moments: Moments | None = None
    method: str = "auto"
    weighting: Array | None = None
    beta: float | None = 1.0
    sweeps: int = SWEEPS
    budget: float | None = None
    name: str = ""
    ridge: float | None = None
    thresholds: Thresholds = DEFAULT
    rows: NDArray[Any] | None = None
    problem: Problem = dataclasses.field(init=False, repr=False)
    _energy: float | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        METHODS.get(self.method)
        self.problem = Problem(
            self.weight,
            self.moments,
            self.weighting,
            self.beta,
            self.sweeps,
            self.budget,
            self.name,
            self.ridge,
            self.thresholds,
        )
        self.weight = self.problem.weight

    def fit(self, factorization: Factorization, storage: Storage = FLOAT32) -> Factors:
        """Return the fitted factors, rounded to what they are stored in, with their true errors.

        Raises
        ------
        PlanError
            They are to be stored as float16 and leave its range.
        ValueError
            The storage does not take the factorization.
        """
        if factorization.repair and not storage.takes(factorization):
            raise ValueError(f"{factorization} is not stored as {storage}")
        if storage == FLOAT16:
            return self._halved(factorization, self._cores(factorization))
        if storage.scaled:
            return self._rounded(factorization, self._cores(factorization), storage)
        if factorization.is_dense and not self.problem.is_cumulative:
            shift = None if self.moments is None else np.zeros(len(self.weight))
            core = self.weight.reshape(1, *self.weight.shape, 1)
            error, loss = (None if known is None else 0.0 for known in (self.moments, self._weighting))
            return Factors(factorization, (core,), shift, 0.0, error, loss)
        return self.measured(factorization, self._cores(factorization))

    def stored(self, factors: Factors, choice: Choice) -> Factors:
        """Return fitted factors in another storage: those given in float32, else rounded, with their true errors.

        Parameters
        ----------
        factors
            What `fit` gave of this layer in float32; of a repaired layer, without the repair.
        choice
            What they are to be.
        """
        if choice.storage == FLOAT16:
            return self._halved(choice.factorization, factors.cores)
        return self._rounded(choice.factorization, factors.cores, choice.storage) if choice.storage.scaled else factors

    def _halved(self, factorization: Factorization, cores: tuple[Array, ...]) -> Factors:
        """Return cores as float16 with their true errors.

        Nothing is fitted again: rounding adds 2e-4 of the weight, where fits leave 1e-2 and more (docs/int8.md).
        """
        return dataclasses.replace(self.measured(factorization, halved(cores)), halves=True)

    def _rounded(self, factorization: Factorization, cores: tuple[Array, ...], storage: Storage) -> Factors:
        if self.rows is not None:
            return self._table_rounded(factorization, cores)
        if factorization.repair:
            return self.measured(factorization, *repaired(self.problem, factorization, self._method))
        covariance, shrunk = None, None
        if self.moments is not None:
            covariance, shrunk = self.covariance, self.problem.error(factorization).covariance
        target = self.problem.target(factorization)
        found = self.measured(factorization, *quantized(target, factorization, cores, covariance, shrunk))
        return self._with_inputs_rounded(found) if storage.rounds_inputs else found

    def _table_rounded(self, factorization: Factorization, cores: tuple[Array, ...]) -> Factors:
        """Return factors of an embedding whose table is int8, with what rounding it adds to errors.

        An element of a column is off by anything between half a level below and above, so by a twelfth of a squared
        level in the mean, independent of others and of what the factors lose (Widrow and Kollár, Quantization Noise,
        2008).
        """
        assert self.rows is not None
        found = self.measured(factorization, cores)
        outputs, inputs = self.weight.shape
        first, *rest = factorization.step_matrices(cores)
        columns = first[:, :inputs]
        largest = np.zeros(len(columns))
        for begin in range(0, len(self.rows), _BLOCK):
            part = self.rows[begin : begin + _BLOCK].astype(np.float64) @ columns.T
            largest = np.maximum(largest, np.abs(part).max(axis=0, initial=0.0))
        noise = (largest / LARGEST) ** 2 / 12
        behind = rest[0][:outputs] if rest else np.eye(outputs)
        added = float(noise @ np.einsum("ij,ij->j", behind, behind))
        norm = float(np.linalg.norm(self.weight))
        weight_error = math.hypot(found.weight_error, _ratio(math.sqrt(added * len(self.rows)), norm))
        error, loss = found.output_error, found.loss
        if error is not None and self.moments is not None:
            whole = math.sqrt(max(self._whole(self.moments), 0.0))
            error = math.hypot(error, _ratio(math.sqrt(added), whole))
        if loss is not None and self._weighting is not None:
            loss += float(noise @ np.einsum("ij,ij->j", behind, self._weighting @ behind)) / 2
        # A table that stays whole is right in the mean, so that nothing is added behind it.
        shift = found.bias_shift if rest else None
        return dataclasses.replace(
            found, bias_shift=shift, weight_error=weight_error, output_error=error, loss=loss, table=True
        )

    def _with_inputs_rounded(self, found: Factors) -> Factors:
        """Return factors whose steps read whole numbers, with what that adds to errors and takes from the bias.

        It is taken as independent of what the factors lose.
        """
        if self.moments is None or self.moments.rows is None or found.bias_shift is None:
            raise ValueError("inputs are rounded by what calibration data have a layer read: there are none")
        outputs = len(self.weight)
        made = rounded_inputs(found.factorization, found.cores, self.moments.rows)
        moved = made.moved[:, :outputs]
        mean = moved.mean(axis=0)
        spread = moved - mean
        added = float(np.vdot(spread, spread)) / len(spread)
        assert found.output_error is not None
        error = math.hypot(found.output_error, _ratio(math.sqrt(added), math.sqrt(max(self._whole(self.moments), 0.0))))
        weighting = self._weighting
        loss = None
        if found.loss is not None and weighting is not None:
            loss = found.loss + float(np.vdot(spread @ weighting, spread)) / len(spread) / 2
        shift = found.bias_shift + mean
        return dataclasses.replace(found, bias_shift=shift, output_error=error, loss=loss, roundings=made.roundings)

    @property
    def covariance(self) -> Array:
        """Covariance of the inputs, shape (N, N); needs moments."""
        return self.problem.covariance

    def _cores(self, factorization: Factorization) -> tuple[Array, ...]:
        if factorization.is_dense or factorization.repair:
            target = self.problem.target(factorization.unrepaired)
            return (target.reshape(1, *target.shape, 1),)
        return self._method.fit(self.problem, factorization)

    @property
    def _method(self) -> Method:
        method = METHODS.get(self.method)
        return METHODS.get("svd") if method.needs_moments and self.moments is None else method

    def measured(
        self,
        factorization: Factorization,
        cores: tuple[Array, ...],
        scales: tuple[NDArray[np.float32], ...] | None = None,
    ) -> Factors:
        """Return cores of any origin as factors, with the bias correction and the errors on this layer's data.

        Parameters
        ----------
        factorization
            Their shape.
        cores
            The cores.
        scales
            What levels are worth, of cores in int8; see `Factors.scales`.
        """
        found = self._measured(factorization, cores)
        return found if scales is None else dataclasses.replace(found, scales=scales)

    def _measured(self, factorization: Factorization, cores: tuple[Array, ...]) -> Factors:
        outputs, inputs = self.weight.shape
        if self.moments is None and self.weight.size >= self.thresholds.large:
            error = math.sqrt(squared_error(self.weight, factorization, cores, self.thresholds))
            return Factors(factorization, cores, None, _ratio(error, float(np.linalg.norm(self.weight))), None)
        approximation = weight_of(factorization, cores)[:outputs, :inputs]
        difference = self.weight - approximation
        weight_error = _ratio(float(np.linalg.norm(difference)), float(np.linalg.norm(self.weight)))
        moments = self.moments
        if moments is None:
            return Factors(factorization, cores, None, weight_error, None)
        problem, covariance = self.problem, self.problem.covariance
        image = None
        if moments.cross is None:
            whole = self._whole(moments)
            if problem.has_few_samples:
                left = self._output_energy(difference)
            else:
                image = difference @ covariance
                left = max(float(np.vdot(image, difference)), 0.0)
            shift = difference @ moments.mean
        else:
            assert moments.output_mean is not None and moments.output_variance is not None
            whole = self._whole(moments)
            left = (
                moments.output_variance
                - 2 * float(np.vdot(approximation, moments.cross))
                + _energy(approximation, covariance)
            )
            shift = moments.output_mean - approximation @ moments.mean
            left = left if whole > 0 else 0.0
        output_error = _ratio(math.sqrt(max(left, 0.0)), math.sqrt(max(whole, 0.0)))
        # The loss of a small change d of the outputs is d^T H d / 2.
        loss = None
        if image is not None and self._weighting is not None:
            loss = max(float(np.vdot(self._weighting @ image, difference)), 0.0) / 2
        elif self._weighting is not None:
            loss = self._loss(approximation) / 2
        return Factors(factorization, cores, shift, weight_error, output_error, loss)

    def _whole(self, moments: Moments) -> float:
        """Return the variance of the outputs that are to be reached, summed; 0 where rounding is all that varies."""
        if moments.output_mean is None or moments.output_variance is None:
            if self._energy is None:
                self._energy = self._output_energy(self.weight)
            return self._energy
        varies = moments.output_variance > _CONSTANT * float(np.vdot(moments.output_mean, moments.output_mean))
        return moments.output_variance if varies else 0.0

    def loss(self, cores: tuple[Array, ...]) -> float:
        """Return ``trace(H D G D^T)`` of cores, absolute: ``D = T - What`` with T the best linear map on the data.

        T is the weight, or with `Moments.cross` the regression of the original outputs on the inputs.
        """
        outputs, inputs = self.weight.shape
        return self._loss(dense_weight(cores)[:outputs, :inputs])

    def _loss(self, approximation: Array) -> float:
        problem = self.problem
        target = problem.cumulative.at(1.0) if problem.is_cumulative else self.weight
        difference = target - approximation
        return OutputError(target, problem.covariance, target, problem.weighting).of_difference(difference)

    def _output_energy(self, weight: Array) -> float:
        if not self.problem.has_few_samples:
            return _energy(weight, self.problem.covariance)
        half = weight @ self.problem.root
        return float(np.vdot(half, half))

    @property
    def _weighting(self) -> Array | None:
        """The weighting, where there are data that it can be used with."""
        return None if self.moments is None else self.problem.weighting

    @property
    def root(self) -> Array:
        """``S`` with ``S S^T`` the covariance of the inputs, shape (N, rank)."""
        return self.problem.root


def _energy(weight: Array, covariance: Array) -> float:
    return max(float(np.vdot(weight @ covariance, weight)), 0.0)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
