"""Dense int8 with a repair as nodes of a model: run by onnxruntime, as programs and libraries, against float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.base.events import silent
from lrfdse.base.store import Store
from lrfdse.deploy.chains import products
from lrfdse.errors import InputError
from lrfdse.factorize.fit import Fitter
from lrfdse.formats.onnx import file_content, serialized
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors, Moments
from lrfdse.ir.storage import INT8
from lrfdse.library.build import LibraryOptions, library_of
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.passes.int8 import int8_sites
from lrfdse.model.runtime import Runtime, as_written
from lrfdse.program.lower import program
from lrfdse.targets.catalog import load_target
from tests.program.interpreter import run

OUTPUTS, INPUTS, ROWS, RANK = 22, 29, 64, 3
SHAPE = Factorization.repaired(OUTPUTS, INPUTS, RANK)


def written(path, op, element=TensorProto.FLOAT, opset=17):
    """Return the weight and the bias of a model of one layer, written to a file."""
    rng, kind = np.random.default_rng(0), helper.tensor_dtype_to_np_dtype(element)
    weight, bias = (rng.standard_normal(size).astype(kind) for size in ((OUTPUTS, INPUTS), OUTPUTS))
    sizes, stored, added = [["n", INPUTS], ["n", OUTPUTS]], weight.T, bias
    if op == "Gemm":
        stored, nodes = weight, [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    elif op == "columns":
        stored, added = weight, bias[:, None]
        nodes = [helper.make_node("MatMul", ["w", "x"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
        sizes = [[1, INPUTS, ROWS], [1, OUTPUTS, ROWS]]
    else:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    ports = [helper.make_tensor_value_info(*each) for each in (("x", element, sizes[0]), ("y", element, sizes[1]))]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(stored), "w"), numpy_helper.from_array(added, "b")]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return weight.astype(np.float64), bias.astype(np.float64)


def fitted(weight: np.ndarray) -> tuple[Factors, np.ndarray]:
    rows = np.random.default_rng(1).standard_normal((ROWS, INPUTS)).astype(np.float32)
    exact = rows.astype(np.float64)
    return Fitter(weight, Moments(ROWS, exact.mean(axis=0), exact.T @ exact / ROWS)).fit(SHAPE, INT8), rows


def given(factors: Factors, rows: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return what levels and scales stand for, in float64."""
    b, a, whole = (each.levels.astype(np.float64) * each.scales[:, None] for each in factors.int8_matrices())
    assert b.shape == (RANK, INPUTS) and a.shape == (OUTPUTS, RANK) and whole.shape == (OUTPUTS, INPUTS)
    x = rows.astype(np.float64)
    return x @ whole.T + (x @ b.T) @ a.T + bias + factors.bias_shift


@pytest.mark.parametrize(("op", "opset"), [("Gemm", 17), ("MatMul", 11), ("MatMul", 13), ("columns", 17)])
def test_the_model_and_its_program_give_what_levels_and_scales_stand_for(tmp_path, op, opset):
    weight, bias = written(tmp_path / "net.onnx", op, opset=opset)
    factors, rows = fitted(weight)
    model = load_model(tmp_path / "net.onnx")
    (layer,) = model.layers
    made, wanted = rewrite(model, {layer.name: factors}), given(factors, rows, bias)
    feeds = {"x": np.ascontiguousarray(rows.T)[None] if op == "columns" else rows}
    lowered = program(made, {} if op == "columns" else {"x": rows.shape})
    for found in (Runtime().call(as_written(serialized(made)), feeds)["y"], run(lowered, feeds)["y"]):
        found = found[0].T if op == "columns" else found
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
    proto = onnx.ModelProto.FromString(file_content(made))
    onnx.checker.check_model(proto, full_check=True)
    levels = [each for each in proto.graph.initializer if each.data_type == TensorProto.INT8]
    assert sum(numpy_helper.to_array(each).nbytes for each in levels) == SHAPE.params
    assert [node.op_type for node in proto.graph.node].count("MatMul") == 3
    assert {each.key: each.value for each in proto.metadata_props}[f"lrfdse.{layer.name}"] == "dense+r=3@int8"
    # What is int8 already is not rounded again.
    assert not int8_sites(made)


def test_the_file_is_read_as_three_layers_in_int8(tmp_path):
    weight, _ = written(tmp_path / "net.onnx", "Gemm")
    factors, _ = fitted(weight)
    model = load_model(tmp_path / "net.onnx")
    path = tmp_path / "repaired.onnx"
    path.write_bytes(file_content(rewrite(model, {model.layers[0].name: factors})))
    found = load_model(path).layers
    assert sorted((each.outputs, each.inputs) for each in found) == [(RANK, INPUTS), (OUTPUTS, RANK), (OUTPUTS, INPUTS)]
    assert {each.storage for each in found} == {INT8}


def test_half_precision_is_left_around_the_products(tmp_path):
    weight, bias = written(tmp_path / "net.onnx", "MatMul", TensorProto.FLOAT16)
    factors, rows = fitted(weight)
    model = load_model(tmp_path / "net.onnx")
    made, half = rewrite(model, {model.layers[0].name: factors}), rows.astype(np.float16)
    found = Runtime().call(as_written(serialized(made)), {"x": half})["y"]
    wanted = given(factors, half, bias)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, wanted, atol=4e-3 * np.abs(wanted).max())


def test_factors_of_other_sizes_are_no_repair_of_the_layer(tmp_path):
    weight, _ = written(tmp_path / "net.onnx", "Gemm")
    model, other = load_model(tmp_path / "net.onnx"), Factorization.repaired(OUTPUTS + 2, INPUTS, RANK)
    factors = Fitter(np.pad(weight, ((0, 2), (0, 0)))).fit(other, INT8)
    with pytest.raises(ValueError, match="has 22 outputs and 29 inputs, but got dense"):
        rewrite(model, {model.layers[0].name: factors})


def test_it_is_no_chain_of_products_that_other_formats_take(tmp_path):
    weight, _ = written(tmp_path / "net.onnx", "Gemm")
    with pytest.raises(InputError, match=r"dense\+r=3@int8: layers with a repair are written as ONNX"):
        products(fitted(weight)[0])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["riscv64", "aarch64-a55", "host"])
def test_its_library_is_right_and_takes_the_bytes_it_is_said_to(tmp_path, target):
    weight, _ = written(tmp_path / "net.onnx", "Gemm")
    factors, _ = fitted(weight)
    model, path = load_model(tmp_path / "net.onnx"), tmp_path / "repaired.onnx"
    path.write_bytes(file_content(rewrite(model, {model.layers[0].name: factors})))
    options = LibraryOptions(meter="none", shape={"x": (5, INPUTS)})
    made = library_of(path, load_target(target), options, Store(tmp_path / "cache"), silent)
    # Three products and no operator beside them but the sum.
    assert len([each for each in made.facts.operators if each.macs]) == 3, made.facts.operators
    # What it is held against rounds activations, where onnxruntime has a kernel of its own for such weights.
    assert made.facts.checked and made.facts.max_error < 1e-4
    assert factors.choice.bytes + 4 * OUTPUTS <= made.facts.weight_bytes < 2 * factors.choice.bytes
