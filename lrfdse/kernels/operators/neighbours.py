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

Number = TypeVar("Number", bound=np.generic)
"""What a weight consists of."""

_LEAST_GAIN = 1.5
"""How many times fewer vectors there must be to multiply than where each column is on its own. Chosen, not measured."""


def columns_together(operator: Convolution, lanes: int) -> int:
    """Return how many output columns are taken for channels on vectors of so many lanes; 1 where none are.

    >>> from lrfdse.ir.window import Window
    >>> columns_together(Convolution(Window(1, (9, 40), (3, 3)), 4, 1), 8)
    8
    >>> columns_together(Convolution(Window(1, (9, 40), (3, 3)), 4, 16), 8)
    1
    """
    w = operator.window
    count = lanes // operator.outputs
    if operator.groups != 1 or w.dilations[1] != 1 or count < 2 or w.out[1] < count:
        return 1
    if any(source not in _sources(operator) for source in operator.epilogue.sources):
        return 1
    fewer = count * w.kernel[1] / _kernel_of(operator, count)
    return count if fewer >= _LEAST_GAIN else 1


def widened(operator: Convolution, lanes: int) -> Convolution:
    """Return the convolution of a channel for each output of neighbouring columns; the same one where that is no gain.

    It has no outputs for the last columns where they are too few for a group, see `columns_left`.
    """
    count = columns_together(operator, lanes)
    if count == 1:
        return operator
    w = operator.window
    window = dataclasses.replace(
        w, kernel=(w.kernel[0], _kernel_of(operator, count)), strides=(w.strides[0], w.strides[1] * count)
    )
    return Convolution(window, operator.channels, operator.outputs * count, 1, _epilogue_of(operator))


def columns_left(operator: Convolution, lanes: int) -> int:
    """Return how many output columns of `operator` no group of `widened` has."""
    return operator.window.out[1] % columns_together(operator, lanes)


def widened_weight(operator: Convolution, lanes: int, weight: NDArray[Number]) -> NDArray[Number]:
    """Return the weight of `widened`, in the order and of the shape (flat) of the operator's own."""
    count = columns_together(operator, lanes)
    if count == 1:
        return weight
    (height, width), step = operator.window.kernel, operator.window.strides[1]
    taps = weight.reshape(operator.outputs, height, width, operator.channels)
    shape = count, operator.outputs, height, _kernel_of(operator, count), operator.channels
    made = np.zeros(shape, weight.dtype)
    for column in range(count):
        made[column, :, :, column * step : column * step + width] = taps
    return made.ravel()


def merged(operator: TransposedConvolution, lanes: int) -> Convolution | None:
    """Return the convolution that makes a row of outputs of every input row, where its outputs fill a vector.

    Its windows are inputs side by side, none of which is in two; its channels are the outputs of all of them, which lie
    side by side as well. It is that where windows of outputs do not overlap; each row of the kernel has one of its own.
    None where that does not hold, or outputs are too many or fill no vector.
    """
    w, made = operator.window, operator.outputs * operator.window.strides[1]
    apart = w.kernel == w.strides and w.dilations == (1, 1) and not any(w.pads)
    whole = tuple(size * step for size, step in zip(w.out, w.strides, strict=True)) == w.image
    count = lanes // made
    if not apart or not whole or w.strides[1] == 1 or count < 2 or lanes % made or w.out[1] % count:
        return None
    if any(source not in _sources(operator) for source in operator.epilogue.sources):
        return None
    window = Window(w.batch, w.out, (1, count), (1, count))
    return Convolution(window, operator.channels, lanes, 1, _epilogue_of(operator))


def merged_weights(operator: TransposedConvolution, lanes: int, weight: NDArray[Number]) -> list[NDArray[Number]]:
    """Return the weight of `merged` for each row of the kernel, in the order and of the shape (flat) of its own."""
    rows, columns = operator.window.kernel
    taps = weight.reshape(operator.channels, rows, columns, operator.outputs)
    count = lanes // (columns * operator.outputs)
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


def _sources(operator: Convolution | TransposedConvolution) -> dict[Source, Source]:
    """Return what further inputs of an epilogue become whose outputs of neighbouring columns are channels."""
    if operator.outputs == 1:
        return {"same": "same", "row": "same", "channel": "scalar", "scalar": "scalar"}
    return {"same": "same", "scalar": "scalar"}


def _epilogue_of(operator: Convolution | TransposedConvolution) -> Epilogue:
    names = _sources(operator)
    return dataclasses.replace(operator.epilogue, sources=tuple(names[source] for source in operator.epilogue.sources))
