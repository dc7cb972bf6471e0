"""Recurrent layers in single operators: their recurrent matrices as layers, as factors, and put back whole."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import pytest

from lrfdse.formats.onnx import as_proto, file_content
from lrfdse.model.graph import load_model
from lrfdse.model.passes.carried.cells import read_scan
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from tests.model.test_carried import HIDDEN, WIDE, recurrent, stored, truncated

AFTER = {"LSTM": "", "GRU": ", linear_before_reset = 1"}
KINDS = ("recurrent", "state")


SIZES = {"x": (5, 3, WIDE), "h": (2, 3, HIDDEN), "c": (2, 3, HIDDEN)}


def results(model, feeds):
    runtime = Runtime()
    session = runtime.session(model.SerializeToString() if isinstance(model, onnx.ModelProto) else model)
    return list(runtime.call(session, feeds).values())


def loaded(path, kinds=KINDS):
    names = {port.name for port in load_model(path, kinds=("recurrent",)).inputs}
    return load_model(path, {name: size for name, size in SIZES.items() if name in names}, kinds)


def feeds_of(model, rng):
    return {port.name: rng.standard_normal(SIZES[port.name]).astype(np.float32) for port in model.inputs}


def with_states(make, cell):
    """Write a bidirectional layer that begins with states that are fed."""
    rng = np.random.default_rng(4)
    gates = {"LSTM": 4, "GRU": 3}[cell] * HIDDEN
    arrays = {
        "w": rng.standard_normal((2, gates, WIDE)).astype(np.float32),
        "r": rng.standard_normal((2, gates, HIDDEN)).astype(np.float32),
    }
    more = ", c" if cell == "LSTM" else ""
    fed = f"float[2, n, {HIDDEN}] h" + (f", float[2, n, {HIDDEN}] c" if cell == "LSTM" else "")
    last = f", float[2, n, {HIDDEN}] d" if cell == "LSTM" else ""
    outputs = "all, y, d" if cell == "LSTM" else "all, y"
    text = f"""g (float[t, n, {WIDE}] x, {fed}) => (float[2, n, {HIDDEN}] y{last})
        {{ {outputs} = {cell} <hidden_size = {HIDDEN}, direction = "bidirectional"{AFTER[cell]}>
            (x, w, r, , , h{more}) }}"""
    return make(text, arrays)


CASES = {
    f"{cell}, {name}": build
    for cell in ("LSTM", "GRU")
    for name, build in {
        "both directions": lambda make, cell=cell: recurrent(make, cell, attributes=AFTER[cell]),
        "reverse": lambda make, cell=cell: recurrent(make, cell, directions=1, attributes=AFTER[cell]),
        "without bias": lambda make, cell=cell: recurrent(make, cell, bias=False, attributes=AFTER[cell]),
        "opset 11": lambda make, cell=cell: recurrent(make, cell, attributes=AFTER[cell], opset=11),
        "opset 18": lambda make, cell=cell: recurrent(make, cell, attributes=AFTER[cell], opset=18),
        "initializers as inputs": lambda make, cell=cell: recurrent(make, cell, attributes=AFTER[cell], ir_version=3),
        "first states": lambda make, cell=cell: with_states(make, cell),
    }.items()
}


@pytest.fixture(params=list(CASES))
def case(request, make):
    return loaded(CASES[request.param](make))


def replaced(model, arrays):
    """Return the original with other stored tensors: the oracle, which knows nothing of Scans."""
    made = onnx.ModelProto.FromString(model.content)
    for tensor in made.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(onnx.numpy_helper.from_array(arrays[tensor.name].astype(np.float32), tensor.name))
    return made


def held(model):
    """Return the names of the recurrent matrix and the biases, and the arrays; None where there are no biases."""
    node = next(node for node in model.original.graph if node.op_type in AFTER)
    names = [value.name if value is not None else None for value in (*node.inputs[2:4], None)][:2]
    return *names, *(None if name is None else stored(model.original)[name] for name in names)


def test_steps_compute_what_the_operator_does(case):
    feeds = feeds_of(case, np.random.default_rng(1))
    wanted = results(case.original, feeds)
    for got, other in zip(results(case.working.graph, feeds), wanted, strict=True):
        np.testing.assert_allclose(got, other, atol=1e-6)


def test_whole_matrices_become_the_operator_again(case):
    made = as_proto(rewrite(case, {}))
    (cell,) = (node.op_type for node in made.graph.node if node.op_type != "Constant")
    assert cell in AFTER
    before, after = stored(case.original), stored(rewrite(case, {}))
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    feeds = feeds_of(case, np.random.default_rng(1))
    for got, wanted in zip(results(made, feeds), results(case.original, feeds), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_factors_compute_what_the_operator_does_with_their_product(case):
    rng = np.random.default_rng(2)
    name, bias, whole, biases = held(case)
    whole, rows = whole.copy(), whole.shape[1]
    layers = [layer for layer in case.layers if layer.kind == "state"]
    assert [(layer.outputs, layer.inputs) for layer in layers] == [(rows, HIDDEN)] * len(whole)
    assert all(layer.uses[0].turns == 5 and layer.rows == 15 for layer in layers)
    shifts = [rng.standard_normal(rows) if biases is not None else None for _ in layers]
    factors = {layer.name: truncated(case.weight(layer.name), 2, s) for layer, s in zip(layers, shifts, strict=True)}
    shifted = None if biases is None else biases.copy()
    for place, layer in enumerate(layers):
        np.testing.assert_array_equal(case.weight(layer.name), whole[place])
        first, second = factors[layer.name].cores
        whole[place] = first[0, :, 0, :] @ second[:, 0, :, 0]
        if shifted is not None:
            shifted[place, rows:] += shifts[place]
    arrays = {name: whole} | ({} if shifted is None else {bias: shifted})
    feeds = feeds_of(case, rng)
    wanted = results(replaced(case, arrays), feeds)
    for closed in (False, True):
        made = rewrite(case, factors, closed=closed)
        assert "Scan" in {node.op_type for node in made.graph}
        for got, other in zip(results(made, feeds), wanted, strict=True):
            np.testing.assert_allclose(got, other, atol=2e-6)
    # Something was lost: the comparison is not one of two originals.
    assert not np.allclose(wanted[0], results(case.original, feeds)[0], atol=1e-2)
    opset = case.original.graph.opset_imports[""]
    read = [found for node in made.graph if (found := read_scan(node, opset)) is not None]
    assert [each.reverse for each in read] == ([False, True] if len(whole) == 2 else [True])
    assert all([factor.shape for factor in each.factors] == [(rows, 2), (2, HIDDEN)] for each in read)
    assert file_content(made)


def test_both_matrices_as_factors(make):
    model = loaded(recurrent(make, "LSTM"))
    rng = np.random.default_rng(3)
    factors = {
        layer.name: truncated(model.weight(layer.name), 2, rng.standard_normal(layer.outputs)) for layer in model.layers
    }
    made = rewrite(model, factors)
    sizes = {tuple(array.shape) for array in stored(made).values()}
    assert {(WIDE, 2), (2, 8 * HIDDEN), (HIDDEN, 2), (2, 4 * HIDDEN)} <= sizes
    assert sum(array.size for array in stored(made).values() if array.dtype == np.float32) == (
        2 * (WIDE + 8 * HIDDEN) + 2 * 2 * (HIDDEN + 4 * HIDDEN) + 16 * HIDDEN
    )
    feeds = feeds_of(model, rng)
    for got, other in zip(results(made, feeds), results(rewrite(model, factors, closed=False), feeds), strict=True):
        np.testing.assert_allclose(got, other, atol=1e-6)


def test_a_factorized_input_alone_leaves_the_operator(make):
    """The recurrent matrix stays whole: the file is as it would be if nobody had looked at it."""
    path = recurrent(make, "GRU", attributes=AFTER["GRU"])
    feeds = None
    made = []
    for kinds in (KINDS, ("recurrent",)):
        model = loaded(path, kinds)
        name = next(layer.name for layer in model.layers if layer.kind == "recurrent")
        shift = np.linspace(-1, 1, 2 * 3 * HIDDEN)
        graph = rewrite(model, {name: truncated(model.weight(name), 2, shift)})
        assert [node.op_type for node in graph.graph] == ["MatMul", "GRU"]
        feeds = feeds or feeds_of(model, np.random.default_rng(5))
        made.append((results(graph, feeds), stored(graph)))
    for got, wanted in zip(made[0][0], made[1][0], strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert {a.shape for a in made[0][1].values()} == {a.shape for a in made[1][1].values()}


def test_parameters_add_up(make):
    model = loaded(recurrent(make, "LSTM"))
    held = sum(array.size for array in stored(model.original).values())
    assert sum(layer.params for layer in model.layers) == held and not model.untouched
    assert [layer.name for layer in model.layers] == ["rnn", "y.state.0", "y.state.1"]


def test_a_model_can_be_pickled(make):
    model = loaded(recurrent(make, "LSTM"))
    again = pickle.loads(pickle.dumps(model))
    feeds = feeds_of(model, np.random.default_rng(1))
    factors = {layer.name: truncated(model.weight(layer.name), 2, None) for layer in model.layers}
    for got, wanted in zip(
        results(rewrite(again, factors), feeds), results(rewrite(model, factors), feeds), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("cell", "options", "reason"),
    [
        ("GRU", {}, "this form of GRU is not written in single steps"),
        ("RNN", {}, "an RNN is not written in single steps"),
        ("LSTM", {"attributes": ", clip = 3.0"}, "this form of LSTM is not written in single steps"),
        (
            "LSTM",
            {"attributes": ', activations = ["Sigmoid", "Tanh", "Relu", "Sigmoid", "Tanh", "Relu"]'},
            "this form of LSTM is not written in single steps",
        ),
        ("LSTM", {"opset": 8}, "opset 8 has no Scan to write its steps in: version 9 or newer is required"),
    ],
    ids=["the state is reset", "rnn", "clipped", "other activations", "old"],
)
def test_what_is_not_written_in_steps_says_why(make, cell, options, reason):
    for kinds in (KINDS, ("recurrent",)):
        model = loaded(recurrent(make, cell, **options), kinds)
        assert [layer.kind for layer in model.layers] == ["recurrent"]
        (rest,) = model.untouched
        assert rest.reason == f"its recurrent matrix: {reason}"


def test_a_shared_recurrent_matrix_stays(make):
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((1, 20, 5)).astype(np.float32),
        "r": rng.standard_normal((1, 20, 5)).astype(np.float32),
    }
    text = """g (float[t, n, 5] x) => (float[1, n, 5] y, float[1, n, 5] z)
        { a, y = LSTM <hidden_size = 5> (x, w, r)  b = Squeeze <axes = [1]> (a)
            c, z = LSTM <hidden_size = 5> (b, w, r) }"""
    model = load_model(make(text, arrays, opset=11), {"x": (4, 1, 5)}, KINDS)
    assert [layer.kind for layer in model.layers] == ["recurrent"] and len(model.layers[0].uses) == 2
    assert "is also read by" in model.untouched[0].reason
