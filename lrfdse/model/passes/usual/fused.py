"""Operators that onnxruntime's optimisers fuse, written as the standard ones that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from lrfdse.model.bodies import all_nodes
from lrfdse.model.constants import FLOATS, trace
from lrfdse.model.passes.emit import Emitter, Names, instead_of, replace

DOMAIN = "com.microsoft"
"""Domain of the operators that onnxruntime adds to ONNX's own."""

_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Clip": ("min", "max"),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}
"""Activations that are fused, with their parameters in the order in which they are stored (onnxruntime,
`gemm_activation_fusion.cc` and `conv_activation_fusion.cc`)."""


class Unfuse(ir.passes.InPlacePass):
    """Puts MatMul, Gemm and Conv with the activation behind them in the place of FusedMatMul, FusedGemm and FusedConv.

    Products of two computed tensors stay as they are: there is no weight in them.

    Parameters
    ----------
    ranks
        Name of a value to its number of axes, where that is known.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        self._ranks = ranks

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether anything was fused."""
        names, changed = Names(model), False
        for node in all_nodes(model.graph):
            write = _WRITERS.get(node.op_type) if node.domain == DOMAIN else None
            made = None if write is None else write(Emitter.before(model, node, names), node, self._ranks)
            if made is not None:
                replace(node.outputs[0], made)
                changed = True
        return ir.passes.PassResult(model, modified=changed)


def _gemm(emit: Emitter, node: ir.Node, ranks: Mapping[str, int]) -> ir.Value | None:
    kind = _text(node, "activation")
    if kind and kind not in _ACTIVATIONS:
        return None
    product = emit.op("Gemm", list(node.inputs), **_values(node, ("alpha", "beta", "transA", "transB")))
    instead_of(node, product)
    given = _values(node, [f"activation_{name}" for name in _ACTIVATIONS.get(kind, ())])
    return _activated(emit, product, kind, {name.removeprefix("activation_"): value for name, value in given.items()})


def _convolution(emit: Emitter, node: ir.Node, ranks: Mapping[str, int]) -> ir.Value | None:
    kind = _text(node, "activation")
    if kind and kind not in _ACTIVATIONS:
        return None
    own = _values(node, [name for name in node.attributes if not name.startswith("activation")])
    product = emit.op("Conv", list(node.inputs[:3]), **own)
    instead_of(node, product)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        product = emit.op("Add", [product, node.inputs[3]])
    parameters = node.attributes["activation_params"].as_floats() if "activation_params" in node.attributes else ()
    return _activated(emit, product, kind, dict(zip(_ACTIVATIONS.get(kind, ()), parameters, strict=False)))


def _matmul(emit: Emitter, node: ir.Node, ranks: Mapping[str, int]) -> ir.Value | None:
    operands = [value for value in node.inputs if value is not None]
    constants = [trace(value) for value in operands]
    if any(_values(node, ("transBatchA", "transBatchB")).values()) or len(operands) != 2:
        return None
    weights = [constant for constant in constants if constant is not None]
    if len(weights) != 1 or len(weights[0].shape) != 2 or weights[0].dtype not in FLOATS:
        return None
    other = operands[0 if constants[0] is None else 1]
    rank = ranks.get(other.name or "")
    turned = [bool(_values(node, (name,)).get(name, 0)) for name in ("transA", "transB")]
    alpha = float(_values(node, ("alpha",)).get("alpha", 1.0))
    if rank == 2:
        product = emit.op("Gemm", operands, alpha=alpha, transA=int(turned[0]), transB=int(turned[1]))
        instead_of(node, product)
        return product
    if rank is None and any(swap for swap, constant in zip(turned, constants, strict=True) if constant is None):
        return None
    factors = []
    for value, constant, swap in zip(operands, constants, turned, strict=True):
        axes = 2 if constant is not None else rank or 0
        # A vector has no two axes to exchange.
        factors.append(emit.swap_last(value, axes) if swap and axes > 1 else value)
    product = emit.op("MatMul", factors)
    instead_of(node, product)
    assert weights[0].dtype is not None
    return product if alpha == 1.0 else emit.op("Mul", [product, emit.number(alpha, weights[0].dtype)])


def _activated(emit: Emitter, value: ir.Value, kind: str, given: Mapping[str, float]) -> ir.Value:
    if kind == "Clip":
        return emit.clip(value, given.get("min"), given.get("max"))
    return emit.op(kind, [value], **given) if kind else value


def _text(node: ir.Node, name: str) -> str:
    return node.attributes[name].as_string() if name in node.attributes else ""


def _values(node: ir.Node, names: Sequence[str]) -> dict[str, Any]:
    return {name: node.attributes[name].value for name in names if name in node.attributes}


_WRITERS: Mapping[str, Callable[[Emitter, ir.Node, Mapping[str, int]], ir.Value | None]] = {
    "FusedConv": _convolution,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
}
