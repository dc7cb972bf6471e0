"""How products of an operator are laid out in registers, and their weights in memory; nothing here loads TVM."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.factorization import Step
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected
from lrfdse.kernels.layout import Tiling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.kernel import StepSchedule

Product = FullyConnected | BatchedProduct | Convolution
"""Operators whose work is a product in register tiles."""


def is_depthwise(operator: Convolution) -> bool:
    """Return whether every output channel depends on the input channel of its number alone."""
    return operator.groups == operator.channels == operator.outputs and operator.groups > 1


def is_flat(operator: Convolution) -> bool:
    """Return whether every pixel is on its own: a window of one, no stride, no padding."""
    w = operator.window
    return w.kernel == (1, 1) and w.strides == (1, 1) and not any(w.pads)


def step_of(operator: Product) -> Step:
    """Return the product whose tiles a schedule describes.

    Of a fully-connected layer all of it; of a batched product one matrix; of a convolution one row of output pixels of
    one group, or all pixels where they are independent.
    """
    if isinstance(operator, FullyConnected):
        return operator.step
    if isinstance(operator, BatchedProduct):
        return Step(operator.rows, operator.columns, operator.inner, 1)
    w, groups = operator.window, operator.groups
    pixels = w.batch * math.prod(w.out) if is_flat(operator) else w.out[1]
    return Step(pixels, operator.outputs // groups, math.prod(w.kernel) * (operator.channels // groups), 1)


def admits(operator: Product, schedule: StepSchedule) -> bool:
    """Return whether an operator can be laid out by a schedule that fits its step."""
    if isinstance(operator, FullyConnected):
        return True
    if isinstance(operator, BatchedProduct):
        # Rows of the right matrix are read as they lie, so that a vector may not reach beyond one.
        return schedule.axis == "out" and schedule.lanes <= operator.columns
    return schedule.axis == "out"


def tiling_of(operator: Product, schedule: StepSchedule) -> Tiling:
    """Return the tiling of an operator's step."""
    return Tiling.of(step_of(operator), schedule)


def packed(operator: Product, schedule: StepSchedule, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a weight, in the order that the operator's docstring names, in the order of use."""
    exact = weight.astype(np.float64)
    if isinstance(operator, FullyConnected):
        return tiling_of(operator, schedule).pack(exact.reshape(operator.step.out, operator.step.inner))
    if isinstance(operator, Convolution):
        tiling = tiling_of(operator, schedule)
        matrices = exact.reshape(operator.groups, operator.outputs // operator.groups, -1)
        return np.concatenate([tiling.pack(matrix) for matrix in matrices])
    raise ValueError(f"{operator} has no weight")
