"""One node of ONNX as an operator of its own, for a compiler that knows ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrfdse.ir.operators import Foreign
from lrfdse.program.build import Tensor
from lrfdse.program.layout import dense
from lrfdse.program.site import Site, element_of, shape_of

if TYPE_CHECKING:
    import onnx

IR_VERSION = 10
"""The version of ONNX's file format that single nodes are written in: that of ONNX 1.16. Onnxruntime 1.22, the oldest
that lrfdse works with, reads it."""


def foreign(at: Site) -> Sequence[Tensor]:
    """Add a call of the node itself; outputs that nothing reads are left out where the node allows that."""
    import onnx_ir as ir
    from onnx import helper, numpy_helper

    node = at.node
    names: dict[Tensor, str] = {}
    inputs: list[str] = []
    values: list[onnx.ValueInfoProto] = []
    constants: list[onnx.TensorProto] = []
    arguments: list[Tensor] = []
    for given in at.inputs:
        if given is None:
            inputs.append("")
            continue
        if given not in names:
            names[given] = f"x{len(names)}"
            content = at.build.content(given)
            if content is not None:
                constants.append(numpy_helper.from_array(content, names[given]))
            else:
                arguments.append(at.build.ordered(given))
                values.append(helper.make_tensor_value_info(names[given], _type(given), given.shape))
        inputs.append(names[given])
    kept = [place for place in range(len(node.outputs)) if at.uses(place)] or [0]
    outputs = [f"y{place}" if place in kept else "" for place in range(kept[-1] + 1)]
    results = [at.build.new(dense(shape_of(node.outputs[p])), element_of(node.outputs[p])) for p in kept]
    proto = helper.make_node(node.op_type, inputs, outputs, domain=node.domain)
    proto.attribute.extend(ir.to_proto(attribute) for attribute in node.attributes.values())
    graph = helper.make_graph(
        [proto],
        "node",
        values,
        [
            helper.make_tensor_value_info(f"y{p}", _type(result), result.shape)
            for p, result in zip(kept, results, strict=True)
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, at.opset)])
    model.ir_version = IR_VERSION
    model.ClearField("producer_name")
    operator = Foreign(
        model.SerializeToString(deterministic=True),
        node.op_type,
        tuple((each.view.size, each.element) for each in arguments),
        tuple((each.view.size, each.element) for each in results),
    )
    at.build.call(operator, *(each.value for each in arguments), *(each.value for each in results))
    found = dict(zip(kept, results, strict=True))
    return [found.get(place, results[0]) for place in range(len(node.outputs))]


def _type(tensor: Tensor) -> int:
    import numpy as np
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(tensor.element)))
