"""ONNX's own tests of single operators: a model becomes a program with the expected outputs, or is refused."""

from __future__ import annotations

import warnings
from collections import defaultdict

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lrfdse.errors import InputError
from lrfdse.ir.operators import Foreign
from lrfdse.program.lower import ANY, FLOAT, program
from lrfdse.program.refuse import OWN, PARAMETERS, UNKNOWN
from tests.program.interpreter import run

pytestmark = pytest.mark.slow

WEIGHTS = {"Conv": (1, 2), "ConvTranspose": (1, 2), "GRU": (1, 2, 3), "LSTM": (1, 2, 3), "STFT": (2,)}
"""Inputs that are constants in every model, and that there are operators for only then."""

OTHERS = {
    "test_maxunpool_export_with_output_shape",
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
}
"""Cases in which onnxruntime gives other numbers than ONNX. Programs give what onnxruntime gives."""


def array_of(given):
    return numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)


def with_constants(case):
    """Return the model with what is a constant in practice as one, and the names of these inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    known = {
        node.input[place]
        for node in model.graph.node
        for place in (*PARAMETERS.get(node.op_type, ()), *WEIGHTS.get(node.op_type, ()))
        if place < len(node.input)
    }
    given = [value.name for value in model.graph.input]
    constants = {
        name: array_of(array)
        for name, array in zip(given, case.data_sets[0][0], strict=False)
        if name in known and not isinstance(array, list)
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model, given, set(constants)


def check(case, made, given, constants):
    for inputs, outputs in case.data_sets:
        feeds = {name: array_of(a) for name, a in zip(given, inputs, strict=True) if name not in constants}
        for got, want in zip(run(made, feeds).values(), map(array_of, outputs), strict=True):
            assert got.shape == want.shape and got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=max(case.rtol, 1e-4), atol=max(case.atol, 1e-6))


@pytest.fixture(scope="module")
def outcomes():
    """Outcome ("own", "foreign", "refused") to operator to the cases that ended so."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found = {outcome: defaultdict(list) for outcome in ("own", "foreign", "refused")}
    wrong = []
    for case in cases:
        model, given, constants = with_constants(case)
        operator = "+".join(dict.fromkeys(node.op_type for node in model.graph.node))
        try:
            made = program(ir.from_proto(model))
        except InputError as error:
            found["refused"][operator].append((case.name, str(error)))
            continue
        try:
            check(case, made, given, constants)
        except Exception as error:
            if case.name not in OTHERS:
                wrong.append(f"{case.name}: {error}")
            continue
        foreign = any(isinstance(call.operator, Foreign) for call in made.calls)
        found["foreign" if foreign else "own"][operator].append((case.name, ""))
    assert not wrong, "\n".join(wrong)
    return found


def test_more_than_a_hundred_operators_become_programs(outcomes):
    own, foreign = ({name for name in outcomes[kind] if "+" not in name} for kind in ("own", "foreign"))
    assert len(own) >= 85 and len(own | foreign) >= 130


def test_every_rule_is_tested(outcomes):
    tested = {name for name in outcomes["own"] if "+" not in name}
    # Operators that are not ONNX's; those whose tests read further outputs, are of float64, or change the type.
    rest = {"FusedMatMul", "Normalized", "QuickGelu", "SimplifiedLayerNormalization"}
    rest |= {"LayerNormalization", "ReduceLogSumExp", "Cast", "CastLike"}
    # Rounding, of which the rules take what stands around products: see test_quantized.py.
    rest |= {"QuantizeLinear", "DequantizeLinear"}
    assert {*ANY, *FLOAT} - tested <= rest


def test_what_is_refused_says_why(outcomes):
    for cases in outcomes["refused"].values():
        for name, message in cases:
            assert "\n" not in message and message.startswith("the model: "), name
    named = {op for op, cases in outcomes["refused"].items() if any(f" {op} (" in message for _, message in cases)}
    assert {"Attention", "Compress", "Det", "If", "Loop", "LSTM", "NonZero", "RNN", "Scan", "StringConcat"} <= named


def test_what_relax_does_not_import_is_known():
    from onnx import defs
    from tvm.relax.frontend.onnx import onnx_frontend

    imported = set(onnx_frontend._get_convert_map())
    useless = {"Attention", "CumSum", "OneHot", "Scatter", "ScatterElements", "ScatterND", "TopK"}
    assert not (UNKNOWN | OWN - useless) & imported
    assert UNKNOWN.isdisjoint({*ANY, *FLOAT}) and {*ANY, *FLOAT} >= OWN
    standard = {schema.name for schema in defs.get_all_schemas() if not schema.domain}
    rest = standard - imported - UNKNOWN - OWN - {*ANY, *FLOAT}
    # Control flow and what is random are found by what they are.
    assert rest <= {"Bernoulli", "If", "Loop", "Multinomial", "Scan", "SequenceMap"} | {
        f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")
    }
