"""Dense int8 with a low-rank repair of what rounding lost: the other way to spend bytes on int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.storage import FLOAT32, INT8, Storage

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array


def patch(fitter: Fitter, rounded: Factors, rank: int, storage: Storage = INT8) -> Factors:
    """Return the best two factors of what rounding lost, in the metric that the layer is fitted in.

    With E the lost part of the weight and G = S S^T what the layer reads, these are the leading `rank` singular
    directions of E S, the exact form of QERA (Zhang et al., 2024) and EoRA (Liu et al., 2024); the outputs are weighted
    as in the layer's own fits.

    Parameters
    ----------
    fitter
        What fits the layer.
    rounded
        The dense layer in int8.
    rank
        Of the repair.
    storage
        What the repair is stored in.
    """
    lost = fitter.weight - dense_weight(rounded.cores)
    outputs, inputs = lost.shape
    svd = Factorization.svd(outputs, inputs, rank)
    return Fitter(lost, fitter.moments, fitter.method, fitter.weighting, name=fitter.name).fit(svd, storage)


def repaired(fitter: Fitter, rounded: Factors, rank: int) -> Factors:
    """Return factors of full rank that stand for a dense layer in int8 with its repair, for a model to be run.

    They are in float32: what the layer takes as it would be stored is in `repaired_bytes`.

    Parameters
    ----------
    fitter, rounded, rank
        As for `patch`.
    """
    whole = dense_weight(rounded.cores) + dense_weight(patch(fitter, rounded, rank).cores)
    outputs, inputs = whole.shape
    left: Array = np.eye(outputs) if outputs <= inputs else whole
    right: Array = whole if outputs <= inputs else np.eye(inputs)
    cores = (left[None, :, None, :], right[:, None, :, None])
    return fitter.measured(Factorization.svd(outputs, inputs, min(outputs, inputs)), cores)


def repaired_bytes(outputs: int, inputs: int, rank: int) -> int:
    """Return the bytes of a dense layer in int8 and of its repair in int8, scales included, a bias aside.

    >>> repaired_bytes(300, 784, 8)
    246304
    """
    elements, scales = outputs * inputs + rank * (outputs + inputs), 2 * outputs + rank
    return INT8.bytes_of(elements) + FLOAT32.bytes_of(scales)
