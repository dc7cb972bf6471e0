"""Products: fully-connected layers and batched matrix products."""

from __future__ import annotations

import numpy as np

from lrfdse.formats.tflite.builder import Rules, Site, UnsupportedError


def _fully_connected(site: Site) -> None:
    """Write ``x W^T + b`` as Gemm; where leading axes are kept, as MatMul and Add."""
    if site.option("weightsFormat"):
        raise UnsupportedError("its weights are shuffled")
    source, weight = site.input(), site.input(1)
    if len(weight.shape) != 2:
        raise UnsupportedError("its weight is no matrix")
    inputs = weight.shape[1]
    rank, value = len(source.shape), site.plain()
    is_kept = site.option("keepNumDims", False) and rank > 2
    has_bias = site.given(2)
    if is_kept:
        found = site.g.constants.get(weight.index)
        if found is None:
            turned = site.op("Transpose", [site.plain(1)], perm=[1, 0])
        else:
            turned = site.g.constant(found.T, f"{weight.name}/transposed")
        product = site.op("MatMul", [value, turned])
        site.finish(site.op("Add", [product, site.plain(2)]) if has_bias else product)
        return
    if rank != 2 or source.shape[-1] != inputs:
        value = site.op("Reshape", [value, site.whole([-1, inputs])])
    operands = [value, site.plain(1), *([site.plain(2)] if has_bias else [])]
    site.finish(site.op("Gemm", operands, transB=1))


def _batch_matmul(site: Site) -> None:
    """Write a product of the last two axes, of which either operand may be transposed."""
    operands = []
    for place, name in enumerate(("adjX", "adjY")):
        tensor, value = site.input(place), site.plain(place)
        rank = len(tensor.shape)
        if rank < 2:
            raise UnsupportedError("it multiplies a vector")
        if site.option(name, False):
            order = [*range(rank - 2), rank - 1, rank - 2]
            found = site.g.constants.get(tensor.index)
            if found is None:
                value = site.op("Transpose", [value], perm=order)
            else:
                value = site.g.constant(np.transpose(found, order), f"{tensor.name}/transposed")
        operands.append(value)
    site.finish(site.op("MatMul", operands))


RULES: Rules = {"FULLY_CONNECTED": _fully_connected, "BATCH_MATMUL": _batch_matmul}
"""The rules of this family."""
