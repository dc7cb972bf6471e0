"""Operators of whole numbers, as quantizers write them, in floats between the same whole numbers.

Two forms: operators on levels (ONNX's QLinearMatMul and QLinearConv, onnxruntime's QGemm and other QLinear...), and
MatMulInteger and ConvInteger on what DynamicQuantizeLinear made of an activation. Both say the same as DequantizeLinear
of each operand, the operator in floats, and QuantizeLinear where levels come out, up to the rounding of floats: what
lies between two levels may get the other one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.constants import is_root, is_standard, stored
from lrfdse.model.match.products import only_reader
from lrfdse.model.passes.emit import Emitter, Names, drop_unused, instead_of, replace
from lrfdse.model.passes.usual.fused import DOMAIN

_OPSET = 10
"""Version of ONNX's operators from which there is DequantizeLinear (onnx/docs/Changelog.md)."""

_PER_AXIS = 13
"""Version from which that takes a scale for each index of an axis (onnx/docs/Changelog.md)."""

_ELEMENTWISE: Mapping[str, tuple[str, int]] = {
    "QLinearAdd": ("Add", 2),
    "QLinearLeakyRelu": ("LeakyRelu", 1),
    "QLinearMul": ("Mul", 2),
    "QLinearSigmoid": ("Sigmoid", 1),
}
"""Operators of onnxruntime's, each with the standard one and its operands (onnxruntime/docs/ContribOperators.md)."""

Levels: TypeAlias = tuple[ir.Value | None, ir.Value | None, ir.Value | None]
"""A value in whole numbers, its scale, and its zero point."""


class SpellOutIntegers(ir.passes.InPlacePass):
    """Puts DequantizeLinear, operators of floats and QuantizeLinear in the place of operators of whole numbers.

    Those that read an activation with one constant scale, and MatMulInteger and ConvInteger where the weight is int8
    with zero points of 0. Everything else stays as it is.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the main graph; the result says whether anything was written otherwise."""
        names, changed = Names(model), False
        known: dict[Levels, ir.Value] = {}
        for node in list(model.graph):
            write = _WRITERS.get(("" if is_standard(node) else node.domain, node.op_type))
            if write is not None:
                at = _At(Emitter.before(model, node, names), known)
                changed |= at.emit.opset >= _OPSET and write(at, node)
        return ir.passes.PassResult(model, modified=changed)


class _At:
    """What is written in front of one node; what was written of a value before is used again."""

    def __init__(self, emit: Emitter, known: dict[Levels, ir.Value]) -> None:
        self.emit, self._known = emit, known

    def reads(self, levels: Levels, axis: int | None = None) -> bool:
        """Return whether scale and zero point are constant, and one, or where there is an axis, one for each index."""
        value, scale, zero = levels
        if value is None or scale is None or zero is None or not is_root(scale) or not is_root(zero):
            return False
        size = stored(scale).size
        along = axis is not None and self.emit.opset >= _PER_AXIS and is_root(value) and len(stored(value).shape) > axis
        return (size == 1 or (along and size == stored(value).shape[axis or 0])) and stored(zero).size in (1, size)

    def floats(self, levels: Levels, axis: int | None = None) -> ir.Value:
        """Return a value in floats, of levels that `reads` takes, or with a scale that is computed and one."""
        if levels not in self._known:
            scale, zero = levels[1], levels[2]
            assert scale is not None
            if not is_root(scale) or stored(scale).size == 1:
                found = self.emit.op("DequantizeLinear", [levels[0], self._one(scale), self._one(zero)])
            else:
                found = self.emit.op("DequantizeLinear", list(levels), axis=axis)
            self._known[levels] = found
        return self._known[levels]

    def bias(self, value: ir.Value, worth: NDArray[np.float32]) -> ir.Value:
        """Return a bias in floats, which is stored as whole numbers each worth so much."""
        scale = self.emit.constant("bias_scale", worth if worth.size > 1 else worth.reshape(()))
        return self.emit.op("DequantizeLinear", [value, scale], **({"axis": 0} if worth.size > 1 else {}))

    def put(self, node: ir.Node, made: ir.Value, scale: ir.Value | None, zero: ir.Value | None) -> bool:
        """Put a value, in levels where there is a scale for them, in the place of what a node gives."""
        instead_of(node, made)
        if scale is not None:
            made = self.emit.op("QuantizeLinear", [made, self._one(scale), self._one(zero)])
        replace(node.outputs[0], made)
        return True

    def _one(self, value: ir.Value | None) -> ir.Value | None:
        """Return a number without axes."""
        if value is None or not is_root(value) or not stored(value).shape.numpy():
            return value
        return self.emit.constant(f"{value.name}.one", stored(value).numpy().reshape(()))


def _inputs(node: ir.Node, count: int) -> list[ir.Value | None]:
    return [*node.inputs, *[None] * count][:count]


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _worth(scales: list[ir.Value | None], factor: float = 1.0) -> NDArray[np.float32]:
    """Return what a whole number of a product is worth, of operands with these scales."""
    a, b = (stored(scale).numpy().astype(np.float32).reshape(-1) for scale in scales if scale is not None)
    return np.asarray(np.float32(factor) * a * b, np.float32)


def _gemm(at: _At, node: ir.Node) -> bool:
    a, a_scale, a_zero, b, b_scale, b_zero, c, scale, zero = _inputs(node, 9)
    given = _attributes(node)
    left, right, axis = (a, a_scale, a_zero), (b, b_scale, b_zero), 0 if given.get("transB") else 1
    if not at.reads(left) or not at.reads(right, axis) or (c is not None and not _is_vector(c)):
        return False
    operands = [at.floats(left), at.floats(right, axis)]
    if c is not None:
        operands.append(at.bias(c, _worth([a_scale, b_scale], given.get("alpha", 1.0))))
    return at.put(node, at.emit.op("Gemm", operands, **given), scale, zero)


def _matmul(at: _At, node: ir.Node) -> bool:
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = _inputs(node, 8)
    left, right = (a, a_scale, a_zero), (b, b_scale, b_zero)
    if not at.reads(left) or not at.reads(right, 1):
        return False
    return at.put(node, at.emit.op("MatMul", [at.floats(left), at.floats(right, 1)]), scale, zero)


def _convolution(at: _At, node: ir.Node) -> bool:
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero, bias = _inputs(node, 9)
    left, right = (x, x_scale, x_zero), (w, w_scale, w_zero)
    if not at.reads(left) or not at.reads(right, 0) or (bias is not None and not _is_vector(bias)):
        return False
    operands = [at.floats(left), at.floats(right, 0)]
    if bias is not None:
        operands.append(at.bias(bias, _worth([x_scale, w_scale])))
    return at.put(node, at.emit.op("Conv", operands, **_attributes(node)), scale, zero)


def _elementwise(at: _At, node: ir.Node) -> bool:
    name, count = _ELEMENTWISE[node.op_type]
    inputs = _inputs(node, 3 * count + 2)
    operands: list[Levels] = [(inputs[k], inputs[k + 1], inputs[k + 2]) for k in range(0, 3 * count, 3)]
    if not all(map(at.reads, operands)):
        return False
    return at.put(node, at.emit.op(name, [at.floats(each) for each in operands], **_attributes(node)), *inputs[-2:])


def _integers(at: _At, node: ir.Node) -> bool:
    """Write the product of an activation's levels, a Cast, and a Mul by both scales as a product of floats."""
    a, b, a_zero, b_zero = _inputs(node, 4)
    source = None if a is None else a.producer()
    cast = only_reader(node.outputs[0], "Cast")
    scaled = None if cast is None else only_reader(cast.outputs[0], "Mul")
    if source is None or cast is None or scaled is None or not _is_dynamic(source, a, a_zero):
        return False
    if ir.DataType(cast.attributes["to"].as_int()) != ir.DataType.FLOAT:
        return False
    (worth,) = [value for value in scaled.inputs if value is not cast.outputs[0]] or [None]
    scales = None if worth is None else worth.producer()
    a_scale = source.outputs[1]
    if scales is None or scales.op_type != "Mul" or a_scale not in scales.inputs:
        return False
    (b_scale,) = [value for value in scales.inputs if value is not a_scale] or [None]
    # Scales of a convolution's outputs would lie along another axis than those that its result is multiplied by.
    op, axis = ("MatMul", 1) if node.op_type == "MatMulInteger" else ("Conv", None)
    right = (b, b_scale, b_zero)
    if not at.reads(right, axis) or not _is_symmetric(b, b_zero):
        return False
    operands = [at.floats((a, a_scale, a_zero)), at.floats(right, axis)]
    product = at.emit.op(op, operands, **_attributes(node))
    instead_of(node, product)
    replace(scaled.outputs[0], product)
    for left in (cast, node, scales):
        if left.graph is not None and not left.outputs[0].uses():
            inputs = list(left.inputs)
            left.graph.remove(left, safe=True)
            for value in inputs:
                if value is not None:
                    drop_unused(value)
    return True


def _is_vector(value: ir.Value) -> bool:
    return is_root(value) and len(stored(value).shape) == 1 and stored(value).dtype == ir.DataType.INT32


def _is_dynamic(node: ir.Node, levels: ir.Value | None, zero: ir.Value | None) -> bool:
    standard = is_standard(node) and node.op_type == "DynamicQuantizeLinear"
    return standard and levels is node.outputs[0] and zero is node.outputs[2]


def _is_symmetric(levels: ir.Value | None, zero: ir.Value | None) -> bool:
    """Return whether a stored value is int8 with zero points of 0: products of others are faster as they are."""
    assert levels is not None and zero is not None
    return is_root(levels) and stored(levels).dtype == ir.DataType.INT8 and not stored(zero).numpy().any()


_WRITERS: Mapping[tuple[str, str], Callable[[_At, ir.Node], bool]] = {
    ("", "ConvInteger"): _integers,
    ("", "MatMulInteger"): _integers,
    ("", "QLinearConv"): _convolution,
    ("", "QLinearMatMul"): _matmul,
    (DOMAIN, "QGemm"): _gemm,
    **{(DOMAIN, name): _elementwise for name in _ELEMENTWISE},
}
