"""A model in float64: how much of a deviation is rounding of float32, whoever computes.

``python -m benchmarks.whole_model.exact MODEL SEED`` prints how far onnxruntime's outputs on the random inputs of a
seed lie from those of ONNX's reference implementation with every number of the model in float64.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.whole_model import timing

MOST = 0.05
"""Distance from which on float64 is not what onnxruntime rounds: the reference implementation of some operators is
wrong, and is off by half of the output then. Chosen."""


def in_double(model: Any) -> Any:
    """Return an ONNX model with every float32 of it as float64."""
    import onnx
    from onnx import TensorProto, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)

    def widened(tensor: Any) -> None:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    def graph(each: Any) -> None:
        for tensor in each.initializer:
            widened(tensor)
        for value in (*each.input, *each.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE
        del each.value_info[:]
        for node in each.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    widened(attribute.t)
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    graph(attribute.g)
                elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.DOUBLE

    graph(made.graph)
    return made


def _normalization() -> Any:
    """Return batch normalization by the statistics that a model holds.

    The reference implementation of operator sets before 14 takes those of the input wherever a model names a momentum,
    as if it were trained.
    """
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(
            self, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, epsilon: float = 1e-5, **_: Any
        ) -> tuple[Any]:
            sizes = (-1, *[1] * (x.ndim - 2))
            factor = scale / np.sqrt(variance + epsilon)
            return ((x - mean.reshape(sizes)) * factor.reshape(sizes) + bias.reshape(sizes),)

    return BatchNormalization


def outputs(path: str, given: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return a model's outputs in float64."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(in_double(onnx.load(path)), new_ops=[_normalization()])
    wide = [each.astype(np.float64) if each.dtype == np.float32 else each for each in given]
    found = session.run(None, dict(zip(session.input_names, wide, strict=True)))
    return [np.asarray(each) for each in found]


def main(path: str, seed: int) -> dict[str, Any]:
    """Return how far onnxruntime's outputs lie from float64, relative to the largest, or why that is not known."""
    given = timing.drawn(path, seed)
    theirs = timing.onnxruntime(path, given)
    theirs.run()
    try:
        exact = outputs(path, given)
    # The reference implementation raises what it likes.
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}
    distance = timing.error_of(theirs, exact)
    if distance > MOST:
        return {"failure": f"the reference implementation computes something else: it is off by {distance:.1e}"}
    return {"distance": distance}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
