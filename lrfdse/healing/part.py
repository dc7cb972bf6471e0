"""The part of a model that healing differentiates: what stands between the layers that are trained and the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.errors import InputError
from lrfdse.healing.layers import Product
from lrfdse.healing.operators.call import Call
from lrfdse.healing.operators.table import RULES
from lrfdse.model.constants import is_root, is_standard, known_values, node_name, stored
from lrfdse.model.passes.cut import read_out

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.model.graph import Model

_NAMED = 5
"""Operators that a message names. Chosen, not measured: about what fits a line."""


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes that depend on layers that are trained, and what they read of the rest of the graph."""

    nodes: tuple[ir.Node, ...]
    """In graph order."""
    products: Mapping[str, Product]
    """The uses of layers that are trained, by the name of the value that each makes."""
    fed: tuple[str, ...]
    """Names of the values that are computed before, by onnxruntime: inputs of the model, and what no trained layer
    changes."""
    folded: tuple[str, ...]
    """Names of the values that depend on constants alone and are not stored as they are."""
    constants: Mapping[str, NDArray[Any]]
    """Stored tensors by name."""
    outputs: tuple[str, ...]
    """Names of the outputs that count."""
    opset: int

    def run(
        self, tf: Any, weights: Mapping[str, Sequence[Any]], fed: Mapping[str, Any], folded: Mapping[str, NDArray[Any]]
    ) -> dict[str, Any]:
        """Return the outputs as tensors.

        Parameters
        ----------
        tf
            The module `tensorflow`.
        weights
            Layer name to its trained numbers, as `lrfdse.healing.layers.weights_of` orders them.
        fed
            The values of `fed`, as tensors.
        folded
            The values of `folded`.

        Raises
        ------
        InputError
            A node has a form that is not covered.
        """
        known: dict[str, Any] = {**self.constants, **folded, **fed}
        for node in self.nodes:
            inputs = [None if value is None or not value.name else known[value.name] for value in node.inputs]
            given = {name: _plain(each) for name, each in node.attributes.items()}
            call = Call(tf, node.op_type, node_name(node), inputs, given, self.opset, len(node.outputs))
            product = self.products.get(node.outputs[0].name or "")
            if product is None and all(each is None or isinstance(each, np.ndarray) for each in inputs):
                # Sizes of values: computed now, so that what is shaped by them has known sizes.
                with tf.init_scope():
                    made = np.asarray(RULES[node.op_type](call))
            elif product is None:
                made = RULES[node.op_type](call)
            else:
                made = product.value(call, known[product.site.source], weights[product.layer.name])
            for value, result in zip(node.outputs, made if isinstance(made, list) else [made], strict=False):
                known[value.name or ""] = result
        return {name: known[name] for name in self.outputs}


def part_of(model: Model, factors: Mapping[str, Factors], outputs: Sequence[str]) -> Part:
    """Return the part of a model behind the layers whose factors are trained.

    Parameters
    ----------
    model
        The original model.
    factors
        Layer name to factors, of the layers that are trained.
    outputs
        Names of the outputs that count and depend on one of them.

    Raises
    ------
    InputError
        The part has an operator that is not covered, or computes in another type than float32; the message names all.
        Or a layer stands in the body of an If or a loop, or is a tied embedding.
    """
    for name in factors:
        if held := [site.holder for site in model.sites[name] if site.holder is not None]:
            raise InputError(f"healing does not reach layer {name!r}, inside the body of {held[0]!r}")
        if model.layer(name).kind == "tied":
            raise InputError(f"healing does not reach layer {name!r}, a tied embedding: its lookups are not trained")
    graph = read_out(model.working.graph, list(outputs)).graph
    sites = {
        site.output: Product(model.layer(name), f, site) for name, f in factors.items() for site in model.sites[name]
    }
    reached: set[ir.Value] = set()
    nodes, products, missing = [], {}, []
    for node in graph:
        bodies = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        name = node.outputs[0].name or ""
        # A body may read any value of the graph around it.
        if not (name in sites or any(value in reached for value in node.inputs) or (bodies and reached)):
            continue
        nodes.append(node)
        reached.update(node.outputs)
        if name in sites:
            products[name] = sites[name]
        elif not is_standard(node) or node.op_type not in RULES:
            missing.append(f"{node.op_type} {node_name(node)!r}")
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise InputError(
            f"healing does not cover what follows the compressed layers: {', '.join(missing[:_NAMED])}{more}"
        )
    _check_types(model, factors)
    constant, read = known_values(graph), {value for node in nodes for value in node.inputs if value is not None}
    needed = [value for value in read if value.name and value not in reached]
    roots = [value for value in needed if is_root(value)]
    return Part(
        nodes=tuple(nodes),
        products=products,
        fed=tuple(sorted({value.name or "" for value in needed if value not in constant and not is_root(value)})),
        folded=tuple(sorted({value.name or "" for value in needed if value in constant and not is_root(value)})),
        constants={value.name or "": stored(value).numpy() for value in roots},
        outputs=tuple(outputs),
        opset=graph.opset_imports.get("", 0) or graph.opset_imports.get("ai.onnx", 0),
    )


def _check_types(model: Model, factors: Mapping[str, Factors]) -> None:
    for name in factors:
        if model.matrices[name].dtype != np.float32:
            raise InputError(f"layer {name!r} computes in {model.matrices[name].dtype}: healing is for float32 models")


def _plain(attribute: ir.Attr) -> Any:
    """Return the value of an attribute as Python has it."""
    value = attribute.value
    if isinstance(value, bytes):
        return value.decode()
    return value.numpy() if attribute.type == ir.AttributeType.TENSOR else value
