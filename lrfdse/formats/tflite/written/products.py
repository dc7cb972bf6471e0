"""Products: fully-connected layers and products of two activations."""

from __future__ import annotations

import numpy as np

from lrfdse.formats.tflite.written.graph import UnsupportedError
from lrfdse.formats.tflite.written.site import Rules, Site


def _matmul(site: Site) -> None:
    """Write a product with a stored matrix on the right as FULLY_CONNECTED, and any other as BATCH_MATMUL."""
    left, right = site.shape(0), site.shape(1)
    if site.is_constant(1) and len(right) == 2 and not site.is_constant(0):
        weight = site.g.weight(site.input(1), (1, 0))
        site.give(_connected(site, site.plain(), left, weight, -1))
        return
    if min(len(left), len(right)) < 2:
        raise UnsupportedError("it multiplies a vector")
    site.give(_batched(site, False, False))


def _batched(site: Site, left: bool, right: bool) -> int:
    """Write a product of which either operand may be transposed; one of fewer axes gets more of size 1."""
    rank = max(len(site.shape(0)), len(site.shape(1)))
    operands = []
    for place in range(2):
        shape = site.shape(place)
        more = rank - len(shape)
        if site.is_constant(place):
            operands.append(site.g.weight(site.input(place), more=more))
        else:
            operands.append(site.g.reshaped(site.plain(place), [1] * more + list(shape), site.output))
    return site.op("BATCH_MATMUL", operands, site.sizes, "BatchMatMulOptions", adjX=left, adjY=right)


def _connected(site: Site, value: int, shape: tuple[int, ...], weight: int, bias: int) -> int:
    if len(shape) < 2:
        raise UnsupportedError("it multiplies a vector")
    keeps = {"keepNumDims": True} if len(shape) > 2 else {}
    return site.op("FULLY_CONNECTED", [value, weight, bias], site.sizes, "FullyConnectedOptions", **keeps)


def _gemm(site: Site) -> None:
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    is_left, is_right = bool(site.attribute("transA", 0)), bool(site.attribute("transB", 0))
    outputs, has_bias = site.sizes[1], site.given(2) and beta != 0
    is_bias = has_bias and site.is_constant(2) and site.shape(2) in ((), (1,), (outputs,), (1, 1), (1, outputs))
    bias = -1
    if is_bias:
        bias = site.g.constant(_bias(site, outputs, beta), site.input(2))
    if site.is_constant(1):
        if alpha == 1:
            weight = site.g.weight(site.input(1), None if is_right else (1, 0))
        else:
            matrix = site.g.constants[site.input(1)] * np.float32(alpha)
            weight = site.g.constant(matrix if is_right else matrix.T, site.input(1))
        value, shape = site.plain(), site.shape()
        if is_left:
            value, shape = site.g.turned(value, shape, (1, 0), site.output), shape[::-1]
        made = _connected(site, value, shape, weight, bias)
    else:
        made = _batched(site, is_left, is_right)
        if alpha != 1:
            made = site.op("MUL", [made, site.number(alpha)], site.sizes, "MulOptions")
        if is_bias:
            made = site.op("ADD", [made, bias], site.sizes, "AddOptions")
    if has_bias and not is_bias:
        more = site.plain(2)
        if beta != 1:
            more = site.op("MUL", [more, site.number(beta)], site.shape(2), "MulOptions")
        made = site.op("ADD", [made, more], site.sizes, "AddOptions")
    site.give(made)


def _bias(site: Site, outputs: int, beta: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    found = (site.g.constants[site.input(2)] * np.float32(beta)).astype(np.float32).reshape(-1)
    return np.ascontiguousarray(np.broadcast_to(found, (outputs,)))


RULES: Rules = {"MatMul": _matmul, "Gemm": _gemm}
"""The rules of this family."""
