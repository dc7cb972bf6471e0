"""Models of bfloat16 as onnxruntime runs them: in float32, of which bfloat16 is the upper half."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

NARROW, WIDE = ir.DataType.BFLOAT16, ir.DataType.FLOAT


class Widen(ir.passes.InPlacePass):
    """Puts float32 in the place of bfloat16, in values, tensors and casts of the main graph and its subgraphs."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether anything was bfloat16."""
        changed = False
        for graph in model.graphs():
            for value in (*graph.inputs, *graph.outputs, *graph.initializers.values(), *_made(graph)):
                if value.dtype == NARROW:
                    # Clones share types.
                    value.type = ir.TensorType(WIDE)
                    changed = True
                if value.const_value is not None and value.const_value.dtype == NARROW:
                    value.const_value = _wide(value.const_value)
            for node in graph:
                for name, attribute in list(node.attributes.items()):
                    if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == NARROW:
                        node.attributes[name] = ir.AttrTensor(name, _wide(attribute.as_tensor()))
                        changed = True
                    number = attribute.as_int() if attribute.type == ir.AttributeType.INT else None
                    if name in ("to", "dtype") and number == NARROW:
                        node.attributes[name] = ir.AttrInt64(name, int(WIDE))
                        changed = True
        return ir.passes.PassResult(model, modified=changed)


def has_bfloat16(model: ir.Model) -> bool:
    """Return whether an input, an output, a stored tensor or a cast of the main graph is bfloat16."""
    graph = model.graph
    values = (*graph.inputs, *graph.outputs, *graph.initializers.values())
    if any(value.dtype == NARROW for value in values):
        return True
    return any(
        node.op_type == "Cast" and "to" in node.attributes and node.attributes["to"].as_int() == NARROW
        for node in graph
    )


def widened(model: ir.Model) -> ir.Model:
    """Return the model with float32 in the place of bfloat16; see `Widen`. The model given stays as it is."""
    return ir.passes.functionalize(Widen())(model).model


def _made(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)
