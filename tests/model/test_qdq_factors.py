"""Factors whose inputs are rounded as nodes of a model, run by onnxruntime and as programs, against whole numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.base.events import silent
from lrfdse.base.store import Store
from lrfdse.factorize.fit import Fitter
from lrfdse.formats.onnx import file_content, serialized
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors, Moments
from lrfdse.ir.quantized import QuantizedProduct
from lrfdse.ir.storage import QDQ
from lrfdse.library.build import LibraryOptions, library_of
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime, as_written
from lrfdse.program.lower import program
from lrfdse.targets.catalog import load_target
from tests.plugins.whole_numbers import chain_of
from tests.program.interpreter import run

OUTPUTS, INPUTS, ROWS = 22, 29, 64
SHAPES = ("dense", "svd:r=6", "tt:m=1x22,n=29x1,r=6,lr")


def written(path, op, element=TensorProto.FLOAT):
    """Return the weight and the bias of a model of one layer, written to a file."""
    rng, kind = np.random.default_rng(0), helper.tensor_dtype_to_np_dtype(element)
    weight, bias = (rng.standard_normal(size).astype(kind) for size in ((OUTPUTS, INPUTS), OUTPUTS))
    sizes = [["n", INPUTS], ["n", OUTPUTS]]
    stored = weight
    if op == "Gemm":
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    elif op == "columns":
        nodes = [helper.make_node("MatMul", ["w", "x"], ["p"]), helper.make_node("Add", ["p", "c"], ["y"])]
        sizes = [[1, INPUTS, ROWS], [1, OUTPUTS, ROWS]]
    else:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
        stored = np.ascontiguousarray(weight.T)
    ports = [helper.make_tensor_value_info(*each) for each in (("x", element, sizes[0]), ("y", element, sizes[1]))]
    tensors = [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(bias, "b")]
    tensors[1:] = [numpy_helper.from_array(bias[:, None], "c")] if op == "columns" else tensors[1:]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return weight.astype(np.float64), bias.astype(np.float64)


def fitted(weight: np.ndarray, text: str) -> tuple[Factors, np.ndarray]:
    """Return factors of a weight, and rows some of which lie beyond what their ranges are taken from."""
    rows = np.random.default_rng(1).standard_normal((ROWS, INPUTS)).astype(np.float32)
    exact = rows.astype(np.float64)
    seen = Moments(ROWS, exact.mean(axis=0), exact.T @ exact / ROWS, rows=rows)
    return Fitter(weight, seen).fit(Factorization.parse(text, *weight.shape), QDQ), 1.2 * rows


def agree(found: np.ndarray, wanted: np.ndarray, factors: Factors, fine: float) -> None:
    """Hold outputs against whole numbers: a last bit may move what lies between two levels to the other one."""
    (*_, last), rounding = factors.int8_matrices(), factors.roundings[-1]
    level = rounding.scale * np.abs(last.dense()).max()
    apart = np.abs(found - wanted)
    assert apart.max() < 1.01 * level + fine * np.abs(wanted).max()
    off = (apart > fine * np.abs(wanted).max()).any(axis=1).mean()
    assert off <= (0.05 if len(factors.cores) > 1 else 0.0)


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize("op", ["Gemm", "MatMul", "columns"])
def test_the_model_and_its_program_give_what_whole_numbers_give(tmp_path, text, op):
    weight, bias = written(tmp_path / "net.onnx", op)
    factors, rows = fitted(weight, text)
    model = load_model(tmp_path / "net.onnx")
    (layer,) = model.layers
    made = rewrite(model, {layer.name: factors})
    wanted = chain_of(factors, rows) + bias + factors.bias_shift
    feeds = {"x": np.ascontiguousarray(rows.T)[None] if op == "columns" else rows}
    found = Runtime().call(as_written(serialized(made)), feeds)["y"]
    agree(found[0].T if op == "columns" else found, wanted, factors, 2e-6)
    proto = onnx.ModelProto.FromString(file_content(made))
    onnx.checker.check_model(proto, full_check=True)
    steps = len(factors.cores)
    assert [node.op_type for node in proto.graph.node].count("QuantizeLinear") == steps
    assert {each.key: each.value for each in proto.metadata_props}[f"lrfdse.{layer.name}"] == f"{text}@qdq"
    lowered = program(made, {} if op == "columns" else {"x": rows.shape})
    # What lies along columns is no row of 8-bit numbers that follow each other, and such layers are not offered it.
    products = [isinstance(call.operator, QuantizedProduct) for call in lowered.calls]
    assert sum(products) == (0 if op == "columns" else steps)
    again = run(lowered, feeds)["y"]
    agree(again[0].T if op == "columns" else again, wanted, factors, 1e-6)


def test_half_precision_is_left_around_the_product(tmp_path):
    weight, bias = written(tmp_path / "net.onnx", "MatMul", TensorProto.FLOAT16)
    factors, rows = fitted(weight, "dense")
    model = load_model(tmp_path / "net.onnx")
    made = rewrite(model, {model.layers[0].name: factors})
    half = rows.astype(np.float16)
    found = Runtime().call(as_written(serialized(made)), {"x": half})["y"]
    assert found.dtype == np.float16
    wanted = chain_of(factors, half) + bias + factors.bias_shift
    np.testing.assert_allclose(found, wanted, atol=4e-3 * np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["riscv64", "aarch64-a55", "host"])
def test_its_library_multiplies_whole_numbers_on_every_kind_of_target(tmp_path, target):
    weight, _ = written(tmp_path / "net.onnx", "Gemm")
    factors, _ = fitted(weight, "svd:r=6")
    model, path = load_model(tmp_path / "net.onnx"), tmp_path / "qdq.onnx"
    path.write_bytes(file_content(rewrite(model, {model.layers[0].name: factors})))
    options = LibraryOptions(meter="none", shape={"x": (3, INPUTS)})
    made = library_of(path, load_target(target), options, Store(tmp_path / "cache"), silent)
    kinds = [each.kind for each in made.facts.operators]
    assert [kind.startswith("QuantizedProduct") for kind in kinds] == [True, True], kinds
    assert made.facts.max_error is not None and made.facts.max_error < 1e-6
    # Of the bytes that a choice is said to have none is missing; tiles and alignment fill up the rest, and with VNNI
    # a number for each output.
    dot = load_target(target).dot
    most = 3 if dot is not None and dot.element == "uint8" else 2
    assert factors.choice.bytes + 4 * OUTPUTS <= made.facts.weight_bytes < most * factors.choice.bytes
