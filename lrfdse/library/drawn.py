"""A random input of a model that tells right code from wrong, and what onnxruntime computes for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.latency import TOLERANCE
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct
from lrfdse.library.vectors import ROUNDED, Vectors, tells_nothing, tolerance_of
from lrfdse.model.constants import is_standard
from lrfdse.model.data import random_inputs
from lrfdse.model.passes.emit import MOVING
from lrfdse.model.runtime import Runtime, as_written
from lrfdse.model.shapes import ports

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from lrfdse.ir.program import Program

_SEED = 0
"""Latency does not depend on the input of the test vectors; it only has to be the same every time."""

_DRAWS = 8
"""Inputs that are tried. Chosen: a network that says no to nearly all noise (a wake word) gave 6e-7 for one input and
0.999 for the fourth."""

_STEP = 2.0**-22
"""By how much two right results of a function whose largest value is 1 may differ: four times the rounding of a float32
near 1. Seen: onnxruntime's own approximation of a sigmoid is off by 3e-8 where it is 6e-7."""

_LAST_BIT = 2.0**-23
"""By how much weights are moved, relative to themselves, to see what rounding does to outputs."""

_WEIGHTS = 16
"""Numbers from which a constant of floats is weights; fewer may be sizes or factors of a picture."""

_UP_TO_ONE = frozenset({"Sigmoid", "Softmax"})
"""Operators that are computed to a part of 1, however small the result is."""


def drawn_vectors(
    proto: onnx.ModelProto, model: ir.Model, program: Program, shape: Mapping[str, tuple[int, ...]], path: Path
) -> Vectors:
    """Return a random input, what onnxruntime computes for it, and which error counts as right.

    Up to `_DRAWS` inputs are drawn until rounding says little about one; the best of them is taken. An output that
    saturates (a sigmoid of 1e-7), or is the same everywhere, would not tell right code from wrong.

    Parameters
    ----------
    proto, model
        The model, as protobuf and as a graph.
    program
        What was made of it.
    shape
        Sizes of inputs that the model leaves dynamic.
    path
        The model's file, for messages.
    """
    content, runtime = proto.SerializeToString(), Runtime(sessions=0)
    sessions = runtime.session(content), as_written(content), as_written(_nudged(proto))
    whole = any(isinstance(call.operator, QuantizedProduct | QuantizedConvolution) for call in program.calls)
    made = {value.name: node for node in model.graph for value in node.outputs}
    steps = [_STEP if _is_up_to_one(made.get(port.name)) else 0.0 for port in program.outputs]

    def draws() -> Iterator[Vectors]:
        rng = np.random.default_rng(_SEED)
        for _ in range(_DRAWS):
            feeds = random_inputs(ports(model.graph, shape, path), rng)
            inputs = tuple(
                feeds[port.name].astype(program.values[port.value].element, copy=False) for port in program.inputs
            )
            outputs, *others = (
                tuple(found[port.name] for port in program.outputs)
                for found in (runtime.call(session, feeds) for session in sessions)
            )
            if whole:
                # Onnxruntime's own whole numbers saturate on some machines; node by node, its floats do not.
                yield Vectors(inputs, others[0], ROUNDED)
                return
            yield Vectors(inputs, outputs, max(tolerance_of(outputs, other, steps) for other in others))

    def doubt(each: Vectors) -> tuple[int, float]:
        return sum(map(tells_nothing, each.outputs)), each.tolerance

    best = next(drawn := draws())
    while doubt(best) > (0, TOLERANCE) and (other := next(drawn, None)) is not None:
        best = min(best, other, key=doubt)
    return best


def _nudged(proto: onnx.ModelProto) -> bytes:
    """Return a model whose weights are off by about their last bit, at random.

    Where its outputs move far by that, rounding explains as much, though two ways of computing may agree by chance.
    """
    import onnx
    from onnx import numpy_helper

    rng, made = np.random.default_rng(_SEED), onnx.ModelProto()
    made.CopyFrom(proto)
    for weight in made.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or math.prod(weight.dims) < _WEIGHTS:
            continue
        array = numpy_helper.to_array(weight)
        if np.array_equal(array, np.rint(array)):
            # Whole numbers are exact, and classes that a value is compared with are none of them a bit off.
            continue
        moved = array * (1 + _LAST_BIT * (2 * rng.integers(0, 2, array.shape) - 1))
        weight.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), weight.name))
    return bytes(made.SerializeToString())


def _is_up_to_one(node: ir.Node | None) -> bool:
    """Return whether a value is made by a function of `_UP_TO_ONE`, perhaps moved behind it."""
    while node is not None and is_standard(node) and node.op_type in MOVING and node.inputs:
        first = node.inputs[0]
        node = None if first is None else first.producer()
    return node is not None and is_standard(node) and node.op_type in _UP_TO_ONE
