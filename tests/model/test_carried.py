"""Products taken out of LSTM, GRU, RNN, Attention and Gather, and put back: whole, and as factors."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from lrfdse.errors import InputError, PlanError
from lrfdse.formats.onnx import as_proto
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.model.graph import load_model
from lrfdse.model.passes.carried.closed import CloseProducts
from lrfdse.model.passes.carried.opened import opened, split_table
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime

CARRIERS = ("recurrent", "attention", "embedding")

HIDDEN, WIDE = 5, 7

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(make, cell, directions=2, bias=True, attributes="", opset=17, ir_version=8):
    """Write a model of one recurrent layer that gives all its states and the last one."""
    rng = np.random.default_rng(0)
    gates = GATES[cell] * HIDDEN
    arrays = {
        "rnn.W": rng.standard_normal((directions, gates, WIDE)).astype(np.float32),
        "rnn.R": rng.standard_normal((directions, gates, HIDDEN)).astype(np.float32),
        "rnn.B": rng.standard_normal((directions, 2 * gates)).astype(np.float32),
    }
    given = '"rnn.W", "rnn.R"' + (', "rnn.B"' if bias else "")
    direction = "bidirectional" if directions == 2 else "reverse"
    text = f"""g (float[t, n, {WIDE}] x) => (float[t, {directions}, n, {HIDDEN}] y, float[{directions}, n, {HIDDEN}] h)
        {{ y, h = {cell} <hidden_size = {HIDDEN}, direction = "{direction}"{attributes}> (x, {given}) }}"""
    arrays = arrays if bias else {name: array for name, array in arrays.items() if name != "rnn.B"}
    return make(text, arrays, opset=opset, ir_version=ir_version)


def embedding(make, dtype=np.float32, rows=20, index="int64"):
    table = np.random.default_rng(0).standard_normal((rows, 6)).astype(dtype)
    kind = {np.float32: "float", np.float16: "float16"}[dtype]
    return make(f"g ({index}[n, 4] i) => ({kind}[n, 4, 6] y) {{ y = Gather (words, i) }}", {"words": table})


def attention(make, bias=True):
    rng = np.random.default_rng(0)
    arrays = {"qkv": rng.standard_normal((8, 24)).astype(np.float32)}
    if bias:
        arrays["shift"] = rng.standard_normal(24).astype(np.float32)
    text = f"""g (float[n, 3, 8] x) => (float[n, 3, 8] y)
        {{ y = com.microsoft.Attention <num_heads = 2> (x, qkv{", shift" if bias else ""}) }}"""
    return make(text, arrays, domains=("com.microsoft",))


def feeds_of(model, rng):
    port = model.inputs[0]
    if port.dtype.startswith("int"):
        return {port.name: rng.integers(-20, 20, (3, 4)).astype(port.dtype)}
    width = port.shape[-1]
    return {port.name: rng.standard_normal((4, 3, width)).astype(port.dtype)}


def results(graph, feeds):
    runtime = Runtime()
    session = runtime.session(graph)
    return list(runtime.call(session, feeds, [port.name for port in session.get_outputs()]).values())


def stored(graph):
    """Return initializers by name, those of Constant nodes among them."""
    proto = as_proto(graph)
    made = [node.attribute[0].t for node in proto.graph.node if node.op_type == "Constant"]
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    return found | {
        node.output[0]: onnx.numpy_helper.to_array(tensor)
        for node, tensor in zip((n for n in proto.graph.node if n.op_type == "Constant"), made, strict=True)
    }


EVERY = {
    "lstm": lambda make: recurrent(make, "LSTM"),
    "lstm, one direction, no bias": lambda make: recurrent(make, "LSTM", 1, bias=False),
    "gru": lambda make: recurrent(make, "GRU"),
    "gru, reset after": lambda make: recurrent(make, "GRU", attributes=", linear_before_reset = 1"),
    "gru of an old file": lambda make: recurrent(make, "GRU", opset=9, ir_version=3),
    "rnn": lambda make: recurrent(make, "RNN"),
    "attention": attention,
    "attention without bias": lambda make: attention(make, bias=False),
    "embedding": embedding,
    "embedding by int32": lambda make: embedding(make, index="int32"),
    "embedding of float16": lambda make: embedding(make, np.float16),
}


@pytest.fixture(params=EVERY)
def case(request, make):
    return load_model(EVERY[request.param](make))


def test_a_product_in_the_open_changes_nothing(case):
    feeds = feeds_of(case, np.random.default_rng(1))
    (layer,) = case.layers
    exact = layer.kind != "embedding"
    for got, wanted in zip(results(case.working.graph, feeds), results(case.original, feeds), strict=True):
        # An embedding's table becomes two, each rounded.
        near = np.finfo(wanted.dtype).eps
        np.testing.assert_allclose(got, wanted, rtol=0, atol=0 if exact else 30 * near)
    (site,) = case.sites[layer.name]
    assert site.output in {value.name for node in case.working.graph.graph for value in node.outputs}


def test_put_back_whole_the_file_is_as_it_was(case):
    graph = rewrite(case, {})
    before, after = stored(case.original), stored(graph)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    assert [n.op_type for n in graph.graph if n.op_type != "Constant"] == [
        n.op_type for n in case.original.graph if n.op_type != "Constant"
    ]


def truncated(weight, rank, shift):
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    cores = ((u[:, :rank] * s[:rank])[None, :, None, :], v[:rank][:, None, :, None])
    return Factors(Factorization.svd(*weight.shape, rank), cores, shift, 0.0, None)


def test_at_full_rank_factors_change_nothing(case):
    (layer,) = case.layers
    weight = case.weight(layer.name)
    factors = truncated(weight, min(weight.shape), np.zeros(layer.outputs))
    feeds = feeds_of(case, np.random.default_rng(1))
    near = 30 * np.finfo(results(case.original, feeds)[0].dtype).eps
    for closed in (False, True):
        graph = rewrite(case, {layer.name: factors}, closed=closed)
        for got, wanted in zip(results(graph, feeds), results(case.original, feeds), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=near, atol=near)


def test_factors_put_back_are_those_in_the_open(case):
    (layer,) = case.layers
    rng = np.random.default_rng(2)
    factors = truncated(case.weight(layer.name), 2, rng.standard_normal(layer.outputs) / 4)
    feeds = feeds_of(case, rng)
    open_form, closed = (rewrite(case, {layer.name: factors}, closed=closed) for closed in (False, True))
    wanted = results(open_form, feeds)
    for got, other in zip(results(closed, feeds), wanted, strict=True):
        near = 30 * np.finfo(other.dtype).eps
        np.testing.assert_allclose(got, other, rtol=near, atol=near)
    # Something was lost: the comparison is not one of two originals.
    assert not np.allclose(wanted[0], results(case.original, feeds)[0], atol=1e-2)


def test_of_a_recurrent_layer_both_directions_share_the_first_factor(make):
    model = load_model(recurrent(make, "LSTM"))
    (layer,) = model.layers
    assert (layer.name, layer.kind, layer.outputs, layer.inputs) == ("rnn", "recurrent", 2 * 4 * HIDDEN, WIDE)
    made = rewrite(model, {"rnn": truncated(model.weight("rnn"), 2, np.ones(layer.outputs))})
    assert [node.op_type for node in made.graph] == ["MatMul", "LSTM"]
    shapes = {name: array.shape for name, array in stored(made).items()}
    assert sorted(shapes.values()) == sorted([(WIDE, 2), (2, 4 * HIDDEN, 2), (2, 4 * HIDDEN, HIDDEN), (2, 8 * HIDDEN)])
    assert layer.uses[0].bias and layer.bias_params == 2 * 8 * HIDDEN
    bias = stored(model.original)["rnn.B"][:, : 4 * HIDDEN].reshape(-1)
    np.testing.assert_array_equal(model.bias("rnn"), bias.astype(np.float64))
    (rest,) = model.untouched
    assert (rest.op, rest.params) == ("LSTM", 2 * 4 * HIDDEN * HIDDEN)
    assert rest.reason == "its recurrent matrix: `--layers` with `state` explores it"


def test_an_embedding_counts_its_table_and_no_flops(make):
    model = load_model(embedding(make))
    (layer,) = model.layers
    assert (layer.name, layer.kind, layer.params, layer.flops, layer.outputs) == ("words", "embedding", 120, 0, 6)
    made = rewrite(model, {"words": truncated(model.weight("words"), 2, None)})
    assert [node.op_type for node in made.graph] == ["Gather", "MatMul"]
    assert sorted(array.shape for array in stored(made).values()) == [(2, 6), (20, 2)]


def test_several_lookups_of_one_table_share_its_factors(make):
    text = """g (int64[n] i, int64[n] j) => (float[n, 6] y, float[n, 6] z)
        { y = Gather (words, i)  z = Gather (words, j) }"""
    table = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    model = load_model(make(text, {"words": table}))
    (layer,) = model.layers
    assert len(layer.uses) == 2
    whole, parts = rewrite(model, {}), rewrite(model, {"words": truncated(model.weight("words"), 2, None)})
    assert [array.shape for array in stored(whole).values()] == [(20, 6)]
    assert sorted(array.shape for array in stored(parts).values()) == [(2, 6), (20, 2)]


@pytest.mark.parametrize(
    ("text", "op", "reason"),
    [
        (
            "g (int64[n] i) => (float[n, 6] y) { e = Gather (t, i)  v = Transpose (t)  a = MatMul (e, w) "
            " b = MatMul (a, v)  y = Slice (b, zero, six, one) }",
            "Gather",
            "its weight 't' is also read by MatMul 'b'",
        ),
        (
            "g (int64[n] i) => (float[n, 6] y) { e = Gather <axis = 1> (t, i)  f = Transpose (e)  g = MatMul (x0, f) "
            " y = MatMul (p, w) }",
            "Gather",
            "an embedding",
        ),
    ],
)
def test_tables_that_stay_have_a_true_reason(make, text, op, reason):
    rng = np.random.default_rng(0)
    arrays = {"t": rng.standard_normal((20, 6)).astype(np.float32), "w": rng.standard_normal((6, 6)).astype(np.float32)}
    if "x0" in text:
        text = (
            "g (int64[n] i, float[n, 6] p) => (float[n, 6] y, float[20, n] e) "
            "{ e = Gather <axis = 1> (t, i)  y = MatMul (p, w) }"
        )
    integers = {"zero": np.array([0]), "six": np.array([6]), "one": np.array([1])} if "zero" in text else {}
    model = load_model(make(text, arrays | integers))
    assert [layer.name for layer in model.layers] == ["w"]
    assert [entry.reason for entry in model.untouched if entry.op == op] == [reason]


def test_a_matrix_that_two_cells_share_is_one_layer(make):
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((1, 4 * WIDE, WIDE)).astype(np.float32),
        "r": rng.standard_normal((1, 4 * WIDE, WIDE)).astype(np.float32),
    }
    text = f"""g (float[t, n, {WIDE}] x) => (float[t, 1, n, {WIDE}] y) {{
        a = LSTM <hidden_size = {WIDE}> (x, w, r)  b = Squeeze (a, one)  y = LSTM <hidden_size = {WIDE}> (b, w, r) }}"""
    model = load_model(make(text, arrays | {"one": np.array([1])}), {"x": (4, 3, WIDE)})
    (layer,) = model.layers
    assert [use.rows for use in layer.uses] == [12, 12]
    feeds = {"x": rng.standard_normal((4, 3, WIDE)).astype(np.float32)}
    np.testing.assert_array_equal(results(rewrite(model, {}), feeds)[0], results(model.original, feeds)[0])
    made = rewrite(model, {layer.name: truncated(model.weight(layer.name), 2, np.zeros(layer.outputs))})
    wide = [array.shape for array in stored(made).values() if array.shape[-1] == 2]
    assert sorted(wide) == [(1, 4 * WIDE, 2), (WIDE, 2)]


@pytest.mark.parametrize("bias", ["Unsqueeze (bs, zero)", "Mul (twice, computed)"])
def test_an_lstm_whose_gates_are_put_in_order_in_the_graph_is_one_layer(make, bias):
    # As PyTorch exports one where nothing folds constants; the second bias hangs on an input.
    rng, half = np.random.default_rng(0), 2 * HIDDEN
    arrays = {
        "w": rng.standard_normal((2 * half, WIDE)).astype(np.float32),
        "r": rng.standard_normal((2 * half, HIDDEN)).astype(np.float32),
        "b": rng.standard_normal(4 * half).astype(np.float32),
        "twice": rng.standard_normal((1, 4 * half)).astype(np.float32),
    }
    ends = {"zero": [0], "middle": [half], "end": [2 * half], "last": [2**31]}
    numbers = {name: np.array(value) for name, value in ends.items()}
    turned = "".join(
        f"{name}1 = Slice ({name}, zero, middle, zero)  {name}2 = Slice ({name}, middle, {end}, zero)  "
        f"{name}s = Concat <axis = 0> ({name}2, {name}1)  "
        for name, end in (("w", "end"), ("r", "last"), ("b", "last"))
    )
    text = f"""g (float[t, n, {WIDE}] x, float[1] k) => (float[t, 1, n, {HIDDEN}] y) {{ {turned}
        wu = Unsqueeze (ws, zero)  ru = Unsqueeze (rs, zero)  computed = Relu (k)  bu = {bias}
        y = LSTM <hidden_size = {HIDDEN}> (x, wu, ru, bu) }}"""
    model = load_model(make(text, arrays, numbers), {"x": (4, 1, WIDE)})
    (layer,) = model.layers
    np.testing.assert_array_equal(model.weight(layer.name), np.roll(arrays["w"], half, axis=0))
    feeds = {"x": rng.standard_normal((4, 3, WIDE)).astype(np.float32), "k": np.array([0.5], np.float32)}
    np.testing.assert_array_equal(results(rewrite(model, {}), feeds)[0], results(model.original, feeds)[0])
    factors = truncated(model.weight(layer.name), 2, rng.standard_normal(layer.outputs) / 4)
    opened_, closed = (rewrite(model, {layer.name: factors}, closed=closed) for closed in (False, True))
    np.testing.assert_allclose(results(closed, feeds)[0], results(opened_, feeds)[0], rtol=0, atol=1e-5)
    assert not np.allclose(results(closed, feeds)[0], results(model.original, feeds)[0], atol=1e-2)


def test_an_lstm_whose_matrices_and_biases_are_put_together_in_the_graph_is_one_layer(make):
    rng, names = np.random.default_rng(0), [f"w{k}" for k in range(4)]
    arrays = {name: rng.standard_normal((HIDDEN, WIDE)).astype(np.float32) for name in names}
    arrays |= {name: rng.standard_normal(4 * HIDDEN).astype(np.float32) for name in ("b1", "b2")}
    arrays["r"] = rng.standard_normal((1, 4 * HIDDEN, HIDDEN)).astype(np.float32)
    text = f"""g (float[t, n, {WIDE}] x) => (float[t, 1, n, {HIDDEN}] y) {{
        ws = Concat <axis = 0> ({", ".join(names)})  wu = Unsqueeze (ws, zero)
        bs = Concat <axis = -1> (b1, b2)  bu = Unsqueeze (bs, zero)
        y = LSTM <hidden_size = {HIDDEN}> (x, wu, r, bu) }}"""
    model = load_model(make(text, arrays | {"zero": np.array([0])}), {"x": (4, 1, WIDE)}, ("recurrent", "state"))
    assert [layer.kind for layer in model.layers] == ["recurrent", "state"]
    layer = model.layers[0]
    np.testing.assert_array_equal(model.weight(layer.name), np.concatenate([arrays[name] for name in names]))
    feeds = {"x": rng.standard_normal((4, 3, WIDE)).astype(np.float32)}
    np.testing.assert_allclose(
        results(rewrite(model, {}), feeds)[0], results(model.original, feeds)[0], rtol=0, atol=1e-6
    )
    factors = truncated(model.weight(layer.name), 2, np.zeros(layer.outputs))
    opened_, closed = (rewrite(model, {layer.name: factors}, closed=closed) for closed in (False, True))
    np.testing.assert_allclose(results(closed, feeds)[0], results(opened_, feeds)[0], rtol=0, atol=1e-5)


def test_parts_of_two_types_are_left_where_they_are(make):
    rng = np.random.default_rng(0)
    arrays = {"a": rng.standard_normal((6, 4)).astype(np.float32), "b": rng.standard_normal((6, 4)).astype(np.float16)}
    text = """g (float[n, 12] x) => (float[n, 4] y) {
        c = Cast <to = 1> (b)  w = Concat <axis = 0> (a, c)  y = MatMul (x, w) }"""
    with pytest.raises(InputError, match="no fully-connected layer"):
        load_model(make(text, arrays))


def test_only_the_kinds_asked_for_are_opened(make):
    path = make(
        "g (int64[n] i) => (float[n, 6] y) { e = Gather (t, i)  y = MatMul (e, w) }",
        {"t": np.ones((20, 6), np.float32), "w": np.eye(6, dtype=np.float32)},
    )
    model = load_model(path, kinds=("fc",))
    assert model.working.graph is model.original
    assert [layer.name for layer in model.layers] == ["w"]


def test_a_model_with_products_in_the_open_can_be_sent_to_workers(make):
    model = load_model(recurrent(make, "GRU"))
    copy = pickle.loads(pickle.dumps(model))
    assert copy.layers == model.layers
    assert ir.to_proto(copy.working.graph).SerializeToString() == ir.to_proto(model.working.graph).SerializeToString()


def test_factors_beyond_half_precision_are_an_error_of_the_plan(make):
    model = load_model(embedding(make, np.float16))
    rows, _ = split_table(stored(model.original)["words"])
    largest = rows[np.abs(rows).sum(axis=1).argmax()]
    # Each factor is within the range of half precision, but not the row that the first makes of this one.
    cores = np.full((1, 6, 1, 1), 1e-4), 6e4 * np.sign(largest).reshape(1, 1, 6, 1)
    huge = Factors(Factorization.svd(6, 6, 1), cores, None, 0.0, None)
    with pytest.raises(PlanError, match="table 'words' leave the range"):
        rewrite(model, {"words": huge})


def test_a_table_is_split_into_its_polar_factors():
    rng = np.random.default_rng(0)
    low = rng.standard_normal((30, 2)) @ rng.standard_normal((2, 5))
    for table in (rng.standard_normal((30, 5)), rng.standard_normal((3, 5)), low, np.zeros((4, 3))):
        rows, matrix = split_table(table)
        np.testing.assert_allclose(rows @ matrix, table, atol=1e-12)
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
        values = np.linalg.svd(table, compute_uv=False)
        found = np.sort(np.linalg.eigvalsh(matrix))[::-1][: len(values)]
        np.testing.assert_allclose(found, values if table.any() else np.ones(3), atol=1e-6)
    rows, _ = split_table(rng.standard_normal((30, 5)))
    np.testing.assert_allclose(rows.T @ rows, np.eye(5), atol=1e-12)


def test_what_is_not_there_cannot_be_put_back(make):
    model = load_model(recurrent(make, "LSTM"))
    graph, taking = opened(model.original, CARRIERS)
    products, refused = taking.opened, taking.refused
    assert graph is not model.original and not refused
    closed = ir.passes.functionalize(CloseProducts(products))(graph).model
    with pytest.raises(ir.passes.PreconditionError, match="has no product"):
        CloseProducts(products)(closed)
