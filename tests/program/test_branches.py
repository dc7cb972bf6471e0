"""Ifs as programs: both branches are computed, whatever is fed, and onnxruntime's one result comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lrfdse.errors import InputError
from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from tests.program.interpreter import run

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]>'

CHOICE = """choice (float[1, 6] x, bool go) => (float[1, 4] y, float[1, 4] z)
    {{ h = Relu (x)
       y, k = If (go) <
         then_branch = yes () => (float[1, 4] a, float[1, 4] b) {{ p = MatMul (h, w1)  a = Tanh (p)  b = Neg (p) }},
         else_branch = no () => (float[1, 4] a, float[1, 4] c)
           {{ p = MatMul (x, w2)  a = Sigmoid (p)  c = Identity (a) }}>
       z = Add (k, y) }}"""

NESTED = """nested (float[1, 6] x, bool go, bool on) => (float[1, 4] y)
    {{ y = If (go) <
         then_branch = yes () => (float[1, 4] a) {{ a = If (on) <
             then_branch = yes () => (float[1, 4] q) {{ q = MatMul (x, w1) }},
             else_branch = no () => (float[1, 4] q) {{ q = MatMul (x, w2) }}> }},
         else_branch = no () => (float[1, 4] a) {{ p = MatMul (x, w1)  a = Abs (p) }}> }}"""

COMPUTED = """computed (float[1, 6] x) => (float[1, 4] y)
    {{ s = ReduceSum <keepdims = 1> (x)  half = Constant <value_float = 0.0> ()  go = Greater (s, half)
       y = If (go) <
         then_branch = yes () => (float[1, 4] a) {{ a = MatMul (x, w1) }},
         else_branch = no () => (float[1, 4] a) {{ a = MatMul (x, w2) }}> }}"""

OTHER_SIZES = """other (float[1, 6] x, bool go) => (float[1, n] y)
    {{ y = If (go) <
         then_branch = yes () => (float[1, 4] a) {{ a = MatMul (x, w1) }},
         else_branch = no () => (float[1, 6] b) {{ b = Neg (x) }}> }}"""


def parsed(text, opset=17):
    model = onnx.parser.parse_model(f"{HEAD.format(opset=opset)} {text.format()}")
    rng = np.random.default_rng(7)
    for name in ("w1", "w2"):
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal((6, 4)).astype(np.float32), name))
    return ir.from_proto(model)


@pytest.mark.parametrize("text", [CHOICE, NESTED, COMPUTED])
@pytest.mark.parametrize("opset", [11, 17])
def test_either_result_is_onnxruntimes(text, opset):
    model = parsed(text, opset)
    made, runtime, rng = program(model), Runtime(), np.random.default_rng(8)
    session = runtime.session(model)
    flags = [name for name in ("go", "on") if name in {value.name for value in model.graph.inputs}]
    seen = set()
    for number in range(8):
        feeds = {"x": rng.standard_normal((1, 6)).astype(np.float32)}
        feeds |= {name: np.array(bool(number >> place & 1)) for place, name in enumerate(flags)}
        wanted = runtime.call(session, feeds)
        for name, array in run(made, feeds).items():
            np.testing.assert_allclose(array, wanted[name], rtol=0, atol=1e-6 * np.abs(wanted[name]).max())
        seen.add(tuple(np.sign(wanted["y"]).ravel()))
    assert len(seen) > 1


def test_both_branches_are_computed():
    products = [call for call in program(parsed(CHOICE)).calls if type(call.operator).__name__ == "FullyConnected"]
    assert len(products) == 2


def test_branches_of_other_sizes_are_refused():
    with pytest.raises(InputError, match=r"^m\.onnx: these operators cannot be compiled: If \(its branches give") as it:
        program(parsed(OTHER_SIZES), path=Path("m.onnx"))
    assert "results of other sizes" in str(it.value)
