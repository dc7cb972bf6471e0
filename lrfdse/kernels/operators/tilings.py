"""How products of an operator are laid out in registers, and their weights in memory; nothing here loads TVM."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.errors import KernelError
from lrfdse.ir.factorization import Step
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, Recurrence, TransposedConvolution
from lrfdse.ir.storage import FLOAT32, INT8, Storage
from lrfdse.kernels.blocks import DENSE, Runs
from lrfdse.kernels.layout import Tiling
from lrfdse.kernels.operators.phases import phases

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.kernel import StepSchedule

Product = FullyConnected | BatchedProduct | Convolution | TransposedConvolution | Recurrence
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
    one group, or all pixels where they are independent; of a transposed one a row of the outputs that meet most taps;
    of a recurrence one step, of its second product where it has two.
    """
    if isinstance(operator, FullyConnected):
        return operator.step
    if isinstance(operator, BatchedProduct):
        return Step(operator.rows, operator.columns, operator.inner, 1)
    if isinstance(operator, TransposedConvolution):
        return max(phases(operator.window), key=lambda each: each.taps).step(operator)
    if isinstance(operator, Recurrence):
        return Step(operator.batch, operator.gates * operator.hidden, operator.rank or operator.hidden, 1)
    w, groups = operator.window, operator.groups
    pixels = w.batch * math.prod(w.out) if is_flat(operator) else w.out[1]
    return Step(pixels, operator.outputs // groups, math.prod(w.kernel) * (operator.channels // groups), 1)


def sections_of(operator: Convolution) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many runs of a window's elements lie side by side, a factor a loop, and how far they lie apart."""
    w = operator.window
    width = w.image[1] + w.pads[1] + w.pads[3]
    row, pixel = w.dilations[0] * width * operator.channels, w.dilations[1] * operator.channels
    loops = [(w.kernel[0], row)]
    if w.dilations[1] != 1 or operator.groups != 1:
        loops.append((w.kernel[1], pixel))
    loops = [(count, distance) for count, distance in loops if count > 1]
    return tuple(count for count, _ in loops), tuple(distance for _, distance in loops)


_LEAST_COPIED = 12
"""Elements that a pixel's copy takes as long as, though it has fewer channels: it is a loop of its own. Chosen."""


def runs_of(operator: Product) -> Runs:
    """Return how an operator's step repeats along lines, and how its inner axis is divided."""
    if not isinstance(operator, Convolution) or copies_input(operator):
        return DENSE
    w = operator.window
    lines = 1 if is_flat(operator) else w.batch * w.out[0]
    width = (w.out[1] - 1) * w.strides[1] + (w.kernel[1] - 1) * w.dilations[1] + 1
    row = width * (operator.channels // operator.groups)
    covered, fresh = w.kernel[0] * row, min(w.kernel[0], w.strides[0]) * row
    alive = ((w.kernel[0] - 1) * w.dilations[0] + 1) * row
    pixels = operator.ports[0].size // operator.channels
    copied = 0 if any(w.pads) else pixels * max(operator.channels, _LEAST_COPIED)
    # The copy that blocks are read from has the columns and the channels of a row of a window side by side.
    rows = (w.kernel[0],) if w.kernel[0] > 1 else ()
    image = operator.ports[0].size
    return Runs(lines, sections_of(operator)[0], rows, math.prod(w.kernel), covered, fresh, alive, copied, image)


def admits(operator: Product, schedule: StepSchedule) -> bool:
    """Return whether an operator can be laid out by a schedule that fits its step."""
    if schedule.inner_block and not isinstance(operator, FullyConnected | Convolution):
        return False
    if schedule.inner_block and isinstance(operator, Convolution) and not copies_input(operator):
        channels, odd = divmod(schedule.inner_block, math.prod(operator.window.kernel))
        return (
            schedule.axis == "out"
            and not odd
            and not schedule.in_place
            and operator.channels // operator.groups % channels == 0
        )
    if isinstance(operator, FullyConnected):
        return True
    if isinstance(operator, BatchedProduct):
        # Rows of the right matrix are read as they lie, so that a vector may not reach beyond one.
        return schedule.axis == "out" and schedule.lanes <= operator.columns
    return schedule.axis == "out"


def block_channels(operator: Convolution, schedule: StepSchedule) -> int:
    """Return the channels of a block of a convolution over windows: a part of the inner axis is all taps of them.

    Raises
    ------
    KernelError
        The parts of the schedule are none.
    """
    if not admits(operator, schedule):
        raise KernelError(f"schedule {schedule}: parts that are no blocks of channels of {operator}")
    return schedule.inner_block // math.prod(operator.window.kernel)


def distance_of(operator: Product) -> int:
    """Return how many elements lie between the inputs of neighbouring positions along the batch axis of a step."""
    if isinstance(operator, FullyConnected):
        return operator.step.inner * operator.step.columns
    if isinstance(operator, BatchedProduct):
        return operator.left.row
    if isinstance(operator, Recurrence):
        return operator.rank or operator.hidden
    return operator.channels * (operator.window.strides[1] if isinstance(operator, Convolution) else 1)


def copies_input(operator: Product) -> bool:
    """Return whether inputs whose rows crowd in the cache are copied: of matrices, and of pixels on their own."""
    if isinstance(operator, Convolution):
        return is_flat(operator) and operator.groups == 1
    return isinstance(operator, FullyConnected)


def tiling_of(operator: Product, schedule: StepSchedule) -> Tiling:
    """Return the tiling of an operator's step."""
    return Tiling.of(step_of(operator), schedule, storage_of(operator))


def storage_of(operator: Product) -> Storage:
    """Return what an operator's weight is stored in."""
    return Storage(operator.weight) if isinstance(operator, FullyConnected) else FLOAT32


def recurrent_tilings(operator: Recurrence, schedule: StepSchedule) -> tuple[Tiling, ...]:
    """Return the tilings of the products of one step.

    There are two where a product waits for the reset gate of a GRU: that of the gates, and that of the new state; and
    where the weight is two factors.
    """
    whole = step_of(operator)
    if operator.rank:
        return Tiling.of(Step(whole.batch, operator.rank, operator.hidden, 1), schedule), Tiling.of(whole, schedule)
    if operator.cell == "lstm" or operator.reset_after:
        return (Tiling.of(whole, schedule),)
    rows = (2 * operator.hidden, operator.hidden)
    return tuple(Tiling.of(Step(whole.batch, out, whole.inner, 1), schedule) for out in rows)


def packed(operator: Product, schedule: StepSchedule, weight: NDArray[Any]) -> NDArray[Any]:
    """Return a weight, in the order that the operator's docstring names, in the order of use."""
    if storage_of(operator) == INT8:
        step = step_of(operator)
        return tiling_of(operator, schedule).ordered(weight.astype(np.int8).reshape(step.out, step.inner))
    exact = weight.astype(np.float64)
    if isinstance(operator, FullyConnected):
        return tiling_of(operator, schedule).pack(exact.reshape(operator.step.out, operator.step.inner))
    if isinstance(operator, Convolution):
        tiling = tiling_of(operator, schedule)
        matrices = exact.reshape(operator.groups, operator.outputs // operator.groups, -1)
        if schedule.inner_block and not copies_input(operator):
            # Blocks of channels are outermost along the inner axis.
            taps = math.prod(operator.window.kernel)
            apart = matrices.reshape(*matrices.shape[:2], taps, -1, block_channels(operator, schedule))
            matrices = apart.swapaxes(2, 3).reshape(matrices.shape)
        return np.concatenate([tiling.pack(matrix) for matrix in matrices])
    if isinstance(operator, TransposedConvolution):
        return _packed_phases(operator, schedule, exact)
    if isinstance(operator, Recurrence):
        parts, first = [], 0
        for tiling in recurrent_tilings(operator, schedule):
            step = tiling.step
            matrix = exact.ravel()[first : first + step.out * step.inner]
            parts.append(tiling.pack(matrix.reshape(step.out, step.inner)))
            first += matrix.size
        return np.concatenate(parts)
    raise ValueError(f"{operator} has no weight")


def _packed_phases(
    operator: TransposedConvolution, schedule: StepSchedule, weight: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the weights of each phase one after the other, each in the order of use."""
    whole = weight.reshape(operator.channels, *operator.window.kernel, operator.outputs)
    parts = [np.zeros(0, dtype=np.float32)]
    for each in phases(operator.window):
        if not each.taps:
            continue
        tiling = Tiling.of(each.step(operator), schedule)
        for rows, columns in itertools.product(each.rows.kernel, each.columns.kernel):
            taps = whole[:, rows][:, :, columns]
            parts.append(tiling.pack(taps.transpose(3, 1, 2, 0).reshape(operator.outputs, -1)))
    return np.concatenate(parts)
