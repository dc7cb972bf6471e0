"""The factors of a layer as a chain of plain products or convolutions, as runtimes beside onnxruntime take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lrfdse.errors import InputError
from lrfdse.formats.chain import Product, Slide
from lrfdse.ir.convolution import filters

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.model.match.site import Site


def products(chosen: Factors) -> tuple[Product, ...]:
    """Return the products of a chain in the order in which they run.

    Raises
    ------
    InputError
        What they read is rounded, or the layer is no chain: such are written as ONNX alone.
    """
    if chosen.factorization.repair:
        raise InputError(f"{chosen.choice}: layers with a repair are written as ONNX where the model is no ONNX")
    if chosen.roundings is not None:
        raise InputError(f"{chosen.choice}: layers whose inputs are rounded are written as ONNX alone")
    columns = [step.columns for step in chosen.factorization.steps()]
    if chosen.scales is not None:
        levels = zip(chosen.int8_matrices(), columns, strict=True)
        return tuple(Product(each.levels, each.scales, count) for each, count in levels)
    matrices = zip(chosen.factorization.step_matrices(chosen.cores), columns, strict=True)
    return tuple(Product(each.astype(chosen.storage.element), None, count) for each, count in matrices)


def slides(chosen: Factors, site: Site, channels: int) -> tuple[Slide, ...]:
    """Return the convolutions of a chain in the order in which they run, at a site of `channels` input channels."""
    f = chosen.factorization
    assert site.window is not None
    found = []
    for part, matrix in zip(filters(f, site.window, channels), f.step_matrices(chosen.cores), strict=True):
        height, width = part.window.kernel
        weight = matrix.reshape(part.outputs, width, height, part.inputs).transpose(0, 2, 1, 3).astype(np.float32)
        window = part.window
        found.append(Slide(weight, window.strides, window.dilations, window.pads))
    return tuple(found)
