"""Parts of a model: what leads up to some of its values, and what stands behind one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

PROBE = "lrfdse.probe"
"""Name of the input that `behind` adds."""


def read_out(content: bytes, names: Sequence[str]) -> bytes:
    """Return the model with values of its main graph as its only outputs, without the nodes that they do not need."""
    model = ir.from_proto(onnx.ModelProto.FromString(content))
    found = _values(model)
    model.graph.outputs[:] = [found[name] for name in names]
    RemoveUnusedNodesPass()(model)
    return _written(model)


def behind(content: bytes, name: str, output: str, dtype: np.dtype[np.generic]) -> bytes:
    """Return the part of a model that makes `output` from the value `name`, which becomes the input `PROBE`.

    What the output needs besides is still computed from the model's inputs; inputs that nothing reads are left out.
    """
    model = ir.from_proto(onnx.ModelProto.FromString(content))
    found = _values(model)
    model.graph.outputs[:] = [found[output]]
    probe = ir.val(PROBE, dtype=ir.DataType.from_numpy(dtype))
    found[name].replace_all_uses_with(probe, replace_graph_outputs=True)
    RemoveUnusedNodesPass()(model)
    kept = [value for value in model.graph.inputs if value.uses() or value.is_graph_output()]
    model.graph.inputs[:] = [*kept, probe]
    return _written(model)


def levels(content: bytes, sources: dict[str, Sequence[str]], outputs: dict[str, Sequence[str]]) -> list[list[str]]:
    """Return layer names in groups such that none reads what depends on another of its own or of a later group.

    Parameters
    ----------
    content
        The model.
    sources, outputs
        Layer name to the names of the values that it reads and makes.
    """
    model = ir.from_proto(onnx.ModelProto.FromString(content))
    above: dict[ir.Value, frozenset[str]] = {}
    made = {value: name for name, values in outputs.items() for value in values}
    named: dict[str, frozenset[str]] = {}
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None]
        inner = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        # A body may read any value of the graph around it.
        before = above.values() if inner else (above.get(value, frozenset()) for value in inputs)
        upstream = frozenset().union(*before)
        for value in node.outputs:
            above[value] = upstream | ({made[value.name]} if value.name in made else frozenset())
            if value.name:
                named[value.name] = above[value]
    needs = {name: frozenset().union(*(named.get(v, frozenset()) for v in sources[name])) for name in sources}
    groups: list[list[str]] = []
    left = list(sources)
    while left:
        # A weight that is used twice in a row depends on itself.
        ready = [name for name in left if not (needs[name] - {name}) & set(left)] or left[:1]
        groups.append(ready)
        left = [name for name in left if name not in ready]
    return groups


def _values(model: ir.Model) -> dict[str, ir.Value]:
    values = {value.name: value for value in model.graph.inputs if value.name}
    return values | {value.name: value for node in model.graph for value in node.outputs if value.name}


def _written(model: ir.Model) -> bytes:
    return bytes(ir.to_proto(model).SerializeToString())
