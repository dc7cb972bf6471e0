"""Layers in bodies of Loop and Scan and in branches of If: found, seen, rewritten; by onnxruntime on the original."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lrfdse.errors import InputError
from lrfdse.formats.onnx import file_content
from lrfdse.ir.factorization import Factorization
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.cut import dependent, levels, read_out
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.repair.moments import moments

H, N, T = 5, 4, 6

KINDS = ("fc", "conv", "recurrent", "embedding")


def cell(weight, state="h", memory="c"):
    """Return the text of an LSTM cell that reads `xi` and gives h2 and c2."""
    return f"""z = Concat <axis = 1> (xi, {state})  g0 = MatMul (z, {weight})  g = Add (g0, b)
        p, f, o, q = Split <axis = 1> (g, parts)
        ps = Sigmoid (p)  fs = Sigmoid (f)  os = Sigmoid (o)  qs = Tanh (q)
        kept = Mul (fs, {memory})  new = Mul (ps, qs)  c2 = Add (kept, new)  ct = Tanh (c2)  h2 = Mul (os, ct)"""


START = f"""xt = Transpose <perm = [1, 0, 2]> (x)
    s = Shape (x)  nb = Gather (s, zero)  width = Constant <value_ints = [{H}]> ()
    sh = Concat <axis = 0> (nb, width)  h0 = ConstantOfShape (sh)"""

CARRIED = f"""g (float[n, {T}, {N}] x) => (float[n, {H}] y)
    {{ {START}
    y, cl, wl = Loop (turns, go, h0, h0, w) <body = step (int64 i, bool on, float[n, {H}] h, float[n, {H}] c,
        float[{H + N}, {4 * H}] v) => (bool on2, float[n, {H}] h2, float[n, {H}] c2, float[{H + N}, {4 * H}] v2)
        {{ on2 = Identity (on)  v2 = Identity (v)  xi = Gather <axis = 0> (xt, i)  {cell("v")} }}> }}"""

OUTSIDE = CARRIED.replace(", wl = Loop (turns, go, h0, h0, w)", " = Loop (turns, go, h0, h0)")
OUTSIDE = OUTSIDE.replace(f",\n        float[{H + N}, {4 * H}] v)", ")").replace(f", float[{H + N}, {4 * H}] v2)", ")")
OUTSIDE = OUTSIDE.replace("  v2 = Identity (v)", "").replace("MatMul (z, v)", "MatMul (z, w)")

SCAN = f"""g (float[n, {T}, {N}] x) => (float[n, {H}] y)
    {{ {START}
    y, cl, all = Scan (h0, h0, xt) <num_scan_inputs = 1, body = step (float[n, {H}] h, float[n, {H}] c,
        float[n, {N}] xi) => (float[n, {H}] h2, float[n, {H}] c2, float[n, {H}] out)
        {{ {cell("w")}  out = Identity (h2) }}> }}"""

BRANCH = f"""g (float[n, {N}] x, bool t) => (float[n, {H}] y)
    {{ y = If (t) <
        then_branch = yes () => (float[n, {H}] p) {{ m = MatMul (x, w)  p = Add (m, d) }},
        else_branch = no () => (float[n, {H}] r) {{ m = MatMul (x, v)  r = Relu (m) }}> }}"""

WORDS = f"""g (int64[n, {T}] x) => (float[n, {H}] y)
    {{ xt = Transpose <perm = [1, 0]> (x)  s = Shape (x)  nb = Gather (s, zero)
    width = Constant <value_ints = [{H}]> ()  sh = Concat <axis = 0> (nb, width)  h0 = ConstantOfShape (sh)
    y = Loop (turns, go, h0) <body = step (int64 i, bool on, float[n, {H}] h) => (bool on2, float[n, {H}] h2)
        {{ on2 = Identity (on)  xi = Gather <axis = 0> (xt, i)  e = Gather (w, xi)  h2 = Add (e, h) }}> }}"""

STATES = f"""g (float[{T}, n, {N}] x, bool t) => (float[{T}, 1, n, {H}] y)
    {{ y = If (t) <
        then_branch = yes () => (float[{T}, 1, n, {H}] p) {{ p, ph = LSTM <hidden_size = {H}> (x, w, r) }},
        else_branch = no () => (float[{T}, 1, n, {H}] q) {{ q, qh = LSTM <hidden_size = {H}> (x, v, r) }}> }}"""

IMAGE = """g (float[n, 3, 8, 8] x, bool t) => (float[n, 5, 8, 8] y)
    { y = If (t) <
        then_branch = yes () => (float[n, 5, 8, 8] p) { p = Conv <pads = [1, 1, 1, 1]> (x, w) },
        else_branch = no () => (float[n, 5, 8, 8] q) { q = Conv <pads = [1, 1, 1, 1]> (x, v) }> }"""

RNG = np.random.default_rng(0)


def normal(*shape):
    return (RNG.standard_normal(shape) / np.sqrt(shape[-2 if len(shape) > 1 else 0])).astype(np.float32)


LOOP_WEIGHTS = {
    "w": normal(H + N, 4 * H),
    "b": normal(4 * H),
    "parts": np.array([H] * 4),
    "zero": np.array([0]),
    "turns": np.array(T),
    "go": np.array(True),
}

WORD_WEIGHTS = {"w": normal(30, H), "zero": np.array([0]), "turns": np.array(T), "go": np.array(True)}

CASES = {
    "carried": (CARRIED, LOOP_WEIGHTS),
    "outside": (OUTSIDE, LOOP_WEIGHTS),
    "scan": (SCAN, {name: array for name, array in LOOP_WEIGHTS.items() if name not in ("turns", "go")}),
    "branch": (BRANCH, {"w": normal(N, H), "v": normal(N, H), "d": normal(H)}),
    "words": (WORDS, WORD_WEIGHTS),
    "states": (STATES, {"w": normal(1, 4 * H, N), "v": normal(1, 4 * H, N), "r": normal(1, 4 * H, H)}),
    "image": (IMAGE, {"w": normal(5, 3, 3, 3), "v": normal(5, 3, 3, 3)}),
}

COUNT = 7


def samples(model, rng, taken=True):
    """Return what is fed for `COUNT` samples, and the data set of them."""
    feeds = {}
    for port in model.inputs:
        sizes = [COUNT if size is None else size for size in port.shape]
        if port.dtype == "bool":
            feeds[port.name] = np.array(taken)
        elif port.dtype == "int64":
            feeds[port.name] = rng.integers(0, 30, sizes)
        else:
            feeds[port.name] = rng.standard_normal(sizes).astype(port.dtype)
    return feeds


def run(content, feeds):
    runtime = Runtime()
    return runtime.call(runtime.session(content), feeds)


@pytest.mark.parametrize("ir_version", [3, 8])
@pytest.mark.parametrize("case", CASES)
def test_factors_in_bodies_are_the_original_with_their_product(make, case, ir_version, kit):
    text, weights = CASES[case]
    path = make(text, weights, ir_version=ir_version)
    model = load_model(path, kinds=KINDS)
    names = {layer.name for layer in model.layers}
    assert names == set(weights) & {"w", "v"}
    rng = np.random.default_rng(1)
    layer = model.layer("w")
    factors = kit.random_factors(rng, Factorization.svd(layer.outputs, layer.inputs, 2), layer.outputs, shift=False)
    dense = kit.reconstruct(factors, layer.outputs, layer.inputs)
    if case == "words":
        # The matrix of an embedding is that of its directions.
        (rows,) = [a for name, a in stored(model.working.graph).items() if a.shape == (30, H)]
        dense = rows.astype(np.float64) @ dense.T
    elif case == "image":
        dense = dense.reshape(5, 3, 3, 3).transpose(0, 3, 2, 1)
    elif case == "states":
        dense = dense.reshape(1, 4 * H, N)
    else:
        dense = dense.T
    other = load_model(make(text, weights | {"w": dense.astype(np.float32)}, ir_version=ir_version), kinds=KINDS)
    content = file_content(rewrite(model, {"w": factors}))
    for taken in (True, False):
        feeds = samples(model, np.random.default_rng(2), taken)
        whole = run(model.content, feeds)["y"]
        assert run(file_content(rewrite(model, {})), feeds)["y"] == pytest.approx(whole, abs=1e-6)
        wanted, found = run(other.content, feeds)["y"], run(content, feeds)["y"]
        assert found == pytest.approx(wanted, abs=1e-5)
        if case in ("branch", "states", "image") and not taken:
            assert np.array_equal(found, whole)
        else:
            assert np.abs(found - whole).max() > 1e-3, "the layer was changed"
    proto = onnx.ModelProto.FromString(content)
    left = stored(proto).get("w")
    assert left is None or left.shape != weights["w"].shape, "the matrix is not stored any more"
    written = [node.op_type for graph in graphs(proto.graph) for node in graph.node]
    before = [node.op_type for graph in graphs(model.proto.graph) for node in graph.node]
    assert written.count("Identity") <= before.count("Identity")


def stored(model):
    """Return the tensors of a model by name, those of Constant nodes and of bodies among them."""
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    found = {}
    for graph in graphs(proto.graph):
        found |= {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        made = [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].HasField("t")]
        found |= {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in made}
    return found


def graphs(graph):
    return [graph, *(g for node in graph.node for a in node.attribute if a.HasField("g") for g in graphs(a.g))]


def cell_inputs(weights, x):
    """Return what the product of the LSTM cell reads, turn by turn, worked out in NumPy."""
    h = c = np.zeros((len(x), H))
    read = []
    for turn in range(T):
        read.append(np.concatenate([x[:, turn], h], axis=1))
        p, f, o, q = np.split(read[-1] @ weights["w"].astype(np.float64) + weights["b"], 4, axis=1)
        gates = [1 / (1 + np.exp(-each)) for each in (p, f, o)]
        c = gates[1] * c + gates[0] * np.tanh(q)
        h = gates[2] * np.tanh(c)
    return np.concatenate(read)


@pytest.mark.parametrize("case", ["carried", "outside", "scan"])
def test_every_turn_of_a_loop_is_seen(make, case):
    text, weights = CASES[case]
    model = load_model(make(text, weights))
    (layer,) = model.layers
    assert [(use.rows, use.turns, use.bias) for use in layer.uses] == [(1, T, True)]
    assert layer.rows == T and layer.flops == 2 * T * (H + N) * 4 * H
    x = np.random.default_rng(3).standard_normal((COUNT, T, N)).astype(np.float32)
    rows = cell_inputs(weights, x.astype(np.float64))
    found = moments(model, Dataset({"x": x}, None))["w"]
    assert found.count == len(rows)
    assert found.mean == pytest.approx(rows.mean(axis=0), abs=1e-5)
    assert found.second == pytest.approx(rows.T @ rows / len(rows), abs=1e-5)
    again = pickle.loads(pickle.dumps(model))
    assert moments(again, Dataset({"x": x}, None))["w"].second == pytest.approx(found.second, abs=0)


def test_a_branch_is_seen_where_it_is_taken_alone(make):
    text, weights = CASES["branch"]
    model = load_model(make(text, weights))
    x = np.random.default_rng(4).standard_normal((3, COUNT, N)).astype(np.float32)
    taken = np.array([True, False, True])
    data = Dataset({"x": x[:, :1], "t": taken}, None, axes={"x": None, "t": None})
    found = moments(model, data)
    for name, which in (("w", taken), ("v", ~taken)):
        rows = x[which, 0].astype(np.float64)
        assert found[name].count == len(rows)
        assert found[name].second == pytest.approx(rows.T @ rows / len(rows), abs=1e-6)
    never = moments(model, Dataset({"x": x[:, :1], "t": np.ones(3, bool)}, None, axes={"x": None, "t": None}))
    assert never["v"].count == 0 and not never["v"].second.any()


def test_what_does_not_pair_is_left_out_of_cross_moments(make, kit):
    text = f"""g (float[n, {N}] x) => (float[n, {H}] y) <float zero = {{0}}>
        {{ m = MatMul (x, w)  total = ReduceSum <keepdims = 0> (m)  t = Greater (total, zero)
        y = If (t) <
            then_branch = yes () => (float[n, {H}] p) {{ p = MatMul (m, v) }},
            else_branch = no () => (float[n, {H}] r) {{ r = Identity (m) }}> }}"""
    weights = {"w": normal(N, H), "v": normal(H, H)}
    model = load_model(make(text, weights))
    x = np.random.default_rng(5).standard_normal((40, 1, N)).astype(np.float32)
    factors = kit.random_factors(np.random.default_rng(6), Factorization.svd(H, N, 1), H, shift=False)
    version = rewrite(model, {"w": factors}, closed=False)
    found = moments(model, Dataset({"x": x}, None, axes={"x": None}), ["v"], version=version, cross=True)["v"]
    inner = Runtime()
    sums = [
        np.concatenate([inner.call(inner.session(read_out(form, ["m"])), {"x": each})["m"] for each in x])
        for form in (model.working.graph, version)
    ]
    both = (sums[0].sum(axis=1) > 0) & (sums[1].sum(axis=1) > 0)
    assert 0 < both.sum() < min((each.sum(axis=1) > 0).sum() for each in sums)
    rows = sums[1][both].astype(np.float64)
    targets = sums[0][both].astype(np.float64) @ weights["v"]
    assert found.count == both.sum()
    cross = (targets - targets.mean(axis=0)).T @ (rows - rows.mean(axis=0)) / len(rows)
    assert found.cross == pytest.approx(cross, abs=1e-5)


@pytest.mark.parametrize("held", [True, False])
def test_an_if_that_always_takes_one_branch_is_that_branch(make, held):
    text, weights = CASES["branch"]
    text = text.replace("float[n, 4] x, bool t", "float[n, 4] x")
    model = load_model(make(text, weights | {"t": np.array(held)}))
    kinds = [node.op_type for node in model.working.graph.graph]
    assert kinds == ["MatMul", "Add" if held else "Relu", "Identity"]
    x = np.random.default_rng(7).standard_normal((COUNT, N)).astype(np.float32)
    assert np.array_equal(run(file_content(rewrite(model, {})), {"x": x})["y"], run(model.content, {"x": x})["y"])


def test_an_if_on_sizes_that_are_fixed_is_decided(make):
    text = f"""g (float[3, {N}] x) => (float[3, {H}] y) <int64 one = {{1}}, int64 wide = {{{N}}}>
        {{ s = Shape (x)  size = Gather (s, one)  t = Equal (size, wide)
        y = If (t) <
            then_branch = yes () => (float[3, {H}] p) {{ p = MatMul (x, w) }},
            else_branch = no () => (float[3, {H}] r) {{ r = MatMul (x, v) }}> }}"""
    model = load_model(make(text, {"w": normal(N, H), "v": normal(N, H)}))
    assert [layer.name for layer in model.layers] == ["w"]
    assert all(node.op_type != "If" for node in model.working.graph.graph)


def test_names_of_both_branches_are_apart(make):
    model = load_model(make(*CASES["branch"]))
    sites = [site for sites in model.sites.values() for site in sites]
    assert len({site.output for site in sites}) == len({site.source for site in sites}) == 2
    assert {site.holder for site in sites} == {"y"}


def test_what_cannot_stay_says_why(make):
    rows = f"""g (float[n, {N}] x, bool t) => (float[k, {N}] y)
        {{ y = Loop (turns, go, x) <body = step (int64 i, bool on, float[k, {N}] a) => (bool on2, float[k2, {N}] a2)
            {{ on2 = Identity (on)  m = MatMul (a, w)  a2 = Concat <axis = 0> (a, m) }}> }}"""
    branch = f"""g (float[n, {N}] x, bool t) => (float[n, {N}] y)
        {{ y = Loop (turns, go, x) <body = step (int64 i, bool on, float[n, {N}] a) => (bool on2, float[n, {N}] a2)
            {{ on2 = Identity (on)
            a2 = If (t) <
                then_branch = yes () => (float[n, {N}] p) {{ p = MatMul (a, w) }},
                else_branch = no () => (float[n, {N}] q) {{ q = Identity (a) }}> }}> }}"""
    weights = {"w": normal(N, N), "turns": np.array(3), "go": np.array(True)}
    for text, given, reason in (
        (rows, weights, "inside the body of Loop 'y', which cannot be run on random inputs"),
        (branch, weights, "in a branch of If 'a2', which one turn of Loop 'y' takes and another may not"),
        (rows, weights | {"turns": np.array(0)}, "inside the body of Loop 'y', which takes no turn on random inputs"),
    ):
        with pytest.raises(InputError, match=reason):
            load_model(make(text, given))
        more = text.replace("=> (", f"=> (float[n, {N}] z, ", 1).replace("{ y =", "{ z = MatMul (x, u)  y =")
        found = load_model(make(more, given | {"u": normal(N, N)}))
        assert [layer.name for layer in found.layers] == ["u"]
        assert [reason in each.reason for each in found.untouched] == [True]


def test_layers_of_a_body_are_ordered_and_change_what_the_loop_gives(make):
    text = f"""g (float[n, {N}] x) => (float[n, {N}] y, float[n, {N}] z)
        {{ z = MatMul (x, u)
        y = Loop (turns, go, x) <body = step (int64 i, bool on, float[n, {N}] a) => (bool on2, float[n, {N}] a2)
            {{ on2 = Identity (on)  m = MatMul (a, w)  r = Relu (m)  a2 = MatMul (r, v) }}> }}"""
    weights = {name: normal(N, N) for name in "uwv"} | {"turns": np.array(3), "go": np.array(True)}
    model = load_model(make(text, weights))
    sources = {name: [site.source for site in sites] for name, sites in model.sites.items()}
    outputs = {name: [site.output for site in sites] for name, sites in model.sites.items()}
    graph = model.working.graph
    assert levels(graph, sources, outputs) == [["u", "w"], ["v"]]
    assert dependent(graph, outputs["w"], ["y", "z"]) == ["y"]
    assert dependent(graph, outputs["u"], ["y", "z"]) == ["z"]
