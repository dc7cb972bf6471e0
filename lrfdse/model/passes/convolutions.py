"""Convolutions one after the other in the place of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.ir.convolution import Filter, filters
from lrfdse.model.match.convolutions import ConvolutionSite, Sliding
from lrfdse.model.passes.place import Place


def write_convolutions(place: Place) -> ir.Value:
    """Write one use of a convolution as the convolutions of its chain; the last one adds the bias.

    Raises
    ------
    ValueError
        The chain is no sequence of convolutions.
    """
    site, chosen = place.site, place.chosen
    assert isinstance(site, ConvolutionSite)
    matrices = chosen.factorization.step_matrices(chosen.cores)
    parts = filters(chosen.factorization, site.window, place.layer.channels)
    value = place.source
    for number, (part, matrix) in enumerate(zip(parts, matrices, strict=True)):
        inputs = [value, place.stored(f"filters{number}", _weight(part, matrix, site.rank))]
        if number == len(parts) - 1 and (bias := _bias(place)) is not None:
            inputs.append(bias)
        value = place.emit.op("Conv", inputs, **_attributes(part, site.sliding, site.rank))
    return value


def _weight(part: Filter, matrix: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """Return a step's matrix as ONNX's weight: (outputs, inputs, height, width), or without the height."""
    height, width = part.window.kernel
    weight = matrix.reshape(part.outputs, width, height, part.inputs).transpose(0, 3, 2, 1)
    return weight[:, :, 0] if rank == 3 else weight


def _bias(place: Place) -> ir.Value | None:
    old, shift = place.node.inputs[2] if len(place.node.inputs) > 2 else None, place.chosen.bias_shift
    if shift is None:
        return old
    return place.stored(f"bias.{place.site.bias_root}", shift if place.site.bias is None else place.site.bias + shift)


def _attributes(part: Filter, sliding: Sliding, rank: int) -> dict[str, Any]:
    """Return the attributes of one convolution of the chain; automatic padding stays automatic along its own axes."""
    own = part.window
    found: dict[str, Any] = {
        "kernel_shape": own.kernel,
        "strides": own.strides,
        "dilations": own.dilations,
    }
    if rank == 3:
        found = {name: pair[1:] for name, pair in found.items()}
    if sliding.auto_pad == "NOTSET":
        found["pads"] = own.pads[1::2] if rank == 3 else own.pads
    else:
        found["auto_pad"] = sliding.auto_pad
    return found
