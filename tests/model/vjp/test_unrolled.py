"""Backward passes through recurrences, written step after step, against a cell in NumPy moved in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from lrfdse.model.passes.carried.unrolled import MOST_NODES, unrolled
from lrfdse.model.runtime import Runtime
from lrfdse.model.vjp.backward import COTANGENT, SLOPE, backward
from lrfdse.model.vjp.steps import in_steps

STEPS, SAMPLES, WIDE, HIDDEN = 5, 3, 4, 6
STEP = 1e-5
GATES = {"LSTM": 4, "GRU": 3}
AFTER = {"LSTM": "", "GRU": ", linear_before_reset = 1"}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run(cell, x, w, r, b, backwards):
    """Return the states of all steps of one direction, and the last one."""
    hidden = inner = np.zeros((x.shape[1], HIDDEN))
    rows, shown = GATES[cell] * HIDDEN, {}
    for step in range(len(x))[::-1] if backwards else range(len(x)):
        given, product = x[step] @ w.T + b[:rows], hidden @ r.T + b[rows:]
        if cell == "LSTM":
            enter, leave, forget, new = np.split(given + product, 4, axis=1)
            inner = sigmoid(forget) * inner + sigmoid(enter) * np.tanh(new)
            hidden = sigmoid(leave) * np.tanh(inner)
        else:
            pairs = list(zip(*(np.split(each, 3, 1) for each in (given, product)), strict=True))[:2]
            update, reset = (sigmoid(a + c) for a, c in pairs)
            new = np.tanh(given[:, 2 * HIDDEN :] + reset * product[:, 2 * HIDDEN :])
            hidden = (1 - update) * new + update * hidden
        shown[step] = hidden
    return np.stack([shown[step] for step in range(len(x))]), hidden


def of_cell(cell, direction, opset=17):
    """Return a model of one layer, with all states and the last ones as outputs, and its stored tensors."""
    rng, count = np.random.default_rng(7), len(DIRECTIONS[direction])
    arrays = {
        "w": rng.standard_normal((count, GATES[cell] * HIDDEN, WIDE)).astype(np.float32),
        "r": (rng.standard_normal((count, GATES[cell] * HIDDEN, HIDDEN)) / 2).astype(np.float32),
        "b": rng.standard_normal((count, 2 * GATES[cell] * HIDDEN)).astype(np.float32),
    }
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (float[t, n, {WIDE}] x)
        => (float[t, {count}, n, {HIDDEN}] all, float[{count}, n, {HIDDEN}] last)
        {{ all, last = {cell} <hidden_size = {HIDDEN}, direction = "{direction}"{AFTER[cell]}> (x, w, r, b) }}"""
    made = onnx.parser.parse_model(text)
    made.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    return ir.from_proto(made), arrays


def expected(cell, direction, arrays, x):
    parts = [
        run(cell, x, *(arrays[name][place].astype(np.float64) for name in "wrb"), back)
        for place, back in enumerate(DIRECTIONS[direction])
    ]
    return np.stack([states for states, _ in parts], 1), np.stack([last for _, last in parts])


@pytest.fixture(params=[(cell, way) for cell in GATES for way in DIRECTIONS], ids=lambda case: "-".join(case))
def case(request):
    return (*request.param, *of_cell(*request.param))


def values(seed=0):
    return np.random.default_rng(seed).standard_normal((STEPS, SAMPLES, WIDE))


def test_steps_give_what_the_cell_gives(case):
    cell, way, model, arrays = case
    x, runtime = values(), Runtime()
    flat = unrolled(model, {"x": x.shape})
    assert {node.op_type for node in flat.graph}.isdisjoint({"LSTM", "GRU", "Scan"})
    found = runtime.call(runtime.session(flat), {"x": x.astype(np.float32)})
    for name, wanted in zip(("all", "last"), expected(cell, way, arrays, x), strict=True):
        np.testing.assert_allclose(found[name], wanted, atol=2e-6)


def test_backward_passes_are_what_differences_in_float64_say(case):
    cell, way, model, arrays = case
    x, runtime, rng = values(), Runtime(), np.random.default_rng(1)
    fed = {"x": x.astype(np.float32)}
    flat, seen = in_steps(model, ["x"], fed, runtime)
    back = backward(flat, ["x"], seen)
    assert back is not None
    pulls = [rng.standard_normal(part.shape) for part in expected(cell, way, arrays, x)]
    feeds = fed | {f"{COTANGENT}.{place}": pull.astype(np.float32) for place, pull in enumerate(pulls)}
    session = runtime.session(back)
    taken = {port.name for port in session.get_inputs()}
    found = runtime.call(session, {name: array for name, array in feeds.items() if name in taken})[f"{SLOPE}.0"]
    wanted = np.empty_like(x)
    for place in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * STEP
            ends.append(sum(np.vdot(p, y) for p, y in zip(pulls, expected(cell, way, arrays, moved), strict=True)))
        wanted[place] = (ends[0] - ends[1]) / (2 * STEP)
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


SCAN = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, t, 4] x, float[n, 4] first)
    => (float[n, 4] last, float[n, 4, t] shown) {
    last, shown = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [2],
        scan_output_directions = [1], body = step (float[n, 4] s, float[n, 4] g) => (float[n, 4] new, float[n, 4] y) {
            a = MatMul (s, m) b = Add (a, g) new = Tanh (b) y = Mul (new, g) }> (first, x) }"""


def of_scan():
    made = onnx.parser.parse_model(SCAN)
    matrix = np.random.default_rng(3).standard_normal((4, 4)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(matrix, "m"))
    return ir.from_proto(made)


def test_a_scan_along_other_axes_gives_what_it_gave():
    model, runtime, rng = of_scan(), Runtime(), np.random.default_rng(5)
    feeds = {"x": rng.standard_normal((3, 5, 4)).astype(np.float32), "first": np.ones((3, 4), np.float32)}
    flat = unrolled(model, {"x": (3, 5, 4)})
    assert "Scan" not in {node.op_type for node in flat.graph}
    for wanted, found in zip(
        runtime.call(runtime.session(model), feeds).values(),
        runtime.call(runtime.session(flat), feeds).values(),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("sizes", [{}, {"x": (MOST_NODES, 3, 4)}], ids=["unknown", "too many"])
def test_steps_that_are_unknown_or_too_many_stay(sizes):
    model, _ = of_cell("LSTM", "forward")
    assert unrolled(model, sizes) is model
