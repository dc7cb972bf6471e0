"""Attention as one node: products, a softmax between them, masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrfdse.ir.operators import Softmax
from lrfdse.program.broadcast import Writer
from lrfdse.program.build import Tensor
from lrfdse.program.layout import View
from lrfdse.program.rules.products import product
from lrfdse.program.site import Rules, Site


def _attention(at: Site) -> Sequence[Tensor] | None:
    masked = at.has(3)
    if any(at.has(place) for place in (4, 5, 6)) or any(at.uses(place) for place in (1, 2, 3)):
        return None
    if masked and at.input(3).element != "float32":
        return None
    q, k, v = (_heads(at, place) for place in range(3))
    groups = q.shape[1] // k.shape[1]
    k, v = (_repeated(at, each, groups) for each in (k, v))
    scale = at.attribute("scale") or 1 / math.sqrt(q.shape[-1])
    scores = product(at, q, k.transpose((0, 1, 3, 2)), None)
    write = Writer()
    result = write("mul", write.input(0), scale)
    cap = at.attribute("softcap", 0.0)
    if cap and at.opset < 24:
        # Until then what was added to the scores was capped with them, as onnxruntime has it.
        return None
    if cap:
        result = write("mul", write("tanh", write("div", result, cap)), cap)
    inputs = [scores]
    if masked:
        inputs.append(at.input(3))
        if at.input(3).shape[-1] != scores.shape[-1]:
            return None
        result = write("add", result, write.input(1))
    if at.attribute("is_causal", 0):
        rows, columns = scores.shape[-2:]
        inputs.append(at.build.constant(np.triu(np.full((rows, columns), -np.inf, np.float32), 1)))
        result = write("add", result, write.input(len(inputs) - 1))
    shares = at.build.compacted(at.apply(write.formula, *inputs))
    size = shares.shape[-1]
    softmax = at.build.new(shares.view)
    at.build.call(Softmax(shares.view.size // size, size), shares.value, softmax.value)
    flat = len(at.shape()) == 3
    y = product(at, softmax, v, (0, 2, 1, 3) if flat else at.wanted_order())
    return [at.build.reshaped(y.transpose((0, 2, 1, 3)), at.shape()) if flat else y]


def _heads(at: Site, place: int) -> Tensor:
    """Return an input as (batch, heads, length, width)."""
    x = at.input(place)
    if len(x.shape) == 4:
        return x
    heads = at.attribute("q_num_heads" if place == 0 else "kv_num_heads")
    batch, length, width = x.shape
    return at.build.reshaped(x, (batch, length, heads, width // heads)).transpose((0, 2, 1, 3))


def _repeated(at: Site, x: Tensor, count: int) -> Tensor:
    """Return every head so many times in a row: a group of queries reads the same keys."""
    if count == 1:
        return x
    batch, heads, length, width = x.shape
    wide = x.view.insert(2).expand((batch, heads, count, length, width))
    merged = View((wide.axes[0], wide.axes[1] + wide.axes[2], *wide.axes[3:]), wide.offset)
    return x.seen(merged)


RULES: Rules = {"Attention": _attention}
"""Rules for float32 tensors."""
