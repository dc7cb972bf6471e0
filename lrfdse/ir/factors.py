"""The numbers of a fitted factorization, how they are stored, and the second moments that fits are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.int8 import Int8Matrix, levels_of
from lrfdse.ir.quantized import Rounding
from lrfdse.ir.storage import FLOAT16, FLOAT32, INT8, QDQ, Storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array


@dataclass(frozen=True, slots=True)
class Moments:
    """Second moments of what a layer reads, accumulated over calibration data."""

    count: int
    """Input rows seen."""
    mean: Array
    """E[x], shape (N,)."""
    second: Array
    """G = E[x x^T], shape (N, N), not centred."""
    cross: Array | None = None
    """C = E[(y - E y)(x - E x)^T], shape (M, N), where the layer is to give y of other inputs than the x it reads.

    y is the original layer's product without its bias, on the original inputs; None means y = W x.
    """
    output_mean: Array | None = None
    """E[y], shape (M,); goes with `cross`."""
    output_variance: float | None = None
    """E|y - E y|^2, summed over outputs; goes with `cross`."""
    rows: NDArray[np.float32] | None = None
    """Some of the input rows seen, drawn evenly, shape (rows, N); None where none were kept."""

    @property
    def covariance(self) -> Array:
        """Second moment about the mean, shape (N, N)."""
        return self.second - self.mean[:, None] * self.mean[None, :]


@dataclass(frozen=True, slots=True)
class Factors:
    """A fitted factorization: the numbers."""

    factorization: Factorization
    cores: tuple[Array, ...]
    """Core k has shape (r_{k-1}, m_k, n_k, r_k), float64; of a repaired layer see `Factorization`."""
    bias_shift: Array | None
    """What is added to every use's bias, shape (M,): ``(W - What) E[x]``; None without calibration data."""
    weight_error: float
    """Relative Frobenius error ``|W - What| / |W|``."""
    output_error: float | None
    """Relative error of the layer's output on calibration data, mean taken out; None without calibration data."""
    loss: float | None = None
    """Second-order estimate of what the model loses a sample, in nats or squared units of its output, when this layer
    alone is so; None where nothing is known of how the model depends on the layer."""
    scales: tuple[NDArray[np.float32], ...] | None = None
    """Of cores in int8, for each core what a level of each output of its step is worth: the matrices of the steps are
    levels times scales. None where cores are in floating point."""
    roundings: tuple[Rounding, ...] | None = None
    """How what each step reads becomes whole numbers of 8 bits, in execution order; None where it stays as it is. Then
    `output_error`, `loss` and `bias_shift` are of the rounded chain."""
    halves: bool = False
    """Whether the cores are stored as float16, which all their elements then are (`lrfdse.ir.halves`)."""
    table: bool = False
    """Whether they are of an embedding whose table is int8, with a scale for each column. The table is rounded when it
    is made; cores are in floating point, and errors know what rounding adds."""

    @property
    def storage(self) -> Storage:
        """How the cores, or an embedding's table, are stored."""
        if self.table:
            return INT8
        if self.scales is None:
            return FLOAT16 if self.halves else FLOAT32
        return INT8 if self.roundings is None else QDQ

    @property
    def choice(self) -> Choice:
        """Factorization and storage together."""
        return Choice(self.factorization, self.storage)

    def int8_matrices(self) -> list[Int8Matrix]:
        """Return the matrices of the steps in execution order, of cores in int8.

        Raises
        ------
        ValueError
            The cores are in floating point, or not made of levels.
        """
        if self.scales is None:
            raise ValueError(f"the cores of {self.factorization} are in floating point")
        scaled = zip(self.factorization.step_matrices(self.cores), self.step_scales(), strict=True)
        return [Int8Matrix(levels_of(m, scales), scales) for m, scales in scaled if scales is not None]

    def step_scales(self) -> tuple[NDArray[np.float32] | None, ...]:
        """Return the scales of every step's matrix in execution order, None of those in floating point."""
        if self.scales is None:
            return (None,) * len(self.cores)
        return self.scales if self.factorization.direction == "lr" else self.scales[::-1]


def packed(factors: Factors) -> dict[str, NDArray[Any]]:
    """Return factors as named arrays, as stores keep them: cores in their storage, errors and bias shift as float64.

    float32 is the precision of models and kernels, so that who reads factors and who fits them write the same files.
    """
    import numpy as np

    known = (factors.weight_error, factors.output_error, factors.loss)
    errors = np.array([np.nan if error is None else error for error in known])
    if factors.scales is None:
        kind = "float32" if factors.table else factors.storage.element
        arrays: dict[str, NDArray[Any]] = {f"core{k}": core.astype(kind) for k, core in enumerate(factors.cores)}
    else:
        levels = factors.factorization.step_cores([each.levels for each in factors.int8_matrices()])
        arrays = {f"core{k}": core for k, core in enumerate(levels)}
        arrays |= {f"scale{k}": scale for k, scale in enumerate(factors.scales)}
    if factors.roundings is not None:
        arrays["roundings"] = np.array([(each.scale, each.least) for each in factors.roundings])
    shift = {} if factors.bias_shift is None else {"bias_shift": factors.bias_shift}
    return {"errors": errors, **shift, **arrays}


def unpacked(choice: Choice, stored: Mapping[str, NDArray[Any]]) -> Factors:
    """Return the factors that `packed` gave the arrays of.

    Raises
    ------
    KeyError, ValueError
        An array is missing, or does not fit the factorization and its storage.
    """
    import numpy as np

    factorization, scales = choice.factorization, None
    cores = tuple(stored[f"core{k}"].astype(np.float64) for k in range(len(factorization.core_shapes)))
    shift = stored.get("bias_shift")
    if tuple(core.shape for core in cores) != factorization.core_shapes or not all(np.isfinite(c).all() for c in cores):
        raise ValueError(f"not the cores of {factorization}")
    table = choice.storage == INT8 and "scale0" not in stored
    if choice.storage.scaled and not table:
        scales = tuple(stored[f"scale{k}"].astype(np.float32) for k in range(len(cores)))
        matrices = factorization.step_matrices(cores)
        ordered = scales if factorization.direction == "lr" else scales[::-1]
        if any(
            s.shape != (len(m),) or not ((s > 0) & (s < np.inf)).all() for m, s in zip(matrices, ordered, strict=True)
        ):
            raise ValueError(f"not the scales of {choice}")
        scaled = [m * s.astype(np.float64)[:, None] for m, s in zip(matrices, ordered, strict=True)]
        cores = tuple(factorization.step_cores(scaled))
    roundings = None
    if choice.storage.rounds_inputs:
        roundings = tuple(Rounding(float(scale), int(least)) for scale, least in stored["roundings"])
        if len(roundings) != len(cores):
            raise ValueError(f"not the roundings of {choice}")
    if shift is not None and shift.shape != (factorization.outputs,):
        raise ValueError(f"not a bias of {factorization}")
    if shift is not None and not np.isfinite(shift).all():
        raise ValueError("a bias that is not finite")
    weight_error, output_error, loss = (float(value) for value in stored["errors"])
    # What is not known is stored as NaN.
    if not 0 <= weight_error < np.inf or not (0 <= output_error < np.inf or np.isnan(output_error)) or np.isinf(loss):
        raise ValueError("errors below 0, or not finite")
    return Factors(
        factorization,
        cores,
        None if shift is None else shift.astype(np.float64),
        weight_error,
        None if np.isnan(output_error) else output_error,
        None if np.isnan(loss) else loss,
        scales,
        roundings,
        choice.storage == FLOAT16,
        table,
    )
