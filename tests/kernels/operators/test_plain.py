"""Foreign nodes with loops that LLVM would take for memcpy or memset, some of them larger than what it expands."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.ir.operators import Foreign
from lrfdse.targets.catalog import load_target
from tests.plugins.operators import Case
from tests.plugins.targets import families

NODES = {
    "ArgMax": "(float[2,100] x) => (int64[100] y) { y = ArgMax <axis = 0, keepdims = 0> (x) }",
    "ArgMin": "(float[3,2,40] x) => (int64[3,1,40] y) { y = ArgMin <axis = 1> (x) }",
    "LRN": "(float[2,7,30,30] x) => (float[2,7,30,30] y) { y = LRN <size = 3> (x) }",
    "LpPool": "(float[1,2,40,300] x) => (float[1,2,41,301] y) "
    "{ y = LpPool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> (x) }",
    "MaxPool": "(uint8[1,2,30,40] x) => (uint8[1,2,32,42] y) "
    "{ y = MaxPool <kernel_shape = [3, 3], pads = [2, 2, 2, 2]> (x) }",
    "ConvTranspose": "(float[1,1,3,4,50] x) => (float[1,2,5,6,52] y) <float[1,2,3,3,3] w = {"
    + ", ".join(f"{k - 20}" for k in range(54))
    + "}> { y = ConvTranspose (x, w) }",
    "Resize": "(float[1,1,6,50] x) => (float[1,1,12,100] y) <float[4] s = {1, 1, 2, 2}> "
    '{ y = Resize <mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1> (x, , s) }',
    "Where": "(bool[300] c, float16[300] x, float16[1] z) => (float16[300] y) { y = Where(c, x, z) }",
    "Equal": "(int64[3,200] x) => (bool[3,200] y) <int64[1] z = {1000}> { y = Equal (x, z) }",
    "ReduceMax": "(int8[2,300] x) => (int8[300] y) <int64[1] a = {0}> { y = ReduceMax <keepdims = 0> (x, a) }",
    "Trilu": "(int64[40,200] x) => (int64[40,200] y) { y = Trilu <upper = 1> (x) }",
    "Sub": "(int64[200] x) => (int64[200] y) { y = Sub (x, x) }",
    "Cast": f"() => (float16[300] y) <float[300] x = {{{', '.join(['0'] * 300)}}}> {{ y = Cast <to = 10> (x) }}",
    "GridSample": "(float[1,1,6,7] x, float[1,4,5,2] g) => (float[1,1,4,5] y) "
    '{ y = GridSample <padding_mode = "reflection"> (x, g) }',
    "Floor": "(double[100] x) => (double[100] y) { y = Floor (x) }",
    "Round": "(double[100] x) => (double[100] y) { y = Round (x) }",
    "Ceil": "(float[300] x) => (float[300] y) { y = Ceil (x) }",
}


def case(name: str) -> Case:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {NODES[name]}')
    session = load_onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    arrays = []
    for value in model.graph.input:
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        drawn = rng.standard_normal(shape) if np.issubdtype(kind, np.floating) else rng.integers(0, 2, shape)
        arrays.append(drawn.astype(kind))
    names = [value.name for value in model.graph.input]
    expected = session.run(None, dict(zip(names, arrays, strict=True)))
    described = [tuple((a.size, str(a.dtype)) for a in some) for some in (arrays, expected)]
    return Case(Foreign(model.SerializeToString(), name, *described), arrays, expected)


@pytest.mark.slow
@pytest.mark.parametrize("target", families())
def test_loops_that_copy_and_fill_are_no_calls(target, check_cases):
    check_cases([case(name) for name in NODES], load_target(target))
