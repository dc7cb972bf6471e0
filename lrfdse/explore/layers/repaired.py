"""Dense layers in int8 with a repair: which are candidates, and each as a small model, as designs hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.int8 import LARGEST
from lrfdse.ir.storage import FLOAT32, INT8

if TYPE_CHECKING:
    import onnx

    from lrfdse.explore.layers.fits import Fits
    from lrfdse.ir.kernel import RepairedSpec
    from lrfdse.ir.layer import Layer

RANKS = (8, 32)
"""Ranks of repairs that are candidates: a few per cent of the layer's bytes, and some ten. Chosen."""

LEAST_LOST = 0.01
"""Relative error of the outputs of a layer, dense in int8, from which on a repair is a candidate: six times what the
layers of examples/lenet300-fashion have, where nothing is lost by it (docs/int8.md). Chosen."""

_SEED = 0
"""Latency does not depend on the weights; they only have to be the same every time."""


def repairs_of(
    layer: Layer, fits: Fits, ranks: Sequence[int] = RANKS, least: float = LEAST_LOST
) -> list[Factorization]:
    """Return the repairs of a layer that are worth a look, by rank.

    There are none without calibration data, whose metric a repair goes by, and where rounding alone costs little.

    Parameters
    ----------
    layer
        A fully-connected layer in float.
    fits
        What fits it.
    ranks
        Those that are thought of; a repair takes fewer bytes than the weight would in half precision.
    least
        Relative error of the outputs of the layer, dense in int8, from which on there are any.
    """
    outputs, inputs = layer.outputs, layer.inputs
    most = FLOAT32.bytes_of(outputs * inputs) // 2
    found = [Factorization.repaired(outputs, inputs, rank) for rank in ranks if rank < min(outputs, inputs)]
    found = [each for each in found if Choice(each, INT8).bytes < most]
    if not found or not fits.calibrated(layer):
        return []
    lost = fits.errors(layer, Choice(Factorization.dense(outputs, inputs), INT8)).output_error
    return found if lost is not None and lost >= least else []


def repaired_model(spec: RepairedSpec) -> onnx.ModelProto:
    """Return a model of nothing but the layer: rows (rows, inputs) in, random weights."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(_SEED)
    tensors, nodes = {}, []

    def product(name: str, source: str, inner: int, out: int) -> str:
        tensors[f"{name}.levels"] = rng.integers(-LARGEST, LARGEST + 1, (inner, out)).astype(np.int8)
        # Outputs are about as large as inputs.
        tensors[f"{name}.scale"] = np.full(out, np.sqrt(3 / inner) / LARGEST, np.float32)
        weight = [f"{name}.levels", f"{name}.scale"]
        nodes.append(helper.make_node("DequantizeLinear", weight, [f"{name}.floats"], name=f"{name}.weight", axis=1))
        nodes.append(helper.make_node("MatMul", [source, f"{name}.floats"], [name], name=f"{name}.product"))
        return name

    def then(op: str, name: str, *inputs: str) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name=name))
        return name

    beside = product("outer", product("inner", "x", spec.inputs, spec.rank), spec.rank, spec.outputs)
    value = then("Add", "sum", product("whole", "x", spec.inputs, spec.outputs), beside)
    if spec.bias:
        tensors["bias"] = rng.standard_normal(spec.outputs).astype(np.float32)
        value = then("Add", "biased", value, "bias")
    if spec.relu:
        value = then("Relu", "positive", value)
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [spec.rows, spec.inputs])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [spec.rows, spec.outputs])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
