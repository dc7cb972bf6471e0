"""Models with quantizing nodes: which products become those of whole numbers, and what they give."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto

from lrfdse.ir.products import FullyConnected
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct, Rounding
from lrfdse.model.runtime import Runtime, as_written
from lrfdse.program.lower import program
from tests.program.interpreter import run
from tests.program.models import Graph, feeds_of


def rounded(g: Graph, x: str, scale: float, zero: int = 0, element: type = np.int8) -> str:
    """Return a tensor that is quantized and dequantized."""
    how = g.number(scale), g.constant(np.array(zero, element))
    return g.op("DequantizeLinear", g.op("QuantizeLinear", x, *how), *how)


def weight(g: Graph, *shape: int, axis: int = 0, zero: int = 0, element: type = np.int8) -> str:
    """Return int8 weights with a scale for each position along an axis."""
    bounds = np.iinfo(element)
    levels = g.constant(g.rng.integers(bounds.min, bounds.max, shape, element, endpoint=True))
    scales = g.constant(g.rng.uniform(1e-3, 3e-3, shape[axis]).astype(np.float32))
    return g.op("DequantizeLinear", levels, scales, g.constant(np.full(shape[axis], zero, element)), axis=axis)


def bias(g: Graph, size: int) -> str:
    levels = g.constant(g.rng.integers(-9999, 9999, size, np.int32))
    return g.op("DequantizeLinear", levels, g.number(1e-4), g.constant(np.array(0, np.int32)))


def compared(model, step):
    """Return the program after its outputs were compared: equal, or one step off where rounding decides."""
    feeds = feeds_of(model)
    runtime = Runtime()
    want = runtime.call(as_written(serialized(model)), feeds)
    made = program(model)
    for name, array in run(made, feeds).items():
        apart = np.abs(array.astype(np.float64) - want[name].astype(np.float64)) / step
        assert apart.max() < 1.01 and (apart > 1e-2).mean() < 0.02, apart.max()
    return made


def serialized(model) -> bytes:
    import onnx_ir as ir

    return ir.to_proto(model).SerializeToString()


def kinds(made):
    return dict(Counter(type(call.operator).__name__ for call in made.calls))


def test_a_chain_of_layers_is_of_whole_numbers_and_nothing_between_them_is_rounded_twice():
    g = Graph()
    x = rounded(g, g.input("x", [3, 40]), 0.02, -3)
    h = g.op("Relu", g.op("Gemm", x, weight(g, 30, 40), bias(g, 30), transB=1))
    h = rounded(g, h, 0.03, -128)
    h = g.op("Add", g.op("MatMul", h, weight(g, 30, 8, axis=1)), bias(g, 8))
    made = compared(g.model(rounded(g, h, 0.05)), 0.05)
    assert [type(call.operator) for call in made.calls] == [QuantizedProduct] * 2
    first, second = (call.operator for call in made.calls)
    assert (first.rounding, second.rounding) == tuple(
        Rounding(float(np.float32(s)), least) for s, least in ((0.02, -125), (0.03, 0))
    )
    stored = [made.constants[call.arguments[1]].dtype for call in made.calls]
    assert stored == [np.int8] * 2


def test_convolutions_are_of_whole_numbers_too():
    g = Graph()
    x = rounded(g, g.input("x", [2, 5, 8, 8]), 0.02, 128, np.uint8)
    h = g.op("Relu", g.op("Conv", x, weight(g, 12, 5, 3, 3), bias(g, 12), pads=[1] * 4, strides=[2, 2]))
    h = g.op("Conv", rounded(g, h, 0.02, 0, np.uint8), weight(g, 6, 12, 1, 1))
    h = rounded(g, g.op("GlobalAveragePool", h), 0.01)
    made = compared(g.model(g.op("Gemm", g.op("Flatten", h), weight(g, 4, 6), transB=1)), 0.01)
    assert kinds(made) == {"Copy": 1, "QuantizedConvolution": 1, "QuantizedProduct": 2, "Reduction": 1}


def test_levels_that_others_read_are_made():
    g = Graph()
    x = g.input("x", [2, 16])
    h = rounded(g, g.op("Gemm", rounded(g, x, 0.02), weight(g, 16, 16), transB=1), 0.03)
    made = compared(g.model(g.op("Softmax", g.op("Add", h, x), axis=-1)), 0.03)
    assert kinds(made) == {"QuantizedProduct": 1, "Softmax": 1}
    assert [each.function for each in made.calls[0].operator.epilogue.instructions][:3] == ["mul", "mul", "round"]
    h = g.op("QuantizeLinear", h, g.number(0.03), g.constant(np.array(0, np.int8)))
    made = compared(g.model(h, element=TensorProto.INT8), 1)
    assert kinds(made) == {"QuantizedProduct": 1, "Foreign": 1}


@pytest.mark.parametrize("turned", [False, True])
def test_weights_alone_stay_int8(turned):
    g = Graph()
    x = g.input("x", [3, 20])
    y = (
        g.op("Gemm", x, weight(g, 7, 20), bias(g, 7), transB=1)
        if turned
        else g.op("MatMul", x, weight(g, 20, 7, axis=1))
    )
    made = compared(g.model(y), 1e-3)
    (call,) = made.calls
    assert isinstance(call.operator, FullyConnected) and call.operator.weight == "int8"
    assert made.constants[call.arguments[1]].dtype == np.int8


OTHERS = {
    "a scale for each input": lambda g, x: g.op("MatMul", rounded(g, x, 0.02), weight(g, 16, 8, axis=0)),
    "a zero point": lambda g, x: g.op("MatMul", rounded(g, x, 0.02), weight(g, 16, 8, axis=1, zero=5)),
    "int16 inputs": lambda g, x: g.op(
        "MatMul", rounded(g, x, 0.001, 0, np.int16), weight(g, 16, 8, axis=1, element=np.int16)
    ),
    "another scale back": lambda g, x: g.op(
        "MatMul",
        g.op("DequantizeLinear", g.op("QuantizeLinear", x, g.number(0.02)), g.number(0.03)),
        weight(g, 16, 8, axis=1),
    ),
    "turned between": lambda g, x: g.op("MatMul", turned_levels(g, x), weight(g, 16, 8, axis=1)),
}


def turned_levels(g, x):
    how = g.number(0.02), g.constant(np.array(0, np.int8))
    return g.op("DequantizeLinear", g.op("Transpose", g.op("QuantizeLinear", x, *how), perm=[1, 0]), *how)


@pytest.mark.parametrize("form", OTHERS)
def test_what_has_no_form_in_whole_numbers_is_of_floats(form):
    g = Graph(opset=21)
    made = compared(g.model(OTHERS[form](g, g.input("x", [16, 16]))), 1e-2)
    assert not {"QuantizedProduct", "QuantizedConvolution"} & set(kinds(made))
    assert any(isinstance(call.operator, FullyConnected) for call in made.calls)


def test_grouped_and_many_channelled_convolutions():
    g = Graph()
    x = rounded(g, g.input("x", [1, 8, 6, 6]), 0.02)
    y = g.op("Conv", x, weight(g, 8, 1, 3, 3), group=8)
    made = compared(g.model(y), 1e-2)
    assert not any(isinstance(call.operator, QuantizedConvolution) for call in made.calls)
