"""A model with the sizes of its inputs fixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    import onnx

    from lrfdse.model.shapes import Port

_CONSTANTS_ARE_NO_INPUTS = 4
"""The version of ONNX's file format (2018) since which an initializer need not be an input of the graph."""


def with_sizes(model: ir.Model, inputs: Sequence[Port]) -> onnx.ModelProto:
    """Return the model with its inputs' sizes fixed; initializers are no inputs, so that they are constants."""
    proto = ir.to_proto(model)
    sizes = {port.name: port.fixed for port in inputs}
    given = [value for value in proto.graph.input if value.name in sizes]
    del proto.graph.input[:]
    proto.graph.input.extend(given)
    for value in proto.graph.input:
        value.type.tensor_type.shape.ClearField("dim")
        for size in sizes[value.name] or ():
            value.type.tensor_type.shape.dim.add().dim_value = size or 1
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]
    proto.ir_version = max(proto.ir_version, _CONSTANTS_ARE_NO_INPUTS)
    return proto
