"""Backward passes against central differences of ONNX's reference implementation in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir
import pytest

from lrfdse.model.passes.cut import exposed
from lrfdse.model.runtime import Runtime
from lrfdse.model.vjp.backward import COTANGENT, SLOPE, backward, depends
from lrfdse.model.vjp.table import RULES

STEP = 1e-3

# What is done to x and made y of; `T` is the type. Constants come from `CONSTANTS`. The operators of a row are checked.
ELEMENTWISE = {
    "Abs": "y = Abs (x)",
    "Add Mul Sub": "a = Add (row, x) b = Mul (x, a) c = Sub (one, b) y = Sub (c, x)",
    "Add, to fewer axes": "a = Mul (square, p) b = Add (p, a) y = Add (b, x)",
    "Div": "a = Div (x, positive) b = Exp (x) y = Div (a, b)",
    "Clip": "y = Clip (x, low, high)",
    "Elu": "y = Elu <alpha = 0.7> (x)",
    "Erf": "y = Erf (x)",
    "Exp": "y = Exp (x)",
    "HardSigmoid": "y = HardSigmoid <alpha = 0.4> (x)",
    "HardSwish": "a = Mul (x, four) y = HardSwish (a)",
    "LeakyRelu": "y = LeakyRelu <alpha = 0.2> (x)",
    "Log Sqrt": "a = Exp (x) b = Sqrt (a) c = Add (b, one) y = Log (c)",
    "Neg": "y = Neg (x)",
    "Pow": "a = Exp (x) b = Pow (a, half) y = Pow (b, three)",
    "Reciprocal": "a = Exp (x) y = Reciprocal (a)",
    "Relu": "y = Relu (x)",
    "Sigmoid": "y = Sigmoid (x)",
    "Softplus": "y = Softplus (x)",
    "Sum": "a = Exp (x) y = Sum (row, x, a)",
    "Tanh": "y = Tanh (x)",
    "Where": "a = Exp (x) c = Greater (x, one) y = Where (c, x, a)",
}
MATRICES = {
    "Concat": "a = Exp (x) y = Concat <axis = -1> (a, x, a)",
    "Concat, first axis": "a = Exp (x) y = Concat <axis = 0> (a, x, a)",
    "Flatten": "a = Unsqueeze (x, axis1) y = Flatten <axis = 1> (a)",
    "Gather": "a = Reshape (x, three_by_four) y = Gather <axis = 1> (a, second)",
    "Gather, first axis": "a = Reshape (x, three_by_four) y = Gather <axis = 0> (a, second)",
    "Gather, last of the first axis": "a = Exp (x) y = Gather (a, last)",
    "Gemm": "y = Gemm <alpha = 0.5, beta = 2.0> (x, w, bias)",
    "Gemm, turned": "t = Transpose (x) y = Gemm <transA = 1, transB = 1> (t, v)",
    "Gemm, second": "e = Exp (x) t = Transpose (x) y = Gemm <alpha = 0.5> (e, t)",
    "Gemm, second turned": "e = Exp (x) y = Gemm <transB = 1> (e, x)",
    "Gemm, bias": "e = Exp (x) y = Gemm <beta = 3.0> (x, ww, e)",
    "Identity Transpose": "a = Identity (x) y = Transpose <perm = [1, 0]> (a)",
    "LayerNormalization": "y = LayerNormalization <axis = -1, epsilon = 0.01> (x, gain, gain)",
    "LogSoftmax": "y = LogSoftmax <axis = -1> (x)",
    "MatMul": "a = Reshape (x, heads) t = Transpose <perm = [0, 2, 1]> (a) s = MatMul (a, t) y = MatMul (s, a)",
    "MatMul, broadcast": "a = Reshape (x, heads) e = Unsqueeze (a, axis1) y = MatMul (cube, e)",
    "ReduceMean": "a = Reshape (x, three_by_four) y = ReduceMean <axes = [1], keepdims = 0> (a)",
    "ReduceSum": "a = Reshape (x, three_by_four) e = Exp (a) y = ReduceSum <keepdims = 1> (e, axis2)",
    "Reshape": "s = Shape (x) a = Reshape (x, three_by_four) y = Reshape (a, s)",
    "Softmax": "a = Reshape (x, three_by_four) y = Softmax <axis = 1> (a)",
    "Split": "a, b, c = Split <axis = 1> (x, fours) y = Mul (c, a)",
    "Squeeze Unsqueeze": "a = Unsqueeze (x, axis1) y = Squeeze (a, axis1)",
}
IMAGES = {
    "AveragePool": "y = AveragePool <kernel_shape = [3, 2], strides = [2, 1]> (x)",
    "BatchNormalization": "y = BatchNormalization (x, scale, scale, scale, scale)",
    "Conv": "y = Conv <strides = [2, 1], pads = [1, 0, 2, 1], dilations = [1, 2]> (x, kernel)",
    "Conv, SAME_UPPER": 'y = Conv <auto_pad = "SAME_UPPER", strides = [2, 3]> (x, kernel)',
    "Conv, SAME_LOWER": 'y = Conv <auto_pad = "SAME_LOWER", strides = [1, 2]> (x, kernel)',
    "Conv, VALID": 'y = Conv <auto_pad = "VALID", strides = [2, 1]> (x, kernel)',
    "Conv, grouped": "y = Conv <group = 2, strides = [2, 2]> (x, grouped)",
    "GlobalAveragePool": "e = Exp (x) y = GlobalAveragePool (e)",
    "MaxPool": "y = MaxPool <kernel_shape = [2, 3], strides = [2, 3]> (x)",
}
RNG = np.random.default_rng(11)
CONSTANTS = {
    "row": RNG.normal(size=12),
    "p": RNG.normal(size=(1, 1)),
    "square": RNG.normal(size=(12,)),
    "positive": RNG.uniform(1, 2, size=(12,)),
    "one": np.array(0.3),
    "four": np.array(4.0),
    "half": np.array(0.5),
    "three": np.array(3.0),
    "low": np.array(-0.6),
    "high": np.array(0.5),
    "w": RNG.normal(size=(12, 5)),
    "ww": RNG.normal(size=(12, 12)),
    "v": RNG.normal(size=(3, 12)),
    "bias": RNG.normal(size=5),
    "gain": RNG.normal(size=12),
    "cube": RNG.normal(size=(2, 4, 3)),
    "kernel": RNG.normal(size=(3, 4, 2, 2)),
    "grouped": RNG.normal(size=(6, 2, 3, 2)),
    "scale": RNG.uniform(1, 2, size=4),
    "heads": np.array([0, 3, 4]),
    "three_by_four": np.array([0, 3, 4]),
    "fours": np.array([4, 4, 4]),
    "axis1": np.array([1]),
    "axis2": np.array([2]),
    "second": np.array(1),
    "last": np.array(-1),
    "few": np.array([0, 2]),
}
CASES = [(name, body, (3, 12)) for name, body in (ELEMENTWISE | MATRICES).items()]
CASES += [(name, body, (3, 4, 5, 4)) for name, body in IMAGES.items()]


def model_of(body, shape, dtype, opset=17):
    sizes = ", ".join(["n", *map(str, shape[1:])])
    kind = {np.float32: "float", np.float64: "double"}[dtype]
    lines = body.replace(") ", ")\n")
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({kind}[{sizes}] x) => ({kind} y) {{ {lines} }}'
    found = onnx.parser.parse_model(text)
    for name, array in CONSTANTS.items():
        if any(name in node.input for node in found.graph.node):
            typed = array.astype(dtype if array.dtype.kind == "f" else np.int64)
            found.graph.initializer.append(onnx.numpy_helper.from_array(typed, name))
    return found


def slope_of(body, x, cotangent):
    """Return what the backward pass gives, and None where there is none."""
    part, runtime = ir.from_proto(model_of(body, x.shape, np.float32)), Runtime()
    seen = runtime.call(runtime.session(exposed(part, depends(part, ["x"]))), {"x": x}) | {"x": x}
    back = backward(part, ["x"], seen)
    if back is None:
        return None
    feeds = {"x": x, f"{COTANGENT}.0": cotangent}
    found = runtime.call(runtime.session(back), {value.name: feeds[value.name] for value in back.graph.inputs})
    return found[f"{SLOPE}.0"]


@pytest.mark.parametrize(("name", "body", "shape"), CASES, ids=[name for name, _, _ in CASES])
def test_cotangents_are_those_of_central_differences(name, body, shape):
    rng = np.random.default_rng(3)
    exact = onnx.reference.ReferenceEvaluator(model_of(body, shape, np.float64))
    x = rng.normal(size=shape)
    given = exact.run(None, {"x": x})[0]
    cotangent = rng.normal(size=given.shape)
    wanted = np.empty(x.size)
    for place in range(x.size):
        moved = np.zeros(x.size)
        moved[place] = STEP
        high, low = (exact.run(None, {"x": x + sign * moved.reshape(shape)})[0] for sign in (1, -1))
        wanted[place] = ((high - low) * cotangent).sum() / (2 * STEP)
    found = slope_of(body, x.astype(np.float32), cotangent.astype(np.float32))
    assert found is not None and found.shape == shape
    np.testing.assert_allclose(found.reshape(-1), wanted, atol=5e-4 * np.abs(wanted).max())


def test_cotangents_of_values_in_between_are_those_behind_each():
    """One of them depends on another, and a third is made of no input that counts."""
    body = "a = Tanh (x) b = Exp (a) c = Sigmoid (row) d = Mul (b, c) y = Add (d, a)"
    part, runtime = ir.from_proto(model_of(body, (3, 12), np.float32)), Runtime()
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 12)).astype(np.float32)
    seen = runtime.call(runtime.session(exposed(part, depends(part, ["b", "a", "c"]))), {"x": x})
    assert set(seen) == {"a", "b", "c", "d", "y"}
    back = backward(part, ["b", "a", "c"], seen)
    pull = rng.normal(size=(3, 12)).astype(np.float32)
    feeds = {"x": x, f"{COTANGENT}.0": pull}
    found = runtime.call(runtime.session(back), {value.name: feeds[value.name] for value in back.graph.inputs})
    b, c = seen["b"], seen["c"]
    for number, wanted in enumerate((pull * c, pull * (c * b + 1), (pull * b).sum(axis=0))):
        np.testing.assert_allclose(found[f"{SLOPE}.{number}"], wanted, rtol=1e-4, atol=1e-5)


def test_every_rule_is_checked():
    checked = {word.rstrip(",") for name, _, _ in CASES for word in name.split()}
    assert set(RULES) <= checked


@pytest.mark.parametrize(
    "body",
    [
        "y = Cos (x)",
        "y = Softmax <axis = 0> (x) z = Cos (y)",
        "y = Gather (x, few)",
        "y = ReduceMean <axes = [0], keepdims = 1> (x)",
        "d = Cast <to = 11> (x) e = Exp (d) y = Cast <to = 1> (e)",
    ],
)
def test_what_no_rule_covers_has_no_backward_pass(body):
    rng = np.random.default_rng(12)
    x = rng.normal(size=(3, 12)).astype(np.float32)
    assert slope_of(body, x, np.ones((5, 12), np.float32)) is None


def test_elements_of_a_window_that_are_equal_share_its_cotangent():
    x = np.zeros((3, 1, 2, 3), np.float32)
    found = slope_of(IMAGES["MaxPool"], x, np.ones((3, 1, 1, 1), np.float32))
    np.testing.assert_allclose(found, np.full_like(x, 1 / 6), rtol=1e-6)


def test_old_operators_have_none():
    part = ir.from_proto(model_of("y = Tanh (x)", (5, 12), np.float32, opset=10))
    x = np.zeros((5, 12), np.float32)
    assert backward(part, ["x"], {"x": x, "y": x}) is None
