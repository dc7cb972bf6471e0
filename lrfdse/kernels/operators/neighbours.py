"""Convolutions of few output channels: neighbouring output columns are taken for channels, so that they fill a vector.

Channels are innermost, so that the outputs of neighbouring columns lie side by side as channels do. A window of all
columns of a group is as much wider as the last of them lies behind the first, and each column's weights are zero
where its own window does not reach. What that costs is a product with zero for each such place.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lrfdse.ir.products import Convolution, TransposedConvolution
from lrfdse.ir.window import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.epilogue import Epilogue, Source
    from lrfdse.targets.target import Target

Number = TypeVar("Number", bound=np.generic)
"""What a weight consists of."""

_LEAST_GAIN = 1.5
"""How many times fewer vectors there must be to multiply than where each column is on its own. Chosen, not measured."""

_LITTLE = 1.1
"""How many times longer windows of two vectors of outputs may be than those of one: loads for single vectors of weights
take the X60 a sixth longer than FMAs."""


def columns_together(operator: Convolution, target: Target) -> int:
    """Return how many output columns are taken for channels; 1 where none are.

    >>> from lrfdse.ir.window import Window
    >>> from lrfdse.targets.catalog import load_target
    >>> x60 = load_target("riscv64")
    >>> columns_together(Convolution(Window(1, (9, 40), (3, 3)), 4, 1), x60)
    8
    >>> columns_together(Convolution(Window(1, (9, 40), (3, 3)), 4, 16), x60)
    1
    >>> columns_together(Convolution(Window(1, (9, 80), (3, 39)), 8, 8), x60)
    2
    """
    w, lanes = operator.window, target.lanes
    count = lanes // operator.outputs
    if operator.groups != 1 or w.dilations[1] != 1 or count < 1 or w.kernel[1] == 1:
        return 1
    if any(source not in _sources(operator, target.lanes) for source in operator.epilogue.sources):
        return 1
    longer = _kernel_of(operator, 2 * count) / _kernel_of(operator, count)
    if lanes % operator.outputs == 0 and target.vectors.grouped and w.out[1] >= 2 * count and longer <= _LITTLE:
        # A single vector of weights needs a load for every FMA, two need one for two.
        return 2 * count
    if count == 1 or w.out[1] < count:
        return 1
    fewer = count * w.kernel[1] / _kernel_of(operator, count)
    return count if fewer >= _LEAST_GAIN else 1


def widened(operator: Convolution, target: Target) -> Convolution:
    """Return the convolution of a channel for each output of neighbouring columns; the same one where that is no gain.

    It has no outputs for the last columns where they are too few for a group, see `columns_left`.
    """
    count = columns_together(operator, target)
    if count == 1:
        return operator
    w = operator.window
    window = dataclasses.replace(
        w, kernel=(w.kernel[0], _kernel_of(operator, count)), strides=(w.strides[0], w.strides[1] * count)
    )
    return Convolution(window, operator.channels, operator.outputs * count, 1, _epilogue_of(operator, target.lanes))


def columns_left(operator: Convolution, target: Target) -> int:
    """Return how many output columns of `operator` no group of `widened` has."""
    return operator.window.out[1] % columns_together(operator, target)


def widened_weight(operator: Convolution, target: Target, weight: NDArray[Number]) -> NDArray[Number]:
    """Return the weight of `widened`, in the order and of the shape (flat) of the operator's own."""
    count = columns_together(operator, target)
    if count == 1:
        return weight
    (height, width), step = operator.window.kernel, operator.window.strides[1]
    taps = weight.reshape(operator.outputs, height, width, operator.channels)
    shape = count, operator.outputs, height, _kernel_of(operator, count), operator.channels
    made = np.zeros(shape, weight.dtype)
    for column in range(count):
        made[column, :, :, column * step : column * step + width] = taps
    return made.ravel()


def merged(operator: TransposedConvolution, target: Target) -> Convolution | None:
    """Return the convolution that makes a row of outputs of every input row, where its outputs fill a vector.

    Its windows are inputs side by side, none of which is in two; its channels are the outputs of all of them, which lie
    side by side as well. It is that where windows of outputs do not overlap; each row of the kernel has one of its own.
    None where that does not hold, or outputs are too many or fill no vector.
    """
    w, made = operator.window, operator.outputs * operator.window.strides[1]
    apart = w.kernel == w.strides and w.dilations == (1, 1) and not any(w.pads)
    whole = tuple(size * step for size, step in zip(w.out, w.strides, strict=True)) == w.image
    lanes = target.lanes
    count = lanes // made
    if not apart or not whole or w.strides[1] == 1 or count < 2 or lanes % made or w.out[1] % count:
        return None
    if any(source not in _sources(operator, target.lanes) for source in operator.epilogue.sources):
        return None
    window = Window(w.batch, w.out, (1, count), (1, count))
    return Convolution(window, operator.channels, lanes, 1, _epilogue_of(operator, target.lanes))


def merged_weights(operator: TransposedConvolution, target: Target, weight: NDArray[Number]) -> list[NDArray[Number]]:
    """Return the weight of `merged` for each row of the kernel, in the order and of the shape (flat) of its own."""
    rows, columns = operator.window.kernel
    taps = weight.reshape(operator.channels, rows, columns, operator.outputs)
    count = target.lanes // (columns * operator.outputs)
    found = []
    for row in range(rows):
        made = np.zeros((count, columns, operator.outputs, count, operator.channels), weight.dtype)
        for place in range(count):
            made[place, :, :, place] = taps[:, row].transpose(1, 2, 0)
        found.append(made.ravel())
    return found


def _kernel_of(operator: Convolution, count: int) -> int:
    """Return the columns of a window of all windows of so many neighbouring outputs."""
    return operator.window.kernel[1] + operator.window.strides[1] * (count - 1)


def period(operator: Convolution, target: Target) -> int:
    """Return after how many channels of `widened` what the epilogue reads of each repeats; 0 where it does not."""
    return operator.outputs if columns_together(operator, target) > 1 and operator.outputs == target.lanes else 0


def _sources(operator: Convolution | TransposedConvolution, lanes: int) -> dict[Source, Source]:
    """Return what further inputs of an epilogue become whose outputs of neighbouring columns are channels."""
    if operator.outputs == 1:
        return {"same": "same", "row": "same", "channel": "scalar", "scalar": "scalar"}
    if operator.outputs == lanes:
        return {"same": "same", "channel": "channel", "scalar": "scalar"}
    return {"same": "same", "scalar": "scalar"}


def _epilogue_of(operator: Convolution | TransposedConvolution, lanes: int) -> Epilogue:
    names = _sources(operator, lanes)
    return dataclasses.replace(operator.epilogue, sources=tuple(names[source] for source in operator.epilogue.sources))
