"""Every operator that can be differentiated gives what ONNX's own reference evaluator gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lrfdse.errors import InputError
from lrfdse.heal.framework import load_tensorflow
from lrfdse.heal.operators.call import Call
from lrfdse.heal.operators.table import RULES

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
ABOVE = np.abs(X) + 0.5
ROWS = RNG.standard_normal((5, 6)).astype(np.float32)
IMAGE = RNG.standard_normal((2, 4, 7, 6)).astype(np.float32)
LINE = RNG.standard_normal((2, 4, 9)).astype(np.float32)


def ints(*values):
    return np.array(values, dtype=np.int64)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


SIMPLE = {
    name: ([X], {}) for name in ["Abs", "Cos", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu"]
}
SIMPLE |= {
    name: ([X], {})
    for name in ["Mish", "Neg", "Relu", "Selu", "Sigmoid", "Sin", "Softplus", "Softsign", "Tanh", "Celu", "Dropout"]
}
SIMPLE |= {name: ([ABOVE], {}) for name in ["Log", "Reciprocal", "Sqrt"]}
SIMPLE |= {name: ([X, ABOVE[:, :1]], {}) for name in ["Add", "Div", "Mul", "Sub"]}
SIMPLE |= {name: ([X, X[::-1].copy(), ABOVE], {}) for name in ["Max", "Min", "Mean", "Sum"]}
SIMPLE |= {name: ([IMAGE], {}) for name in ["GlobalAveragePool", "GlobalMaxPool", "Flatten", "Shape", "Size"]}
SIMPLE |= {name: ([X], {"axes": [1], "keepdims": 0}) for name in ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceL2"]}

# Operator, inputs, attributes, opset; arrays of whole numbers are constants.
CASES = [
    *((name, inputs, attributes, 17) for name, (inputs, attributes) in SIMPLE.items() if name != "Mish"),
    ("Mish", [X], {}, 18),
    ("Celu", [X], {"alpha": 2.0}, 17),
    ("Gelu", [X], {}, 20),
    ("Gelu", [X], {"approximate": "tanh"}, 20),
    ("Cast", [X], {"to": int(TensorProto.INT32)}, 17),
    ("Clip", [X, np.float32(-0.3), np.float32(0.4)], {}, 17),
    ("Clip", [X], {"min": -0.3, "max": 0.4}, 6),
    ("Pow", [ABOVE, np.float32(1.5)], {}, 17),
    ("PRelu", [X, ABOVE[0, :, :1]], {}, 17),
    ("Where", [X > 0, X, ABOVE], {}, 17),
    ("Softmax", [X], {"axis": 1}, 17),
    ("Softmax", [X], {"axis": 1}, 11),
    ("LogSoftmax", [X], {}, 17),
    ("ReduceSum", [X, ints(0, 2)], {}, 17),
    ("ReduceMean", [X, ints(-1)], {"keepdims": 1}, 18),
    ("ReduceMean", [X], {}, 17),
    ("BatchNormalization", [IMAGE, normal(4), normal(4), normal(4), np.abs(normal(4))], {"epsilon": 1e-3}, 17),
    ("InstanceNormalization", [IMAGE, normal(4), normal(4)], {}, 17),
    ("LayerNormalization", [X, normal(4), normal(4)], {}, 17),
    ("LayerNormalization", [X, normal(3, 4)], {"axis": 1}, 17),
    ("LpNormalization", [X], {"axis": 1, "p": 2}, 17),
    ("MatMul", [X, normal(4, 5)], {}, 17),
    ("MatMul", [X, normal(4)], {}, 17),
    ("MatMul", [normal(3), X], {}, 17),
    ("Gemm", [ROWS, normal(7, 6), normal(7)], {"transB": 1, "alpha": 0.5, "beta": 2.0}, 17),
    ("Gemm", [ROWS, normal(5, 2)], {"transA": 1}, 17),
    ("Conv", [IMAGE, normal(6, 4, 3, 2), normal(6)], {"pads": [1, 0, 2, 1], "strides": [2, 1]}, 17),
    ("Conv", [IMAGE, normal(4, 1, 3, 3)], {"group": 4, "auto_pad": "SAME_LOWER", "strides": [2, 2]}, 17),
    ("Conv", [IMAGE, normal(6, 2, 2, 3)], {"group": 2, "dilations": [2, 1]}, 17),
    ("Conv", [LINE, normal(5, 4, 3), normal(5)], {"pads": [2, 1], "strides": [2], "dilations": [2]}, 17),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]}, 17),
    ("MaxPool", [LINE], {"kernel_shape": [3]}, 17),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 1]}, 17),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, 17),
    ("Concat", [X, ABOVE], {"axis": -1}, 17),
    ("Expand", [X[:, :1], ints(2, 3, 4)], {}, 17),
    ("Gather", [X, ints(-1, 0)], {"axis": 1}, 17),
    ("Pad", [X, ints(0, 1, 2, 0, 0, 1), np.float32(3.0)], {}, 17),
    ("Pad", [X, ints(1, 2), np.float32(1.0), ints(-1)], {}, 18),
    ("Reshape", [X, ints(0, -1)], {}, 17),
    ("Slice", [X, ints(-1, 0), ints(-9, 9), ints(1, 2), ints(-1, 2)], {}, 17),
    ("Slice", [X, ints(1), ints(-1), ints(2)], {}, 17),
    ("Split", [X, ints(1, 3)], {"axis": 2}, 17),
    ("Squeeze", [X[:, :1], ints(1)], {}, 17),
    ("Squeeze", [X[:, :1]], {"axes": [1]}, 11),
    ("Unsqueeze", [X, ints(0, -1)], {}, 17),
    ("Transpose", [X], {"perm": [1, 2, 0]}, 17),
    ("Transpose", [X], {}, 17),
]


@pytest.fixture(scope="module")
def tf():
    return load_tensorflow()


def called(tf, op, inputs, attributes, opset, outputs=1):
    given = [each if np.asarray(each).dtype.kind == "i" else tf.constant(each) for each in inputs]
    given = [np.asarray(e) if op in ("Clip", "Pad") and np.ndim(e) == 0 else e for e in given]
    return RULES[op](Call(tf, op, "node", given, attributes, opset, outputs))


@pytest.mark.parametrize(("op", "inputs", "attributes", "opset"), CASES, ids=lambda each: str(each)[:24])
def test_a_rule_gives_what_the_reference_evaluator_gives(op, inputs, attributes, opset, tf):
    count = 2 if op == "Split" else 1
    names = [f"i{k}" for k in range(len(inputs))]
    outputs = [f"o{k}" for k in range(count)]
    tensors = [numpy_helper.from_array(np.asarray(each), name) for each, name in zip(inputs, names, strict=True)]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([helper.make_node(op, names, outputs, **attributes)], "one", [], ports, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    expected = ReferenceEvaluator(model).run(None, {})
    if (op, opset) == ("Softmax", 11):
        # The evaluator has one axis only, where the operator's text of that version has all from it on.
        flat = np.exp(X.reshape(2, -1))
        expected = [(flat / flat.sum(axis=1, keepdims=True)).reshape(X.shape)]
    found = called(tf, op, inputs, attributes, opset, count)
    for one, other in zip(found if isinstance(found, list) else [found], expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(np.asarray(one), other, rtol=2e-5, atol=2e-6)


def test_every_rule_has_a_case():
    assert {op for op, *_ in CASES} == set(RULES)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "outputs"),
    [
        ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "ceil_mode": 1}, 1),
        ("Pad", [X, ints(0, 0, 0, 0, 0, 1)], {"mode": "reflect"}, 1),
        ("BatchNormalization", [IMAGE, *[normal(4)] * 4], {"training_mode": 1}, 1),
        ("Dropout", [X], {}, 2),
    ],
)
def test_a_form_that_is_not_covered_is_named(op, inputs, attributes, outputs, tf):
    with pytest.raises(InputError, match=f"does not cover {op} 'node': "):
        called(tf, op, inputs, attributes, 17, outputs)


def test_derivatives_stay_finite_where_the_branch_not_taken_overflows(tf):
    x = tf.Variable(np.float32([-200.0, 200.0]))
    for op in ("Elu", "Selu", "Celu", "Softplus", "HardSwish"):
        with tf.GradientTape() as tape:
            y = RULES[op](Call(tf, op, "node", [x], {}, 17, 1))
        assert np.isfinite(tape.gradient(y, x).numpy()).all(), op


def test_operators_are_those_of_onnx():
    assert {name for name in RULES if not onnx.defs.has(name)} == set()
