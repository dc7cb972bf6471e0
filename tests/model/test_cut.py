"""Passes on models, in ONNX text: what goes in and what comes out."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.printer
import onnx.reference
import onnx_ir as ir
import pytest

from lrfdse.formats.onnx import serialized
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.model.graph import load_model
from lrfdse.model.passes.cut import PROBE, Behind, Expose, ReadOut, behind, exposed, read_out
from lrfdse.model.passes.factor import ReplaceLayers, rewrite
from lrfdse.model.runtime import Runtime

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

TWO_ENDS = """g (float[n, 3] x, float[n, 3] z) => (float[n, 3] y, float[n, 3] q)
    <float[3] c = {1, 2, 3}, float[3] d = {4, 5, 6}>
    { a = Add (x, c)  b = Relu (a)  y = Add (b, z)  e = Mul (z, d)  q = Mul (e, b) }"""

BRANCHES = """g (float[n, 3] x, bool t) => (float[n, 3] y)
    <float[3] c = {1, 2, 3}, float[3] d = {4, 5, 6}>
    { a = Add (x, c)  b = Mul (x, d)  e = Relu (b)
      y = If (t) <
        then_branch = yes () => (float[n, 3] p) { p = Add (a, b) },
        else_branch = no () => (float[n, 3] r) { r = Identity (a) }> }"""


def parsed(text):
    return ir.from_proto(onnx.parser.parse_model(f"{HEAD} {text}"))


def graph_text(model):
    """Return a graph as ONNX text, without what text cannot say: names of nodes, types of values within."""
    proto = model if isinstance(model, onnx.ModelProto) else onnx.ModelProto.FromString(serialized(model))
    graphs = [proto.graph]
    for graph in graphs:
        del graph.value_info[:]
        for node in graph.node:
            node.name = ""
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return onnx.printer.to_text(proto)


def check(before, made, after):
    """Compare a function's result with what is wanted, and what it was given with what it was."""
    assert graph_text(made) == graph_text(onnx.parser.parse_model(f"{HEAD} {after}"))
    Runtime().session(made)
    text, model = before
    assert graph_text(model) == graph_text(onnx.parser.parse_model(f"{HEAD} {text}"))
    stored = model.graph.initializers
    for name, value in made.graph.initializers.items():
        assert name not in stored or value.const_value is stored[name].const_value, "tensors are shared, not copied"


CLONED = {
    "a function": """g (float[n, 3] x) => (float[n, 3] y) { a = my.twice (x)  y = Relu (a) }
        <domain: "my", opset_import: ["" : 17]> twice (u) => (v) { w = Identity (u)  v = Add (u, w) }""",
    "a body that reads values around it": """g (float[n, 3] x, int64 k, bool c) => (float[n, 3] y)
        <float[3] w = {1, 2, 3}>
        { b = Relu (x)
          y = Loop (k, c, x) <body = l (int64 i, bool d, float[n, 3] s) => (bool e, float[n, 3] q)
            { e = Identity (d)  p = Add (s, b)  q = Mul (p, w) }> }""",
    "an input left out": "g (float[n, 3] x) => (float[n, 3] y) <float hi = {0.5}> { y = Clip (x, , hi) }",
    "an output that nothing reads": "g (float[n, 3] x) => (float[n, 3] y) <float r = {0}> { y, m = Dropout (x, r) }",
    "branches": BRANCHES,
}


@pytest.mark.parametrize("text", CLONED.values(), ids=CLONED)
def test_clones_are_written_as_what_they_were_made_from(text):
    """What passes rest on: a clone holds all that its model does, and what happens to it stays with it."""
    model = ir.from_proto(onnx.parser.parse_model(HEAD.replace("17]", '17, "my" : 1]') + text))
    before, clone = serialized(model), model.clone()
    assert serialized(clone) == before
    x = np.array([[-1.0, 0.25, 2.0]], np.float32)
    feeds = {"x": x, "k": np.array(2), "c": np.array(True), "t": np.array(True)}
    feeds = {value.name: feeds[value.name] for value in model.graph.inputs}
    wanted = onnx.reference.ReferenceEvaluator(onnx.load_from_string(before)).run(None, feeds)
    np.testing.assert_allclose(Runtime().call(Runtime().session(clone), feeds)["y"], wanted[0])
    Behind("y", ["y"], np.dtype(np.float32))(clone)
    assert serialized(model) == before != serialized(clone)


@pytest.mark.parametrize(
    ("text", "names", "after"),
    [
        (
            TWO_ENDS,
            ["b"],
            "g (float[n, 3] x, float[n, 3] z) => (b) <float[3] c = {1, 2, 3}> { a = Add (x, c)  b = Relu (a) }",
        ),
        (
            TWO_ENDS,
            ["q", "x", "e"],
            """g (float[n, 3] x, float[n, 3] z) => (float[n, 3] q, float[n, 3] x, e)
            <float[3] c = {1, 2, 3}, float[3] d = {4, 5, 6}>
            { a = Add (x, c)  b = Relu (a)  e = Mul (z, d)  q = Mul (e, b) }""",
        ),
        (
            BRANCHES,
            ["y"],
            """g (float[n, 3] x, bool t) => (float[n, 3] y)
            <float[3] c = {1, 2, 3}, float[3] d = {4, 5, 6}>
            { a = Add (x, c)  b = Mul (x, d)
              y = If (t) <
                then_branch = yes () => (float[n, 3] p) { p = Add (a, b) },
                else_branch = no () => (float[n, 3] r) { r = Identity (a) }> }""",
        ),
    ],
)
def test_read_out(text, names, after):
    model = parsed(text)
    check((text, model), read_out(model, names), after)


def test_exposed():
    model = parsed(TWO_ENDS)
    after = TWO_ENDS.replace("float[n, 3] q)", "float[n, 3] q, e, a)")
    check((TWO_ENDS, model), exposed(model, ["e", "y", "x", "a", "e"]), after)


@pytest.mark.parametrize(
    ("name", "output", "after"),
    [
        ("b", "y", 'g (float[n, 3] z, float[] "lrfdse.probe") => (float[n, 3] y) { y = Add ("lrfdse.probe", z) }'),
        (
            "b",
            "q",
            """g (float[n, 3] z, float[] "lrfdse.probe") => (float[n, 3] q) <float[3] d = {4, 5, 6}>
            { e = Mul (z, d)  q = Mul (e, "lrfdse.probe") }""",
        ),
    ],
)
def test_behind(name, output, after):
    assert PROBE == "lrfdse.probe"
    model = parsed(TWO_ENDS)
    check((TWO_ENDS, model), behind(model, name, [output], np.dtype(np.float32)), after)


def test_behind_a_value_that_a_branch_reads():
    model = parsed(BRANCHES)
    after = """g (float[n, 3] x, bool t, float[] "lrfdse.probe") => (float[n, 3] y)
        <float[3] d = {4, 5, 6}>
        { b = Mul (x, d)
          y = If (t) <
            then_branch = yes () => (float[n, 3] p) { p = Add ("lrfdse.probe", b) },
            else_branch = no () => (float[n, 3] r) { r = Identity ("lrfdse.probe") }> }"""
    check((BRANCHES, model), behind(model, "a", ["y"], np.dtype(np.float32)), after)


def test_behind_the_output_itself_there_is_nothing():
    model = parsed(TWO_ENDS)
    made = behind(model, "y", ["y"], np.dtype(np.float32))
    assert [value.name for value in made.graph.inputs] == [value.name for value in made.graph.outputs] == [PROBE]
    assert not list(made.graph) and not made.graph.initializers


@pytest.mark.parametrize("made", [ReadOut(["b"]), Expose(["b"]), Behind("b", ["y"], np.dtype(np.float32))])
def test_passes_change_the_model_that_they_are_given(made):
    model = parsed(TWO_ENDS)
    before = graph_text(model)
    result = made(model)
    assert result.model is model and result.modified and graph_text(model) != before


def test_exposing_what_is_seen_changes_nothing():
    model = parsed(TWO_ENDS)
    before = graph_text(model)
    assert not Expose(["x", "y"])(model).modified
    assert graph_text(model) == before


@pytest.mark.parametrize("made", [ReadOut(["y", "w"]), Expose(["w"]), Behind("w", ["y"], np.dtype(np.float32))])
def test_values_that_are_not_there_are_named(made):
    model = parsed(TWO_ENDS)
    before = graph_text(model)
    with pytest.raises(ir.passes.PreconditionError, match="no value 'w'"):
        made(model)
    assert graph_text(model) == before


GEMM = """g (float[n, 3] x) => (float[n, 2] y)
    <float[2, 3] w = {1, 2, 3, 2, 4, 6}, float[2] b = {1, -1}, float[2, 2] v = {1, 0, 0, 1}>
    { a = Gemm <transB = 1> (x, w, b)  h = Relu (a)  y = Gemm (h, v) }"""


def test_rewritten_layers(tmp_path):
    (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(f"{HEAD} {GEMM}").SerializeToString())
    model = load_model(tmp_path / "m.onnx")
    # W = (1, 2)^T (1, 2, 3); the bias takes the shift.
    cores = np.array([1.0, 2.0]).reshape(1, 2, 1, 1), np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    factors = {"w": Factors(Factorization.svd(2, 3, 1), cores, np.array([3.0, 5.0]), 0.0, None)}
    after = """g (float[n, 3] x) => (float[n, 2] y)
        <float[2, 2] v = {1, 0, 0, 1}, float[3, 1] "lrfdse.w.factor1" = {1, 2, 3},
         float[1, 2] "lrfdse.w.factor0" = {1, 2}, float[2] "lrfdse.w.bias.b.1.0" = {4, 4}>
        { "lrfdse.w.MatMul" = MatMul (x, "lrfdse.w.factor1")
          "lrfdse.w.MatMul.2" = MatMul ("lrfdse.w.MatMul", "lrfdse.w.factor0")
          a = Add ("lrfdse.w.MatMul.2", "lrfdse.w.bias.b.1.0")  h = Relu (a)  y = Gemm (h, v) }"""
    made = rewrite(model, factors)
    assert made.metadata_props == {"lrfdse.w": "svd:r=1"}
    assert not model.original.metadata_props
    made.metadata_props.clear()
    check((GEMM, model.original), made, after)
    with pytest.raises(ir.passes.PreconditionError, match="no value 'y', made by layer 'v'"):
        ReplaceLayers(model, {"v": factors["w"]})(read_out(model.original, ["h"]))
    with pytest.raises(ir.passes.PostconditionError, match="other inputs or outputs"):
        ReplaceLayers(model, factors)(exposed(model.original, ["h"]))
