"""A dense layer in int8 with a product of two matrices beside it, for what its rounding lost.

With E what rounding took from the weight and G = S S^T the covariance of what the layer reads, the best product of a
rank is the truncated SVD of E S: the exact form of QERA (Zhang et al., 2024, arXiv 2410.06040) and EoRA (Liu et al.,
2024, arXiv 2410.21271). Its two matrices are rounded as those of any two-factor form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.methods import METHODS
from lrfdse.factorize.quantized import quantized
from lrfdse.ir.factorization import Factorization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lrfdse.factorize.methods import Method
    from lrfdse.factorize.problem import Problem
    from lrfdse.ir.factorization import Array


def repaired(
    problem: Problem, factorization: Factorization, method: Method | None = None
) -> tuple[tuple[Array, ...], tuple[NDArray[np.float32], ...]]:
    """Return the cores Q, A and B of ``y = Q x + A (B x)`` as int8 levels times scales, and the scales of each.

    Parameters
    ----------
    problem
        The layer, in whose metric rounding loses what is made up for.
    factorization
        A dense layer with its repair (`Factorization.repaired`).
    method
        Fits the product; by default the best known one.
    """
    dense = factorization.unrepaired
    beside = Factorization.svd(factorization.outputs, factorization.inputs, factorization.repair)
    covariance, shrunk = None, None
    if problem.moments is not None:
        covariance, shrunk = problem.covariance, problem.error(dense).covariance
    target = problem.target(dense)
    (whole,), (worth,) = quantized(target, dense, [target[None, :, :, None]], covariance, shrunk)
    lost = problem.part(target - dense_weight([whole]))
    fitted = (method or METHODS.get("svd" if covariance is None else "auto")).fit(lost, beside)
    product, scales = quantized(lost.weight, beside, fitted, covariance, shrunk)
    return (whole, *product), (worth, *scales)
