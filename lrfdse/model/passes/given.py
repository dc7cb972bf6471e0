"""Constants of a model that a run is given, so that one session serves a model whose weights change."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from numpy.typing import NDArray


def own_constants(version: ir.Model, original: ir.Model) -> dict[str, NDArray[Any]]:
    """Return the constants of floating point that a version of a model has and the original has not, by name."""
    found = {}
    for name, value in version.graph.initializers.items():
        if name not in original.graph.initializers and value.const_value is not None:
            array = value.const_value.numpy()
            if array.dtype == np.float32:
                found[name] = array
    return found


def with_inputs(model: ir.Model, names: Collection[str]) -> ir.Model:
    """Return a model whose constants of these names are inputs; names of no constant are passed over.

    The model given stays as it is.
    """
    made = model.clone()
    for name in names:
        value = made.graph.initializers.pop(name, None)
        if value is None or value.const_value is None:
            continue
        value.shape, value.dtype = ir.Shape(value.const_value.numpy().shape), value.const_value.dtype
        value.const_value = None
        if value not in made.graph.inputs:
            made.graph.inputs.append(value)
    return made
