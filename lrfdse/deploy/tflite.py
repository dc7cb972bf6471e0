"""A design as a TensorFlow Lite file: the original's, its layers replaced, checked in LiteRT before it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.deploy.chains import products, slides
from lrfdse.deploy.converted import converted
from lrfdse.errors import InputError
from lrfdse.ir.form import FORM_FILES

if TYPE_CHECKING:
    from lrfdse.formats.flat import Flat
    from lrfdse.formats.tflite.flatbuffer import Graph
    from lrfdse.formats.tflite.patch import Replacement
    from lrfdse.ir.factors import Factors
    from lrfdse.model.graph import Model

_NODE = re.compile(r"(FULLY_CONNECTED|CONV_2D)_(\d+):")
"""What the names of nodes begin with that stand for an operator that can be replaced."""


def tflite_file(model: Model, factors: Mapping[str, Factors]) -> bytes:
    """Return the TensorFlow Lite file of a design, after LiteRT computed what its ONNX model computes.

    The original file with operators replaced: names, signatures and metadata stay, and so does every operator of a
    layer that the design leaves as it is. Of a Keras or SavedModel original it is the file that TensorFlow converted.
    Of an original in ONNX all operators of the design are written anew, for the sizes of the timed inference.

    Parameters
    ----------
    model
        The original model.
    factors
        Layer name to factors, of the layers that the design compresses.

    Raises
    ------
    InputError
        A layer's operator cannot be replaced, or of an original in ONNX an operator not be written; or LiteRT's outputs
        differ from those of the ONNX model by more than 1e-4 of the largest, or where there are levels by more than
        their rounding.
    """
    from lrfdse.formats.flat import flatbuffer_of
    from lrfdse.formats.onnx import as_proto
    from lrfdse.formats.tflite.verify import confirm
    from lrfdse.model.passes.factor import rewrite

    path, design = model.path, rewrite(model, factors)
    flat = flatbuffer_of(path)
    made = converted(model, design) if flat is None else _patched(model, factors, flat)
    confirm(made, as_proto(design), path.with_name(FORM_FILES["tflite"]))
    return made


def _patched(model: Model, factors: Mapping[str, Factors], flat: Flat) -> bytes:
    from lrfdse.formats.tflite.patch import patched

    path = model.path
    if flat.sha256 != model.sha256:
        raise InputError(f"{path}: changed since it was explored")
    found = [
        replacement
        for name, chosen in factors.items()
        if not chosen.choice.is_original
        for replacement in _replacements(model, flat.graph, name, chosen)
    ]
    ports = {index: flat.graph.tensors[index].name for index in (*flat.graph.inputs, *flat.graph.outputs)}
    return patched(flat.content, found, ports)


def _replacements(model: Model, graph: Graph, name: str, chosen: Factors) -> Iterator[Replacement]:
    from lrfdse.formats.tflite.builder import is_floored
    from lrfdse.formats.tflite.patch import Replacement

    f, layer = chosen.factorization, model.layer(name)
    chain = products(chosen) if layer.kind == "fc" else None
    for site in model.sites[name]:
        named = _NODE.match(site.node)
        is_right = named is not None and (layer.kind == "conv") == (named[1] == "CONV_2D")
        if named is None or site.joined or not is_right or (chain is not None and site.in_axis != -1):
            raise InputError(f"{model.path}: layer {name!r} is no operator that a TensorFlow Lite design could replace")
        bias, shift = site.bias, chosen.bias_shift
        if shift is not None:
            bias = shift if bias is None else bias + shift
        parts = chain if chain is not None else slides(chosen, site, layer.channels)
        stored = None if bias is None else bias.astype(np.float32)
        operator = graph.operators[int(named[2])]
        floored = is_floored(operator, graph.tensors[operator.outputs[0]])
        yield Replacement(operator.index, parts, (f.inputs, f.outputs), layer.outputs, stored, floored)
