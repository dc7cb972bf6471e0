"""What outputs are taken to hold, and labels."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from lrfdse.errors import InputError
from lrfdse.quality.labels import class_labels
from lrfdse.quality.reading import Reading, read_output, thresholded

RNG = np.random.default_rng(0)
MODEL = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] NAME) { NAME = OP (x) }"""


def model(name="y", op="Identity"):
    return ir.from_proto(onnx.parser.parse_model(MODEL.replace("NAME", name).replace("OP", op)))


NOISE = RNG.standard_normal((40, 4))
UNITS = NOISE / np.linalg.norm(NOISE, axis=1, keepdims=True)
CHANCES = np.abs(NOISE) / np.abs(NOISE).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "op", "array", "kind", "loss"),
    [
        ("y", "Identity", NOISE, "classes", "softmax"),
        ("y", "Identity", NOISE.astype(np.int64), "whole", "squared"),
        ("y", "Identity", NOISE[:, 0], "numbers", "squared"),
        ("y", "Identity", NOISE[:, :1], "numbers", "squared"),
        ("y", "Sigmoid", NOISE[:, :1] + 0.5, "threshold", "squared"),
        ("y", "Sigmoid", np.full((40, 1), 0.9), "numbers", "squared"),
        ("y", "Sigmoid", np.abs(NOISE) / 4, "threshold", "squared"),
        ("y", "Identity", NOISE + np.array([0, 99, 0, 0]), "numbers", "squared"),
        ("y", "Identity", UNITS, "direction", "squared"),
        ("boxes", "Identity", NOISE, "numbers", "squared"),
        ("sentence_embedding", "Identity", NOISE, "numbers", "squared"),
        ("detectionBoxes", "Identity", NOISE, "numbers", "squared"),
        ("box_scores", "Identity", NOISE, "classes", "softmax"),
        ("boxes", "Identity", CHANCES, "classes", "softmax"),
        ("logits", "Identity", UNITS, "classes", "softmax"),
        ("y", "Clip", NOISE, "numbers", "squared"),
        ("y", "Tanh", NOISE, "numbers", "squared"),
        ("y", "Tanh", UNITS, "direction", "squared"),
        ("logits", "Tanh", NOISE, "classes", "softmax"),
        ("y", "Tanh", np.log(CHANCES), "classes", "softmax"),
        ("logits", "Clip", NOISE, "classes", "softmax"),
        ("y", "Identity", np.where(NOISE > 3, np.nan, np.nan), "classes", "softmax"),
    ],
)
def test_readings(name, op, array, kind, loss):
    found = read_output(model(name, op), name, np.asarray(array))
    assert (found.kind, found.loss) == (kind, loss)
    assert found.reason and found.chances is (array is CHANCES)


def test_states_of_a_recurrent_layer_are_numbers_whatever_moves_them():
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[t, n, 3] x, float[1, 16, 3] w, float[1, 16, 4] r) => (float[n, t, 4] memory, float[1, n, 4] hn) {
            y, hn = LSTM <hidden_size = 4> (x, w, r)
            z = Squeeze (y)
            memory = Transpose <perm = [1, 0, 2]> (z)
        }"""
    graph = ir.from_proto(onnx.parser.parse_model(text))
    for name in ("memory", "hn"):
        found = read_output(graph, name, NOISE.reshape(10, 4, 4))
        assert (found.kind, found.reason) == ("numbers", "LSTM makes it, which makes no class scores")


LINEAR = "m = MatMul (x, w)"

NORMALIZED = """m = ReduceMean <axes = [1]> (x)  c = Sub (x, m)  q = Mul (c, c)  v = ReduceMean <axes = [1]> (q)
    s = Sqrt (v)  d = Div (c, s)"""


@pytest.mark.parametrize(
    ("body", "other"),
    [
        (f"{LINEAR}  y = Add (m, b)", None),
        (f"{LINEAR}  y = Mul (m, temperature)", None),
        (f"{LINEAR}  y = Div (m, temperature)", None),
        (f"{LINEAR}  p = Relu (x)  k = MatMul (p, w)  y = Add (m, k)", None),
        (f"{LINEAR}  k = Add (m, b)  y = Concat <axis = 1> (m, k)", None),
        (f"{LINEAR}  y = Where (mask, m, low)", None),
        (f"{LINEAR}  u = Unsqueeze (m, one)  y = ReduceMean <axes = [1], keepdims = 0> (u)", None),
        (f"{LINEAR}  l = QuantizeLinear (m, temperature, zero)  y = DequantizeLinear (l, temperature, zero)", None),
        (
            "l, s, z = DynamicQuantizeLinear (x)  i = MatMulInteger (l, levels, z)  f = Cast <to = 1> (i)"
            "  k = Mul (s, b)  m = Mul (f, k)  y = Add (m, b)",
            None,
        ),
        ("y = com.microsoft.FusedGemm (x, w)", None),
        (f"{LINEAR}  y = Mul (m, b)", "Mul"),
        (f"{LINEAR}  y = Mul (m, x)", "Mul"),
        (f"{LINEAR}  y = Relu (m)", "Relu"),
        (f"{LINEAR}  y = LayerNormalization (m, b, b)", "LayerNormalization"),
        (f"{LINEAR}  k = Tanh (m)  y = Add (m, k)", "Tanh"),
        (f"{NORMALIZED}  g = Mul (d, b)  y = Add (g, b)", "Mul"),
        (f"{NORMALIZED}  y = Identity (d)", "Div"),
    ],
)
def test_class_scores_come_of_linear_layers(body, other):
    text = f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[n, 4] x, bool[n, 1] mask)
        => (float[n, k] y) <float[4, 4] w = {{{", ".join("1" * 16)}}}, float[4] b = {{1, 2, 3, 4}}, int8 zero = {{0}},
        float temperature = {{0.5}}, float low = {{-9}}, int64[1] one = {{1}},
        int8[4, 4] levels = {{{", ".join("1" * 16)}}}>
        {{ {body} }}"""
    found = read_output(ir.from_proto(onnx.parser.parse_model(text)), "y", NOISE)
    assert (found.kind, found.assumed) == ("numbers" if other else "classes", other is None)
    assert other is None or found.reason == f"{other} makes it, and class scores come of a linear layer or a Softmax"


@pytest.mark.parametrize(("inner", "kind"), [("MatMul (x, w)", "classes"), ("Tanh (x)", "numbers")])
def test_branches_are_looked_into(inner, kind):
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x, bool t) => (float[n, 4] y)
        <float[4, 4] w = {{{", ".join("1" * 16)}}}> {{ y = If (t) <
            then_branch = yes () => (float[n, 4] p) {{ p = MatMul (x, w) }},
            else_branch = no () => (float[n, 4] r) {{ r = {inner} }}> }}"""
    assert read_output(ir.from_proto(onnx.parser.parse_model(text)), "y", NOISE).kind == kind


@pytest.mark.parametrize(("inner", "kind"), [("Sigmoid (v)", "threshold"), ("Tanh (v)", "numbers")])
def test_one_score_of_a_verifier_is_compared_with_a_threshold(inner, kind):
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[n, 1] x, float[n, 1] v, bool t) => (float[n, 1] y)
        {{ first = Sigmoid (x)  y = If (t) <
            then_branch = yes () => (float[n, 1] p) {{ p = {inner} }},
            else_branch = no () => (float[n, 1] r) {{ r = Identity (first) }}> }}"""
    graph = ir.from_proto(onnx.parser.parse_model(text))
    assert read_output(graph, "y", 1 / (1 + np.exp(-NOISE[:, :1]))).kind == kind


IMAGE = "c = Conv (x, w)"


@pytest.mark.parametrize(
    ("body", "opset", "reason"),
    [
        ("y = Conv (x, w)", 17, "Conv makes it, whose last axis"),
        (f"{IMAGE}  b = Relu (c)  y = Add (b, c)", 17, "Conv makes it, whose last axis"),
        (f"{IMAGE}  y = Softmax <axis = 1> (c)", 17, "Softmax over axis 1 makes it, so that its last axis"),
        (f"{IMAGE}  y = LogSoftmax <axis = -3> (c)", 17, "LogSoftmax over axis 1 makes it"),
        (f"{IMAGE}  t = Transpose <perm = [0, 2, 3, 1]> (c)  y = Softmax (t)", 17, None),
        (f"{IMAGE}  y = Transpose <perm = [0, 2, 3, 1]> (c)", 17, None),
        (f"{IMAGE}  y = Transpose <perm = [0, 1, 3, 2]> (c)", 17, "Conv makes it"),
        (f"{IMAGE}  y = Softmax <axis = 3> (c)", 17, None),
        (f"{IMAGE}  y = Softmax <axis = 1> (c)", 11, None),
        (f"{IMAGE}  s = Sigmoid (c)  y = Identity (s)", 17, "a sigmoid"),
    ],
)
def test_pixels_beside_each_other_are_no_classes(body, opset, reason):
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (float[n, 2, 5, 6] x) => (float[n, 3, 5, 6] y)
        <float[3, 2, 1, 1] w = {{1, 2, 3, 4, 5, 6}}> {{ {body} }}"""
    found = read_output(ir.from_proto(onnx.parser.parse_model(text)), "y", NOISE[:36].reshape(2, 3, 4, 6))
    assert found.kind == ("classes" if reason is None else "threshold" if "sigmoid" in reason else "numbers")
    assert reason is None or found.reason.startswith(reason)


def test_one_class_on_random_inputs_or_few_samples_says_nothing():
    array = NOISE + np.array([0, 99, 0, 0])
    assert read_output(model(), "y", array, trusted=False).kind == "classes"
    assert read_output(model(), "y", array[:7]).kind == "classes"


def test_agreements_by_kind():
    rng = np.random.default_rng(1)
    other = NOISE + rng.standard_normal(NOISE.shape)
    got = {"y": other}
    for kind, threshold, wanted in (
        ("classes", 0.0, (NOISE.argmax(1) == other.argmax(1)).mean()),
        ("threshold", 0.25, ((NOISE > 0.25) == (other > 0.25)).mean()),
        ("numbers", 0.0, 1 - ((NOISE - other) ** 2).sum() / ((NOISE - NOISE.mean(0)) ** 2).sum()),
        (
            "direction",
            0.0,
            np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(NOISE, other, strict=True)]),
        ),
    ):
        found = Reading("y", kind, "", threshold).agreements(got, {"y": NOISE})
        assert found.shape == (40,) and found.mean() == pytest.approx(wanted)
    broken = other.copy()
    broken[0] = np.nan
    assert Reading("y", "threshold", "").agreements({"y": broken}, {"y": NOISE})[0] == 0


def test_the_threshold_of_labels_of_two_kinds():
    plain = Reading("y", "numbers", "")
    assert thresholded(plain, np.array([[0.2], [0.9]])).threshold == 0.5
    assert thresholded(plain, np.array([[-2.0], [0.9]])).threshold == 0.0


def test_labels_as_classes():
    scores = np.eye(4)[[0, 1, 2, 3, 1]]
    for given, wanted, note in (
        (np.eye(4)[[3, 2, 1, 0, 1]], [3, 2, 1, 0, 1], "one-hot"),
        (np.array([[0], [1], [2], [3], [1]]), [0, 1, 2, 3, 1], ""),
        (np.array([0.0, 1, 2, 3, 1]), [0, 1, 2, 3, 1], ""),
        (np.array([1, 2, 2, 3, 1]), [1, 2, 2, 3, 1], ""),
    ):
        found, said = class_labels(given, scores, "y", "e.npz")
        assert found.tolist() == wanted and found.dtype == np.int64 and note in said
    found, said = class_labels(np.array([-1, 1, 1]), np.eye(2)[[0, 1, 1]], "y", "e.npz")
    assert found.tolist() == [0, 1, 1] and "-1 and 1" in said
    for given, said in (
        (np.array([1, 2, 3, 4, 2]), "from 1 to 4, but the 4 classes of output 'y' from 0 to 3: subtract 1"),
        (np.array([1, 2, 3, 3, 2]), "subtract 1"),
        (np.array([0, -1, 2, 3, 2]), "one is -1"),
        (np.full(5, 0.5), "class numbers from 0"),
        (np.zeros((5, 2, 2)), "class numbers from 0"),
    ):
        with pytest.raises(InputError, match=said):
            class_labels(given, scores, "y", "e.npz")
