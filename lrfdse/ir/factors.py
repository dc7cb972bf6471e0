"""The numbers of a fitted factorization, and the second moments that fits are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.ir.factorization import Factorization

if TYPE_CHECKING:
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

    @property
    def covariance(self) -> Array:
        """Second moment about the mean, shape (N, N)."""
        return self.second - self.mean[:, None] * self.mean[None, :]


@dataclass(frozen=True, slots=True)
class Factors:
    """A fitted factorization: the numbers."""

    factorization: Factorization
    cores: tuple[Array, ...]
    """Core k has shape (r_{k-1}, m_k, n_k, r_k), float64."""
    bias_shift: Array | None
    """What is added to every use's bias, shape (M,): ``(W - What) E[x]``; None without calibration data."""
    weight_error: float
    """Relative Frobenius error ``|W - What| / |W|``."""
    output_error: float | None
    """Relative error of the layer's output on calibration data, mean taken out; None without calibration data."""
    loss: float | None = None
    """Second-order estimate of what the model loses a sample, in nats or squared units of its output, when this layer
    alone is so; None where nothing is known of how the model depends on the layer."""
