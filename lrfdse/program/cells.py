"""Scans that run a recurrent cell a turn, read as the recurrent operators that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.base.text import free_name
from lrfdse.model.constants import node_name
from lrfdse.model.passes.carried.cells import Turning, read_scan
from lrfdse.model.passes.emit import Emitter, Names

Factors = tuple[NDArray[Any], ...]
"""The recurrent matrix, or its two factors, the last that is multiplied by first."""


class ReadCells(ir.passes.InPlacePass):
    """Puts an LSTM or a GRU in the place of each Scan of the main graph that runs one.

    The product of the input stays in front: the node's own input matrix is one of zeros and ones, and its recurrent
    matrix is the product of the factors. Onnxruntime knows such a node's shapes; `factors` says what is to be computed.
    """

    def __init__(self) -> None:
        self.factors: dict[str, Factors] = {}
        """Names of the nodes of the last call to their recurrent matrices."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether a Scan was read."""
        self.factors = {}
        opset = model.graph.opset_imports.get("", 0) or model.graph.opset_imports.get("ai.onnx", 0)
        names = Names(model)
        taken = {node.name for node in model.graph if node.op_type != "Scan"}
        for node in list(model.graph):
            if (found := read_scan(node, opset)) is not None:
                label = free_name(node_name(node), taken)
                _replace(Emitter.before(model, node, names), node, found, label)
                self.factors[label] = found.factors
        return ir.passes.PassResult(model, modified=bool(self.factors))


def cells_read(model: ir.Model) -> tuple[ir.Model, Mapping[str, Factors]]:
    """Return a model whose Scans over recurrent cells are recurrent operators, and their recurrent matrices by node.

    The model given stays as it is, and is the one returned where there is none.
    """
    if not any(node.op_type == "Scan" for node in model.graph):
        return model, {}
    reading = ReadCells()
    made = ir.passes.functionalize(reading)(model)
    return (made.model, reading.factors) if made.modified else (model, {})


def _replace(emit: Emitter, node: ir.Node, found: Turning, label: str) -> None:
    rows = len(found.factors[0])
    whole = found.factors[0].astype(np.float64)
    for each in found.factors[1:]:
        whole = whole @ each
    arrays = (
        np.eye(rows, dtype=np.float32),
        whole.astype(np.float32),
        np.concatenate([np.zeros_like(found.bias), found.bias]),
    )
    matrices = [emit.constant(str(place), array[None]) for place, array in enumerate(arrays)]
    states = [emit.unsqueeze(value, [0]) for value in node.inputs[:-1] if value is not None]
    attributes: dict[str, Any] = {"hidden_size": found.hidden, "direction": "reverse" if found.reverse else "forward"}
    if found.cell == "GRU":
        attributes["linear_before_reset"] = 1
    made = ir.node(
        found.cell, [node.inputs[-1], *matrices, None, *states], attributes, num_outputs=len(states) + 1, name=label
    )
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_before(node, made)
    for value in made.outputs:
        value.name = emit.free("cell")
    new = [emit.squeeze(value, 1 if place == 0 else 0) for place, value in enumerate(made.outputs)]
    for old, value in zip(node.outputs, [*new[1:], new[0]], strict=True):
        value.type, value.shape = old.type, old.shape
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        old.name, value.name = value.name, old.name
    for inner in list(node.attributes["body"].as_graph()):
        for place in range(len(inner.inputs)):
            inner.replace_input_with(place, None)
    graph.remove(node, safe=True)
