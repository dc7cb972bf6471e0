"""Known networks that come with ONNX without their weights: random weights, whole graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lrfdse.ir.operators import Foreign
from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from lrfdse.program.memory import plan
from tests.program.interpreter import run

pytestmark = pytest.mark.slow

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def with_weights(proto):
    """Replace the nodes that fill weights with one number by random weights that keep activations of order one."""
    rng = np.random.default_rng(0)
    known = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    filled = [node for node in proto.graph.node if node.op_type == "ConstantOfShape"]
    readers = {name: (node.op_type, place) for node in proto.graph.node for place, name in enumerate(node.input)}
    for node in filled:
        shape = known[node.input[0]]
        operator, place = readers[node.output[0]]
        if operator == "BatchNormalization" and place in (1, 4):
            array = rng.uniform(0.5, 1.5, shape)
        else:
            array = rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), node.output[0]))
        proto.graph.node.remove(node)
    return proto


@pytest.mark.parametrize("name", ["densenet121", "inception_v2", "resnet50", "shufflenet", "squeezenet"])
def test_outputs_are_those_of_onnxruntime(name):
    proto = with_weights(onnx.load(FOLDER / f"light_{name}.onnx"))
    proto.ir_version = 8
    model = ir.from_proto(proto)
    initial = {each.name for each in proto.graph.initializer}
    (source,) = (each.name for each in proto.graph.input if each.name not in initial)
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    runtime = Runtime()
    want = runtime.call(runtime.session(model), {source: x})
    made = program(model)
    assert not any(isinstance(call.operator, Foreign) for call in made.calls)
    for key, array in run(made, {source: x}).items():
        assert np.ptp(want[key]) > 0
        assert np.abs(array - want[key]).max() <= 1e-5 * np.abs(want[key]).max()
    memory = plan(made)
    assert memory.size == memory.bound
