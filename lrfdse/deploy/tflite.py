"""A design as a TensorFlow Lite file: the user's own, its layers replaced, checked in LiteRT before it is kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.errors import InputError
from lrfdse.ir.convolution import filters

if TYPE_CHECKING:
    from lrfdse.formats.tflite.patch import Product, Replacement, Slide
    from lrfdse.ir.factors import Factors
    from lrfdse.model.graph import Model
    from lrfdse.model.match.site import Site

MODEL = "model.tflite"
"""Name of the file in a design's folder."""

_NODE = re.compile(r"(FULLY_CONNECTED|CONV_2D)_(\d+):")
"""What the names of nodes begin with that stand for an operator that can be replaced."""


def tflite_file(model: Model, factors: Mapping[str, Factors]) -> bytes:
    """Return the TensorFlow Lite file of a design, after LiteRT computed what its ONNX model computes.

    The original file with operators replaced: names, signatures and metadata stay, and so does every operator of a
    layer that the design leaves as it is.

    Parameters
    ----------
    model
        The original model, read from a TensorFlow Lite file.
    factors
        Layer name to factors, of the layers that the design compresses.

    Raises
    ------
    InputError
        The original is no TensorFlow Lite file, or has levels between its operators; a layer's operator cannot be
        replaced; or LiteRT's outputs differ from those of the ONNX model by more than 1e-4 of the largest.
    """
    from lrfdse.formats.onnx import as_proto, model_bytes
    from lrfdse.formats.tflite.flatbuffer import read_graph
    from lrfdse.formats.tflite.patch import patched
    from lrfdse.formats.tflite.verify import confirm, is_rounded
    from lrfdse.model.passes.factor import rewrite

    path = model.path
    if path.suffix.lower() != ".tflite":
        raise InputError(f"{path}: only of TensorFlow Lite models are TensorFlow Lite files made; write ONNX")
    content = model_bytes(path, "a TensorFlow Lite")
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise InputError(f"{path}: changed since it was explored")
    if is_rounded(read_graph(content, path)):
        raise InputError(f"{path}: a quantized model: its designs are written as ONNX, not as TensorFlow Lite")
    found = [
        replacement
        for name, chosen in factors.items()
        if not chosen.choice.is_original
        for replacement in _replacements(model, name, chosen)
    ]
    made = patched(content, found)
    confirm(made, as_proto(rewrite(model, factors)), path.with_name(MODEL))
    return made


def _replacements(model: Model, name: str, chosen: Factors) -> Iterator[Replacement]:
    from lrfdse.formats.tflite.patch import Replacement

    f, layer = chosen.factorization, model.layer(name)
    products = _products(chosen) if layer.kind == "fc" else None
    for site in model.sites[name]:
        named = _NODE.match(site.node)
        is_right = named is not None and (layer.kind == "conv") == (named[1] == "CONV_2D")
        if named is None or not is_right or (products is not None and site.in_axis != -1):
            raise InputError(f"{model.path}: layer {name!r} is no operator that a TensorFlow Lite design could replace")
        bias, shift = site.bias, chosen.bias_shift
        if shift is not None:
            bias = shift if bias is None else bias + shift
        parts = products if products is not None else _slides(chosen, site, layer.channels)
        stored = None if bias is None else bias.astype(np.float32)
        yield Replacement(int(named[2]), parts, (f.inputs, f.outputs), layer.outputs, stored)


def _products(chosen: Factors) -> tuple[Product, ...]:
    from lrfdse.formats.tflite.patch import Product

    columns = [step.columns for step in chosen.factorization.steps()]
    if chosen.scales is not None:
        levels = zip(chosen.int8_matrices(), columns, strict=True)
        return tuple(Product(each.levels, each.scales, count) for each, count in levels)
    matrices = zip(chosen.factorization.step_matrices(chosen.cores), columns, strict=True)
    return tuple(Product(each.astype(np.float32), None, count) for each, count in matrices)


def _slides(chosen: Factors, site: Site, channels: int) -> tuple[Slide, ...]:
    from lrfdse.formats.tflite.patch import Slide

    f = chosen.factorization
    assert site.window is not None
    found = []
    for part, matrix in zip(filters(f, site.window, channels), f.step_matrices(chosen.cores), strict=True):
        height, width = part.window.kernel
        weight = matrix.reshape(part.outputs, width, height, part.inputs).transpose(0, 2, 1, 3).astype(np.float32)
        window = part.window
        found.append(Slide(weight, window.strides, window.dilations, window.pads))
    return tuple(found)
