"""Products, and convolutions by constant weights."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from lrfdse.model.vjp.call import Call, Rule, UncoveredError


def _matmul(call: Call, place: int) -> ir.Value:
    ranks = [len(call.sizes_of(call.input(each))) for each in (0, 1)]
    if min(ranks) < 2:
        raise UncoveredError("MatMul: an input is a vector")
    other = call.emit.swap_last(call.input(1 - place), ranks[1 - place])
    found = call.op("MatMul", other, call.pull) if place else call.op("MatMul", call.pull, other)
    sizes = (*call.sizes_of(call.output)[:-2], *call.sizes_of(call.input(place))[-2:])
    return call.summed(found, sizes, call.input(place))


def _gemm(call: Call, place: int) -> ir.Value:
    alpha, turned = call.attribute("alpha", 1.0), [call.attribute(name, 0) for name in ("transA", "transB")]
    if place == 2:
        scaled = call.op("Mul", call.pull, call.number(call.attribute("beta", 1.0)))
        return call.summed(scaled, call.sizes_of(call.output), call.input(2))
    a, b = call.input(0), call.input(1)
    if place == 0:
        first, second, turns = (b, call.pull, (turned[1], 1)) if turned[0] else (call.pull, b, (0, 1 - turned[1]))
    else:
        first, second, turns = (call.pull, a, (1, turned[0])) if turned[1] else (a, call.pull, (1 - turned[0], 0))
    return call.op("Gemm", first, second, alpha=float(alpha), transA=turns[0], transB=turns[1])


def _convolution(call: Call, place: int) -> ir.Value:
    if place:
        raise UncoveredError("Conv: its weights are computed")
    wide, made, weights = (call.sizes_of(value) for value in (call.input(0), call.output, call.input(1)))
    axes = len(wide) - 2
    strides, dilations = (list(call.attribute(name, [1] * axes)) for name in ("strides", "dilations"))
    pads = list(call.attribute("pads", [0] * 2 * axes))
    if (automatic := call.attribute("auto_pad", "NOTSET")) != "NOTSET":
        pads = [0] * 2 * axes
        if automatic != "VALID":
            upper = automatic == "SAME_UPPER"
            for k in range(axes):
                reach = (made[2 + k] - 1) * strides[k] + dilations[k] * (weights[2 + k] - 1) + 1
                total = max(reach - wide[2 + k], 0)
                pads[k] = total // 2 if upper else total - total // 2
                pads[axes + k] = total - pads[k]
    # What no window reaches at the end has no derivative; the transposed convolution has to be told of it.
    missing = [
        wide[2 + k]
        + pads[k]
        + pads[axes + k]
        - (made[2 + k] - 1) * strides[k]
        - dilations[k] * (weights[2 + k] - 1)
        - 1
        for k in range(axes)
    ]
    return call.op(
        "ConvTranspose",
        call.pull,
        call.input(1),
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=call.attribute("group", 1),
        output_padding=missing,
    )


PRODUCTS: Mapping[str, Rule] = {"Conv": _convolution, "Gemm": _gemm, "MatMul": _matmul}
"""Operator to rule."""
